"""Records that an index selects: lines of CDXJ, or rows of Common Crawl's columnar index; read by their bytes only."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from gneiss.errors import InputError, first_line
from gneiss.extraction.members import BrokenArchiveError
from gneiss.extraction.record import Record
from gneiss.extraction.records import NO_RECORD, Damage, record_in
from gneiss.output.parquet import open_parquet
from gneiss.store.place import Address, Place, place_of

#: Columns of Parquet files: Common Crawl's, and those that have the names of CDXJ's fields.
_COLUMNS = (
    ("warc_filename", "warc_record_offset", "warc_record_length"),
    ("filename", "offset", "length"),
    ("warc_file", "warc_offset", "warc_length"),  # ours
)
_LONGEST_LINE = 1 << 20
_LONGEST_RECORD = 1 << 30
#: Records are read together where no more bytes lie between them, up to this many bytes, and so many reads at once.
_GAP_BYTES, _READ_BYTES, _READS = 1 << 16, 1 << 22, 8
_ROWS = 1 << 16


@dataclass(frozen=True, order=True)
class Selected:
    """A record that an index names. file: relative to the base; problem: of a line that names none, whose number is
    the offset.
    """

    file: str
    offset: int
    length: int
    problem: str = ""


def lines_of(place: Place) -> Iterator[tuple[int, str]]:
    """The lines of a text file, plain or gzip, by their number; of long ones the first megabyte. Raises InputError."""
    try:
        with place.open() as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = io.BufferedReader(gzip.GzipFile(fileobj=file) if is_gzip else file, _LONGEST_LINE)
            number = 0
            while line := stream.readline(_LONGEST_LINE):
                number += 1
                yield number, line.decode("utf-8", "replace").strip()
                while len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    line = stream.readline(_LONGEST_LINE)
    except (OSError, EOFError) as error:
        raise InputError(f"{place}: cannot read: {first_line(error)}") from error


def path_in(text: str) -> str:
    """A path of a list or an index, if it is one that is relative to a base. Raises ValueError."""
    if not text or "://" in text or not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise ValueError(f"expected a path relative to the input, found {text[:200]!r}")
    return text


def read_index(index: Address) -> list[Selected]:
    """The records that an index names, by file and offset, each once. Raises InputError where it is no index.

    index: CDXJ, plain or gzip, as Common Crawl and pywb write it; or Parquet, as Common Crawl's columnar index. What
    has a line that is none has a problem.
    """
    place = place_of(index, "index")
    try:
        with place.open() as file:
            is_parquet = file.read(4) == b"PAR1"
    except OSError as error:
        raise InputError(f"{place}: cannot read: {first_line(error)}") from error
    found = sorted(set(_of_parquet(place) if is_parquet else _of_lines(place)))
    if not any(not record.problem for record in found):
        why = found[0].problem if found else "it is empty"
        raise InputError(f"{place}: expected lines of CDXJ, or Parquet with {', '.join(_COLUMNS[0])}: {why}")
    return found


def _of_lines(place: Place) -> Iterator[Selected]:
    for number, line in lines_of(place):
        if line and not line.startswith("!"):
            try:
                fields = json.loads(line[line.index("{") :])
                yield _selected(fields["filename"], fields["offset"], fields["length"])
            except KeyError as error:
                yield Selected(place.name, number, 0, f"line {number}: no field {error}")
            except (ValueError, TypeError, RecursionError) as error:
                yield Selected(place.name, number, 0, f"line {number}: {first_line(error)}"[:300])


def _of_parquet(place: Place) -> Iterator[Selected]:
    try:
        with open_parquet(place) as parquet:
            names = set(parquet.schema_arrow.names)
            columns = next((group for group in _COLUMNS if names.issuperset(group)), None)
            if columns is None:
                raise InputError(f"{place}: expected the columns {', '.join(_COLUMNS[0])}, found {sorted(names)[:20]}")
            row = 0
            for batch in parquet.iter_batches(_ROWS, columns=list(columns)):
                for values in zip(*(batch[name].to_pylist() for name in columns), strict=True):
                    row += 1
                    try:
                        yield _selected(*values)
                    except (ValueError, TypeError) as error:
                        yield Selected(place.name, row, 0, f"row {row}: {first_line(error)}"[:300])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{place}: cannot read: {first_line(error)}") from error


def _selected(file: object, offset: object, length: object) -> Selected:
    start, size = int(str(offset)), int(str(length))
    if start < 0 or not 0 < size <= _LONGEST_RECORD:
        raise ValueError(f"expected an offset and a length in bytes, found {start} and {size}")
    return Selected(path_in(str(file)), start, size)


def read_selected(
    base: Place, selected: Sequence[Selected], max_record_bytes: int
) -> Iterator[tuple[str, Record | Damage]]:
    """The records that were selected, each with the name of its file, in order; what leads to none is Damage."""
    with ThreadPoolExecutor(_READS) as pool:
        reads = list(_reads(selected))
        for start in range(0, len(reads), _READS):
            some = reads[start : start + _READS]
            for together, stored in zip(some, pool.map(lambda group: _fetched(base, group), some), strict=True):
                yield from _records(together, stored, max_record_bytes)


def _reads(selected: Iterable[Selected]) -> Iterator[list[Selected]]:
    """Records that are read together."""
    for _, of_file in groupby(selected, lambda record: record.file):
        together: list[Selected] = []
        for record in of_file:
            if together and (
                record.offset - (together[-1].offset + together[-1].length) > _GAP_BYTES
                or record.offset + record.length - together[0].offset > _READ_BYTES
            ):
                yield together
                together = []
            together.append(record)
        yield together


def _fetched(base: Place, together: Sequence[Selected]) -> bytes | str:
    """The bytes from the first record to the end of all; or why they cannot be read."""
    if together[0].problem:
        return ""
    start, end = together[0].offset, max(record.offset + record.length for record in together)
    try:
        with (base / together[0].file).open() as file:
            file.seek(start)
            return bytes(file.read(end - start))
    except OSError as error:
        return f"cannot read: {first_line(error.strerror or error)}"


def _records(
    together: Sequence[Selected], stored: bytes | str, max_record_bytes: int
) -> Iterator[tuple[str, Record | Damage]]:
    for record in together:
        if record.problem or isinstance(stored, str):
            yield record.file, Damage(record.offset, record.length, record.problem or str(stored), NO_RECORD)
            continue
        start = record.offset - together[0].offset
        try:
            yield (
                record.file,
                record_in(stored[start : start + record.length], record.offset, record.length, max_record_bytes),
            )
        except BrokenArchiveError as error:
            yield record.file, Damage(record.offset, record.length, str(error), NO_RECORD)
