"""Parquet: parts are consecutive row groups, cut by their decoded size; a row group that is too large is split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from gneiss.arrays import Int64Array
from gneiss.input.columns import find_path, values_at
from gneiss.input.formats.format import CutFile, Part
from gneiss.input.formats.int96 import int96_unit
from gneiss.input.formats.row_groups import Begun, RowGroups, cut_groups
from gneiss.store.place import Place
from gneiss.store.ranged import ranges_of

if TYPE_CHECKING:
    from gneiss.input.formats.footer import ColumnChunks

_MAGIC, _ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_READ_BYTES = 1 << 20
#: Bytes between columns that are read with them rather than asked for around them.
_HOLE_BYTES = 1 << 20
#: Row groups are asked for before they are read: one at least, and as many as are no larger together, up to so many.
_AHEAD_BYTES, _AHEAD_GROUPS = 1 << 25, 8
#: Where a writer did not say how large values are, some rows of some row groups are decoded; what they add to the
#: encoded size counts from a factor on, so that the cut of most files depends on their footers only.
_SAMPLED_GROUPS, _SAMPLED_ROWS, _FACTOR = 8, 4096, 2
_NUMBER_BYTES = 8
#: A file of one row group is read whole if this is no larger.
_SMALL_BYTES = 1 << 20


@dataclass
class _Small:
    """The file that a worker read last, if it is small: its columns, and all rows."""

    file: Place | None = None
    schema: pa.Schema | None = None
    tables: Sequence[pa.Table] = ()


@dataclass(frozen=True)
class Parquet:
    """Parquet files. Parts count rows. `row_groups`: those that a worker goes on reading; small: what it read last."""

    row_groups: RowGroups | None = field(default=None, compare=False)
    small: _Small | None = field(default=None, compare=False)
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".parq", ".pq")
    counts_rows: ClassVar[bool] = True
    finds_malformed: ClassVar[bool] = False

    def for_worker(self) -> Parquet:
        """See Format."""
        return replace(self, row_groups=RowGroups(), small=_Small())

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        """See Format."""
        from gneiss.input.formats.footer import column_chunks

        with file.open() as opened:
            footer = _footer(opened)
            digest = _digest(opened, footer)
            metadata = pq.read_metadata(opened)
            chunks = column_chunks(footer, metadata.num_row_groups, metadata.num_columns)
            if chunks.is_encrypted:
                raise OSError("its columns are encrypted, some or all; decrypt it first")
            schema = metadata.schema.to_arrow_schema()
            read = {*schema.names, text, *held}
            sizes = np.maximum(chunks.encoded_bytes, _value_bytes(opened, metadata, chunks, read))
        parts = tuple(_cut(metadata, sizes, text, part_max_bytes, held)) if find_path(schema, text) else ()
        return CutFile(schema, parts, digest)

    def together(self, text: str, schemas: Sequence[pa.Schema]) -> tuple[Parquet, Sequence[pa.Schema]]:
        """See Format: each file has its own columns."""
        return self, schemas

    def digest(self, file: Place) -> str:
        """See Format: of the footer, which has the checksum of no page but the place of each."""
        with file.open() as opened:
            return _digest(opened, _footer(opened))

    def schema(self, file: Place, part: Part) -> pa.Schema:
        """See Format."""
        if self.small and self.small.file == file:
            assert self.small.schema is not None
            return self.small.schema
        with file.open() as opened:
            unit = int96_unit(opened, pq.read_metadata(opened))
            return pq.ParquetFile(opened, coerce_int96_timestamp_unit=unit).schema_arrow

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """See Format."""
        if self.small and self.small.file == file:
            yield from self.small.tables
            return
        with ExitStack() as opened:
            whole = self.small if not part.name else None
            source, parquet = _open(opened, file, part, columns, whole is not None)
            if whole and _is_small(parquet.metadata):
                table = parquet.read(use_threads=False)
                whole.file, whole.schema, whole.tables = file, parquet.schema_arrow, [table] if table.num_rows else []
                yield from whole.tables
                return
            row_groups = self.row_groups
            if row_groups is None:
                row_groups = RowGroups()
                opened.callback(row_groups.close)
            at, read_ahead = 0, _reading_ahead(source, parquet.metadata, part, columns)
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                start, end = max(at, part.start), min(at + size, part.end)
                if end - start == size > 0 and part.table_rows is None:
                    read_ahead(group)
                    table = parquet.read_row_group(group, columns=columns, use_threads=False)
                    read_ahead(group + 1)
                    yield table
                elif start < end:
                    key = (file, group, None if columns is None else tuple(columns), part.table_rows)
                    begin = partial(_begin, file, group, part, columns)
                    yield from row_groups.read(key, begin, start - at, end - at)
                at += size


def _reading_ahead(
    source: Any, metadata: pq.FileMetaData, part: Part, columns: Sequence[str] | None
) -> Callable[[int], None]:
    """What is called before a row group is read: it and those after it that are read whole are fetched meanwhile.

    What is fetched with the columns, if there is room, is kept for whoever reads others of the part later.
    """
    if part.table_rows is not None or (ranges := ranges_of(source)) is None:
        return lambda _: None
    groups = {group: _chunks(metadata.row_group(group)) for group in _whole_groups(metadata, part)}
    kept = _fitting(groups.values(), ranges.kept.most_bytes)
    wanted = None if columns is None else tuple(f"{name}." for name in columns)

    def read_ahead(first: int) -> None:
        ahead, asked, size = list[tuple[int, int]](), list[tuple[int, int]](), 0
        for group in range(first, first + _AHEAD_GROUPS):
            missing = [chunk for chunk in groups.get(group, ()) if ranges.kept.find(chunk.start, chunk.end) is None]
            if wanted is not None and not any(f"{chunk.path}.".startswith(wanted) for chunk in missing):
                continue
            fetched = [
                chunk
                for chunk in missing
                if wanted is None or chunk.path in kept or f"{chunk.path}.".startswith(wanted)
            ]
            size += sum(chunk.end - chunk.start for chunk in fetched)
            if ahead and size > _AHEAD_BYTES:
                break
            ahead += _together(fetched)
            asked += [(chunk.start, chunk.end) for chunk in fetched if chunk.path in kept]
        ranges.ahead(ahead, asked)

    return read_ahead


@dataclass(frozen=True)
class _Chunk:
    """The values of a column in a row group, from `start` to `end` in the file."""

    start: int
    end: int
    path: str


def _whole_groups(metadata: pq.FileMetaData, part: Part) -> Iterator[int]:
    """The row groups whose rows all belong to a part."""
    at = 0
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if part.start <= at and at + size <= part.end and size:
            yield group
        at += size


def _chunks(group: pq.RowGroupMetaData) -> list[_Chunk]:
    """The column chunks of a row group, as they lie in the file."""
    found = []
    for column in map(group.column, range(group.num_columns)):
        start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)), default=0)
        found.append(_Chunk(start, start + column.total_compressed_size, column.path_in_schema))
    return sorted(found, key=lambda chunk: chunk.start)


def _fitting(groups: Iterable[Sequence[_Chunk]], most_bytes: int) -> set[str]:
    """The columns, the smallest ones first, whose chunks are no larger than this together."""
    sizes = Counter[str]()
    for chunk in chain.from_iterable(groups):
        sizes[chunk.path] += chunk.end - chunk.start
    rising = sorted(sizes, key=lambda path: (sizes[path], path))
    together = accumulate(sizes[path] for path in rising)
    return {path for path, size in zip(rising, together, strict=True) if size <= most_bytes}


def _together(chunks: Sequence[_Chunk]) -> list[tuple[int, int]]:
    """Where chunks lie, those that are near each other together."""
    found: list[tuple[int, int]] = []
    for chunk in chunks:
        if found and chunk.start - found[-1][1] <= _HOLE_BYTES:
            found[-1] = (found[-1][0], max(found[-1][1], chunk.end))
        else:
            found.append((chunk.start, chunk.end))
    return found


def _is_small(metadata: pq.FileMetaData) -> bool:
    """Whether a file is read whole at once, and kept for whoever reads other columns of it next."""
    groups = metadata.num_row_groups
    return groups == 0 or bool(groups == 1 and metadata.row_group(0).total_byte_size <= _SMALL_BYTES)


def _open(
    opened: ExitStack, file: Place, part: Part, columns: Sequence[str] | None, is_whole_if_small: bool = False
) -> tuple[Any, pq.ParquetFile]:
    source = opened.enter_context(file.open())
    metadata = pq.read_metadata(source)
    if is_whole_if_small and _is_small(metadata):
        columns = None
    streamed: dict[str, Any] = {"pre_buffer": False, "buffer_size": _READ_BYTES}
    parquet = pq.ParquetFile(
        source,
        metadata=metadata,
        coerce_int96_timestamp_unit=int96_unit(source, metadata, columns),
        **({} if part.table_rows is None else streamed),
    )
    return source, parquet


def _begin(file: Place, group: int, part: Part, columns: Sequence[str] | None) -> Begun:
    """A row group that may be too large to hold, from its first row, in tables."""
    opened = ExitStack()
    _, parquet = _open(opened, file, part, columns)
    batches = parquet.iter_batches(part.table_rows or 1, row_groups=[group], columns=columns, use_threads=False)
    return Begun(batches, opened)


def _digest(file: Any, footer: bytes) -> str:
    digest = xxhash.xxh3_128(file.size().to_bytes(8, "little"))
    digest.update(footer)
    return digest.hexdigest()


def _footer(file: Any) -> bytes:
    size = file.size()
    if size < 12:
        raise OSError(f"expected a Parquet file, found {size} bytes")
    file.seek(size - 8)
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] == _ENCRYPTED_MAGIC:
        raise OSError("its footer is encrypted; decrypt it first")
    if tail[4:] != _MAGIC or length > size - 12:
        raise OSError("expected a Parquet file, found no Parquet footer at its end (another format, or cut short)")
    file.seek(size - 8 - length)
    return bytes(file.read(length))


def _value_bytes(file: Any, metadata: pq.FileMetaData, chunks: ColumnChunks, read: Collection[str]) -> Int64Array:
    """Bytes of the values of each column chunk, (row groups, columns), as far as they are known or guessed; else -1.

    A dictionary makes a chunk as small as its distinct values. read: the columns and fields whose sizes matter.
    """
    from gneiss.input.formats.footer import BYTE_ARRAY

    known = _known(chunks)
    is_number = chunks.is_packed & (chunks.physical_type != BYTE_ARRAY)
    known = np.where(is_number, chunks.values * _NUMBER_BYTES, known)
    unknown = (chunks.physical_type == BYTE_ARRAY) & chunks.is_packed & (known < 0) & (chunks.values > 0)
    paths = [metadata.schema.column(column).path for column in range(metadata.num_columns)]
    unknown[:, [path not in read for path in paths]] = False  # in a list, or in a struct that nothing reads of
    groups = np.flatnonzero(unknown.any(axis=1))
    if not len(groups):
        return known
    wanted = [path for path, is_unknown in zip(paths, unknown.any(axis=0), strict=True) if is_unknown]
    factors = np.zeros_like(known, np.float64)
    sampled = groups[np.unique(np.linspace(0, len(groups) - 1, _SAMPLED_GROUPS).astype(np.int64))]
    parquet = pq.ParquetFile(file, read_dictionary=wanted, pre_buffer=False, buffer_size=_READ_BYTES)
    for group in sampled.tolist():
        try:
            batch = next(parquet.iter_batches(_SAMPLED_ROWS, [group], wanted, use_threads=False))
            table = pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException, StopIteration):
            continue  # damaged, which is met again when it is read
        for name in wanted:
            column = paths.index(name)
            encoded = max(int(chunks.encoded_bytes[group, column]), 1)
            factors[group, column] = _mean_bytes(values_at(table, name)) * chunks.values[group, column] / encoded
    nearest = sampled[np.abs(groups[:, None] - sampled[None, :]).argmin(axis=1)]
    factors[groups] = factors[nearest]
    return np.where(unknown & (factors > _FACTOR), (chunks.encoded_bytes * factors).astype(np.int64), known)


def _known(chunks: ColumnChunks) -> Int64Array:
    """What the writer said, in footers since 2023."""
    return chunks.value_bytes.copy()


def _mean_bytes(column: pa.ChunkedArray) -> float:
    """Mean size of the values of a column of one chunk at most, dictionary-encoded or not."""
    values = column.combine_chunks()
    if not pa.types.is_dictionary(values.type):
        return float(values.nbytes) / max(len(values), 1)
    sizes = np.append(pc.binary_length(values.dictionary.cast(pa.large_binary())).to_numpy(zero_copy_only=False), 0)
    return float(np.mean(sizes[values.indices.fill_null(len(values.dictionary)).to_numpy()]))


def _cut(
    metadata: pq.FileMetaData, chunks: Int64Array, text: str, part_max_bytes: int, held: Sequence[str]
) -> Iterator[Part]:
    """Cut by the sizes of column chunks (row groups, columns)."""
    paths = [metadata.schema.column(column).path for column in range(metadata.num_columns)]
    column = paths.index(text) if text in paths else 0
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    sizes, tables = chunks[:, column].tolist(), chunks.sum(axis=1).tolist()
    beside = chunks[:, [path in held and path != text for path in paths]].sum(axis=1).tolist()
    return cut_groups("g", rows, sizes, beside, tables, part_max_bytes)
