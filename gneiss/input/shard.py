"""Shards: consecutive row groups of one Parquet file, cut from footers only."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from gneiss.errors import InputError

_MAGIC = b"PAR1"
_PART_ROWS = 1024


@dataclass(frozen=True)
class Shard:
    """Rows of one Parquet file: row groups `first_group` to `last_group` (exclusive), or a part of one row group.

    id: the path relative to the input, without suffix, plus the first row group (and row) where a file is split;
    rows: `first_row` to `last_row` (exclusive), counted from the first row of `first_group`;
    fingerprint: of path, size and footer; modified_ns: the file's modification time.
    """

    id: str
    path: str
    first_group: int
    last_group: int
    first_row: int
    last_row: int
    text_bytes: int
    fingerprint: str
    modified_ns: int

    @property
    def rows(self) -> int:
        """Rows of the shard."""
        return self.last_row - self.first_row

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield (first row within the shard, table) for each row group, in order. Raises InputError when unreadable."""
        try:
            with pq.ParquetFile(self.path) as file:
                at = 0
                for group in range(self.first_group, self.last_group):
                    size = file.metadata.row_group(group).num_rows
                    start, stop = max(at, self.first_row), min(at + size, self.last_row)
                    if stop - start == size:
                        yield start - self.first_row, file.read_row_group(group, columns=columns, use_threads=False)
                    elif start < stop:
                        yield start - self.first_row, _part(file, group, columns, start - at, stop - at)
                    at += size
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.path}: cannot read: {_first_line(error)}") from error


@dataclass(frozen=True)
class UnreadableFile:
    """An input file whose footer cannot be read: a quarantined shard with an unknown number of rows."""

    id: str
    path: str
    reason: str


@dataclass(frozen=True)
class Input:
    """An input: its shards in order, unreadable files, and the schema that all files share in part."""

    shards: tuple[Shard, ...]
    unreadable: tuple[UnreadableFile, ...]
    size_bytes: int

    @property
    def text_bytes(self) -> int:
        """Uncompressed bytes of text, according to the footers."""
        return sum(shard.text_bytes for shard in self.shards)


def cut_shards(
    source: str | Path, *, text: str, required: Sequence[str] = (), shard_max_bytes: int = 256_000_000
) -> Input:
    """Find the Parquet files of an input and cut them into shards, reading footers only.

    source: a file, a directory (searched for *.parquet; names starting with `_` or `.` are ignored), a glob, or a
    file:// address; text: the text column, a string column; required: further columns that must exist.
    Raises InputError when nothing is found, and when a column is missing or mistyped in any file.
    """
    root, paths = find_files(source)
    shards: list[Shard] = []
    unreadable: list[UnreadableFile] = []
    size_bytes = 0
    for path in paths:
        id_ = path.relative_to(root).with_suffix("").as_posix()
        try:
            size_bytes += path.stat().st_size
            metadata, footer_hash = _footer(path)
        except (OSError, pa.ArrowException) as error:
            unreadable.append(UnreadableFile(id_, str(path), _first_line(error)))
            continue
        _check_columns(path, metadata.schema.to_arrow_schema(), text, required)
        shards.extend(_cut(path, id_, metadata, footer_hash, text, shard_max_bytes))
    ids = [shard.id for shard in shards] + [file.id for file in unreadable]
    if len(set(ids)) < len(ids):
        twice = sorted(id_ for id_ in ids if ids.count(id_) > 1)
        raise InputError(f"{source}: two files would write to the same shard {twice[0]!r}; rename one of them")
    return Input(tuple(shards), tuple(unreadable), size_bytes)


def find_files(
    source: str | Path,
    is_wanted: Callable[[Path], bool] = lambda path: path.suffix == ".parquet",
    wanted: str = "files named *.parquet",
) -> tuple[Path, list[Path]]:
    """The root of an input and its files, bytewise by path: one file, the wanted files of a folder, or of a glob.

    wanted: what a message calls them. Names in a folder that start with `_` or `.` are ignored. Raises InputError when
    there are none.
    """
    path = Path(local_path(source, "input")).absolute()  # workers may have another working directory
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        inside = (p for p in path.rglob("*") if is_wanted(p))
        found = [p for p in inside if not any(part[0] in "._" for part in p.relative_to(path).parts)]
        root, expected = path, wanted
    elif glob.has_magic(str(path)):
        found = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]
        fixed = list(path.parts)
        while any(glob.has_magic(part) for part in fixed):
            fixed.pop()
        root, expected = Path(*fixed), "files that match"
    else:
        raise InputError(f"{source}: no such file or directory")
    if not found:
        raise InputError(f"{source}: expected {expected}, found none")
    for path in found:
        if any("\ud800" <= character <= "\udfff" for character in str(path)):  # Python could not decode the name
            raise InputError(f"{os.fsencode(path)!r}: the name of this file is not UTF-8; rename it")
    return root, sorted(found, key=lambda p: p.relative_to(root).as_posix().encode())


def local_path(source: str | Path, what: str) -> str:
    """A local path from a path or a file:// address; other schemes are refused by name."""
    address = urlsplit(str(source))
    if address.scheme == "file" and address.netloc not in ("", "localhost"):
        raise InputError(f"{what} {source}: expected file:///absolute/path, found the machine {address.netloc!r} in it")
    if address.scheme == "file":
        return unquote(address.path)
    if "://" in str(source):
        raise InputError(
            f"{what} {source}: {address.scheme}:// is not supported yet (it is coming); use a local path or file://"
        )
    return str(source)


def _part(file: pq.ParquetFile, group: int, columns: Sequence[str] | None, start: int, stop: int) -> pa.Table:
    """Rows start to stop of a row group that may be too large for memory."""
    batches: list[pa.RecordBatch] = []
    at = 0
    for batch in file.iter_batches(_PART_ROWS, row_groups=[group], columns=columns, use_threads=False):
        if at < stop and at + batch.num_rows > start:
            batches.append(batch.slice(max(start - at, 0), min(stop - at, batch.num_rows) - max(start - at, 0)))
        at += batch.num_rows
        if at >= stop:
            break
    return pa.Table.from_batches(batches)


def _footer(path: Path) -> tuple[pq.FileMetaData, str]:
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        if size < 12:
            raise OSError(f"expected a Parquet file, found {size} bytes")
        file.seek(-8, 2)
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MAGIC or length > size - 12:
            raise OSError("expected a Parquet file, found no Parquet footer at its end (another format, or cut short)")
        file.seek(size - 8 - length)
        footer = file.read(length)
    return pq.read_metadata(path), xxhash.xxh3_128_hexdigest(size.to_bytes(8, "little") + footer)


def _check_columns(path: Path, schema: pa.Schema, text: str, required: Sequence[str]) -> None:
    for column in dict.fromkeys((text, *required)):
        if column not in schema.names:
            raise InputError(
                f"{path}: expected a column {column!r}, found {', '.join(schema.names)};"
                " name the right one under `input:` in the recipe"
            )
        if schema.names.count(column) > 1:
            raise InputError(f"{path}: the column {column!r} occurs {schema.names.count(column)} times; keep one")
    for column in required:
        if pa.types.is_nested(schema.field(column).type):
            raise InputError(
                f"{path}: column {column!r}: expected strings or numbers, found {schema.field(column).type}"
            )
    if not (pa.types.is_string(schema.field(text).type) or pa.types.is_large_string(schema.field(text).type)):
        raise InputError(f"{path}: column {text!r}: expected string, found {schema.field(text).type}")


def _cut(path: Path, id_: str, metadata: Any, footer_hash: str, text: str, shard_max_bytes: int) -> Iterator[Shard]:
    fingerprint = xxhash.xxh3_128_hexdigest(f"{id_}\0{footer_hash}".encode())
    modified_ns = path.stat().st_mtime_ns
    column = (
        next((i for i in range(metadata.num_columns) if metadata.row_group(0).column(i).path_in_schema == text), 0)
        if metadata.num_row_groups
        else 0
    )
    sizes = [metadata.row_group(g).column(column).total_uncompressed_size for g in range(metadata.num_row_groups)]
    rows = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]

    def shard(first: int, last: int, first_row: int, last_row: int, text_bytes: int) -> Shard:
        whole = (first, last) == (0, len(sizes)) and first_row == 0 and last_row == sum(rows)
        name = id_ if whole else f"{id_}.g{first:05d}"
        if last == first + 1 and (first_row, last_row) != (0, rows[first]):
            name += f".r{first_row:09d}"
        return Shard(name, str(path), first, last, first_row, last_row, text_bytes, fingerprint, modified_ns)

    if not sizes:
        yield shard(0, 0, 0, 0, 0)
    first = 0
    while first < len(sizes):
        last, total = first + 1, sizes[first]
        if total > shard_max_bytes and rows[first] > 1:
            parts = min(rows[first], -(-total // shard_max_bytes))
            for part in range(parts):
                start, stop = part * rows[first] // parts, (part + 1) * rows[first] // parts
                yield shard(first, last, start, stop, total * (stop - start) // rows[first])
        else:
            while last < len(sizes) and total + sizes[last] <= shard_max_bytes:
                total, last = total + sizes[last], last + 1
            yield shard(first, last, 0, sum(rows[first:last]), total)
        first = last


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
