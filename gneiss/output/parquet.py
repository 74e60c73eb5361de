"""The one writer and reader of an output's Parquet files: equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from gneiss.errors import first_line
from gneiss.store.place import Place, Sink

ROW_GROUP_BYTES = 64_000_000
#: A file is written in pieces of this size, and at once if its rows take no more than so much.
_WRITTEN_BYTES, _SMALL_BYTES = 1 << 16, 1 << 20
_OPTIONS = {"version": "2.6", "data_page_version": "1.0"}


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A finished file: path relative to the output, size, xxh3-128 of its bytes, rows; etag: what its store knows."""

    path: str
    size_bytes: int
    checksum: str
    rows: int
    etag: str | None = None


def write_parquet(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    root: Place,
    path: str,
    metadata: dict[str, str] | None = None,
    *,
    compression: str = "zstd",
    level: int | None = 3,
    dictionaries: bool = True,
) -> WrittenFile:
    """Write tables of one schema to `root / path`, in row groups of about 64 MB, whatever the chunks they come in.

    Row groups end only where a table ends, so equal sequences of tables give equal bytes. Raises OutputError.
    """
    options = {**_OPTIONS, "compression": compression, "compression_level": level, "use_dictionary": dictionaries}
    schema = schema.with_metadata({**(schema.metadata or {}), **(metadata or {})}) if metadata else schema
    rows, groups = 0, _groups(tables)
    first = next(groups, ([], 0))
    is_small = first[1] <= _SMALL_BYTES  # and the only one, as others are larger
    with (
        (root / path).create() as file,
        (_at_the_end if is_small else _buffered)(file) as sink,
        pq.ParquetWriter(sink, schema, **options) as writer,
    ):
        for group, _ in chain([first], groups):
            if size := sum(table.num_rows for table in group):
                _write_group(writer, group)
                rows += size
    return WrittenFile(path, file.size_bytes, file.checksum, rows, file.etag)


def writable(type_: pa.DataType, is_in_list: bool = False, is_in_struct: bool = False) -> pa.DataType:
    """The type that a column is written as: itself, but for views that pyarrow cannot write.

    Those are views in structs in lists, and dictionaries of views.
    """
    if pa.types.is_dictionary(type_):
        return pa.dictionary(type_.index_type, writable(type_.value_type, True, True), type_.ordered)
    if is_in_struct and pa.types.is_string_view(type_):
        return pa.string()
    if is_in_struct and pa.types.is_binary_view(type_):
        return pa.binary()
    if pa.types.is_struct(type_):
        return pa.struct([member.with_type(writable(member.type, is_in_list, is_in_list)) for member in type_])
    for is_list, list_of in ((pa.types.is_list, pa.list_), (pa.types.is_large_list, pa.large_list)):
        if is_list(type_):
            return list_of(type_.value_field.with_type(writable(type_.value_type, True, is_in_struct)))
    return type_


@lru_cache(maxsize=64)  # the files of an input have the same columns, mostly
def refusal(schema: pa.Schema) -> str | None:
    """Why columns cannot be written to Parquet, if they cannot: pyarrow says so of some types only when it writes."""
    for column in schema:
        nulls = pa.table({column.name: pa.nulls(1, writable(column.type))})
        try:
            pq.write_table(nulls, pa.BufferOutputStream())
        except pa.ArrowNotImplementedError as error:
            return f"column {column.name!r}: {column.type} cannot be written to Parquet: {first_line(error)}; drop it"
        except pa.ArrowInvalid:
            continue  # a field that may not be null
    return None


def write_bytes(content: bytes, root: Place, path: str) -> WrittenFile:
    """Write a small file to `root / path`, whole or not at all; one that holds this already is left alone.

    Raises OutputError.
    """
    place = root / path
    try:
        is_there = place.read() == content
    except OSError:
        is_there = False
    if not is_there:
        return write_new(content, root, path)
    return WrittenFile(path, len(content), xxhash.xxh3_128_hexdigest(content), 0, place.etag())


def write_new(content: bytes, root: Place, path: str) -> WrittenFile:
    """Write a small file to `root / path`, whole or not at all. Raises OutputError."""
    with (root / path).create() as file:
        file.write(content)
    return WrittenFile(path, file.size_bytes, file.checksum, 0, file.etag)


@contextmanager
def open_parquet(place: Place) -> Iterator[pq.ParquetFile]:
    """A Parquet file, to read some of it. Raises OSError and ArrowException."""
    with place.open() as file, pq.ParquetFile(file) as parquet:
        yield parquet


def read_footer(place: Place) -> pq.FileMetaData:
    """The footer of a Parquet file. Raises OSError and ArrowException."""
    with place.open() as file:
        return pq.read_metadata(file)


def read_table(place: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a Parquet file, all columns or some. Raises OSError and ArrowException, also where one is missing."""
    with open_parquet(place) as parquet:  # pq.read_table would import pyarrow.dataset
        if missing := set(columns or ()).difference(parquet.schema_arrow.names):
            raise pa.ArrowKeyError(f"no column {min(missing)!r}")
        return parquet.read() if columns is None else parquet.read(list(columns)).select(list(columns))


def _groups(tables: Iterable[pa.Table]) -> Iterator[tuple[list[pa.Table], int]]:
    """The tables of each row group, and their bytes."""
    waiting, waiting_bytes = list[pa.Table](), 0
    for table in tables:
        waiting.append(table)
        waiting_bytes += table.nbytes
        if waiting_bytes >= ROW_GROUP_BYTES:
            yield waiting, waiting_bytes
            waiting, waiting_bytes = [], 0
    if waiting:
        yield waiting, waiting_bytes


@contextmanager
def _buffered(file: Sink) -> Iterator[pa.NativeFile]:
    """What writes to a file, not in the few bytes that a Parquet writer has at a time."""
    with pa.BufferedOutputStream(pa.PythonFile(file, "w"), _WRITTEN_BYTES) as buffered:
        yield buffered


@contextmanager
def _at_the_end(file: Sink) -> Iterator[pa.NativeFile]:
    """What writes to a file all at once, when all is there."""
    held = pa.BufferOutputStream()
    yield held
    file.write(held.getvalue())


def _write_group(writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
    table = pa.concat_tables(tables).combine_chunks()
    writer.write_table(table, row_group_size=max(1, table.num_rows))
