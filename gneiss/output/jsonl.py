"""The one writer and reader of an output's JSON lines: equal rows give equal bytes.

A document is an object with the columns as keys, in their order, nulls included. Numbers are the shortest that read
back as the same; NaN and infinities, which JSON lacks, are null. Bytes are base64; times ISO 8601, in UTC where they
have a time zone; decimals strings of digits. A map is a list of `{"key": …, "value": …}`. Strings are UTF-8, not
escaped but where they must be; bytes in them that are not UTF-8 are U+FFFD, as in annotations.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.errors import InputError
from gneiss.input.columns import valid_strings
from gneiss.output.parquet import WrittenFile
from gneiss.store.place import Place, Sink

_ROWS_AT_ONCE = 256
_WRITE_BYTES = 1 << 20
_READ_BYTES = 1 << 20
_GZIP = 31  # window bits: 15, and 16 for gzip's header, which has no time in it
_TEMPORAL = (pa.types.is_date, pa.types.is_time, pa.types.is_decimal)
_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BINARIES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_NUMBERS = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)


def write_jsonl(
    tables: Iterable[pa.Table], schema: pa.Schema, root: Place, path: str, compression: str, level: int
) -> WrittenFile:
    """Write tables of one schema to `root / path`, a line a row; zstd and gzip as one frame, which every reader takes.

    Raises OutputError; InputError for a column that JSON cannot hold.
    """
    json_schema(schema)
    with open_lines(root, path, compression, level) as file:
        for table in tables:
            for rows, lines in _lines(table):
                file.add(lines, rows)
    return file.written


class LinesFile:
    """A file of lines that is being written; `written`: what it is, once it is whole."""

    written: WrittenFile

    def __init__(self, file: Sink, compress: _Compress) -> None:
        self._file, self._compress = file, compress
        self.rows = 0

    def add(self, lines: bytes, rows: int = 1) -> None:
        """Write the lines of some rows."""
        self._file.write(self._compress(lines))
        self.rows += rows


@contextmanager
def open_lines(root: Place, path: str, compression: str, level: int) -> Iterator[LinesFile]:
    """Write lines to `root / path`, which is there when the block ends well. Raises OutputError."""
    compress, finish = _compressor(compression, level)
    with (root / path).create() as file:
        lines = LinesFile(file, compress)
        yield lines
        file.write(finish())
    lines.written = WrittenFile(path, file.size_bytes, file.checksum, lines.rows, file.etag)


def read_jsonl(
    place: Place, schema: pa.Schema, compression: str, columns: Sequence[str] | None = None, start: int = 0
) -> Iterator[pa.Table]:
    """The documents of a file of this writer from row `start` on, a few hundred rows at a time.

    schema: as `json_schema` gives it. Raises OSError, ArrowException, and ValueError or KeyError for other content.
    """
    schema = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    waiting: list[bytes] = []
    with place.open() as file:
        stream = file if compression == "none" else pa.CompressedInputStream(file, compression)
        for line in _split(stream):
            if start:
                start -= 1
                continue
            waiting.append(line)
            if len(waiting) == _ROWS_AT_ONCE:
                yield _table(waiting, schema)
                waiting = []
    if waiting:
        yield _table(waiting, schema)


def json_schema(schema: pa.Schema) -> pa.Schema:
    """The columns as JSON holds them: numbers, strings, lists and structs. Raises InputError for one that it cannot."""
    if reason := refusal(schema):
        raise InputError(f"{reason}; write Parquet, or leave the column out of the input")
    return pa.schema([(column.name, _json_type(column.type)) for column in schema])


def refusal(schema: pa.Schema) -> str | None:
    """Why columns cannot be written as JSON lines, if they cannot."""
    for name in schema.names:
        if schema.names.count(name) > 1:
            return f"column {name!r}: expected one of that name for JSON lines, found {schema.names.count(name)}"
    for column in schema:
        if _json_type(column.type) is None:
            return f"column {column.name!r}: {column.type} has no form in JSON"
    return None


def _json_type(type_: pa.DataType) -> pa.DataType | None:
    """The type that values have in JSON; None where they have none: durations, intervals, unions."""
    if any(is_kind(type_) for is_kind in _NUMBERS):
        return pa.float32() if pa.types.is_float16(type_) else type_
    if pa.types.is_timestamp(type_) or any(is_kind(type_) for is_kind in (*_STRINGS, *_BINARIES, *_TEMPORAL)):
        return pa.string()
    if pa.types.is_dictionary(type_):
        return _json_type(type_.value_type)
    if isinstance(type_, pa.BaseExtensionType):
        return _json_type(type_.storage_type)
    if pa.types.is_map(type_):
        return _json_type(_pairs(type_))
    if any(is_kind(type_) for is_kind in _LISTS):
        inner = _json_type(type_.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(type_):
        names = [field.name for field in type_]
        types = [_json_type(field.type) for field in type_]
        if len(set(names)) < len(names) or None in types:
            return None
        return pa.struct(list(zip(names, types, strict=True)))
    return None


def _pairs(type_: pa.DataType) -> pa.DataType:
    """What a map is written as."""
    return pa.list_(pa.struct([("key", type_.key_type), ("value", type_.item_type)]))


def _lines(table: pa.Table) -> Iterator[tuple[int, bytes]]:
    """The rows as lines, about a megabyte at a time."""
    names, waiting, rows = table.column_names, bytearray(), 0
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        values = [_plain(column).to_pylist() for column in batch.columns]
        for row in zip(*values, strict=True):
            waiting += orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
            rows += 1
            if len(waiting) >= _WRITE_BYTES:
                yield rows, bytes(waiting)
                waiting, rows = bytearray(), 0
    yield rows, bytes(waiting)


def _plain(array: pa.Array) -> pa.Array:
    """The same values, of types whose Python values are JSON's."""
    type_ = array.type
    if any(is_kind(type_) for is_kind in _STRINGS):
        return valid_strings(array)
    if any(is_kind(type_) for is_kind in _NUMBERS):
        return array
    if pa.types.is_dictionary(type_):
        return _plain(array.dictionary_decode())
    if isinstance(type_, pa.BaseExtensionType):
        return _plain(array.storage)
    if any(is_kind(type_) for is_kind in _BINARIES):
        return pa.array(
            [None if value is None else base64.b64encode(value).decode() for value in array.to_pylist()],
            pa.large_string(),
        )
    if pa.types.is_timestamp(type_):
        in_utc = array.cast(pa.timestamp(type_.unit, "UTC")) if type_.tz else array
        return pc.replace_substring(in_utc.cast(pa.string()), " ", "T")
    if any(is_kind(type_) for is_kind in _TEMPORAL):
        return array.cast(pa.string())
    if pa.types.is_map(type_):
        return _plain(array.cast(_pairs(type_)))
    if pa.types.is_struct(type_):
        inner = [_plain(array.field(index)) for index in range(type_.num_fields)]
        if not inner:
            return array
        return pa.StructArray.from_arrays(inner, [field.name for field in type_], mask=array.is_null())
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    lengths = np.where(array.is_null().to_numpy(zero_copy_only=False), 0, lengths)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, _plain(array.flatten()), mask=array.is_null())


class _Compress(Protocol):
    def __call__(self, data: bytes, /) -> bytes: ...


def _compressor(compression: str, level: int) -> tuple[_Compress, Callable[[], bytes]]:
    """What compresses the next bytes of a file, and what ends it."""
    if compression == "none":
        return (lambda data: data), (lambda: b"")
    if compression == "gzip":
        gzip = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        return gzip.compress, gzip.flush
    import zstandard

    zstd = zstandard.ZstdCompressor(level=level, write_checksum=True, threads=0).compressobj()
    return zstd.compress, zstd.flush


def _split(stream: pa.NativeFile) -> Iterator[bytes]:
    """The lines of a stream. Raises ValueError when the last one does not end."""
    begun: list[bytes] = []  # a long line is joined once
    while block := stream.read(_READ_BYTES):
        first, *lines = block.split(b"\n")
        begun.append(first)
        if lines:
            yield b"".join(begun)
            yield from lines[:-1]
            begun = [lines[-1]]
    if any(begun):
        raise ValueError("the last line does not end")


def _table(lines: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    rows = [orjson.loads(line) for line in lines]
    return pa.table([pa.array([row[field.name] for row in rows], field.type) for field in schema], schema=schema)
