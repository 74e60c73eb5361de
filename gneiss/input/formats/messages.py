"""Arrow IPC messages: where the record batches of a file or stream lie, and how large their columns are.

pyarrow says so only of batches that it has read. A message's metadata is a FlatBuffer (Message.fbs of apache/arrow has
its tables); everything is checked against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_MAGIC, _FEATHER_V1 = b"ARROW1", b"FEA1"
_CONTINUATION = -1
SCHEMA, DICTIONARY, BATCH = 1, 2, 3
#: More metadata than this is taken for damage.
_MOST_METADATA = 1 << 28
#: Fields of a message, of a dictionary batch and of a record batch.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DICTIONARY_DATA = 1
#: Fields of a footer, and what they hold: offset, size of the metadata, size of the body.
_DICTIONARIES, _BATCHES, _BLOCK = 2, 3, "<qi4xq"
_ROWS, _BUFFERS, _COMPRESSION, _VIEW_BUFFERS = 0, 2, 3, 4


@dataclass(frozen=True)
class Message:
    """A message of a file, from byte `start` to `end`, its body from `body` on.

    kind: SCHEMA, DICTIONARY or BATCH; rows: of a batch; buffers: (offset in the body, bytes), as they lie there;
    view_buffers: how many further ones each column of views has, in order.
    """

    kind: int
    start: int
    body: int
    end: int
    rows: int = 0
    buffers: tuple[tuple[int, int], ...] = ()
    view_buffers: tuple[int, ...] = ()
    is_compressed: bool = False


def messages(file: Any) -> Iterator[Message]:
    """The messages of an IPC file or stream, in order, of a file without its schema.

    Raises OSError when it is none, or damaged.
    """
    if footer := _footer(file):
        return _of_footer(file, *footer)
    return _of_stream(file, int(file.size()))


def is_file(file: Any) -> bool:
    """Whether these are bytes of the IPC file format, or else of a stream. Raises OSError for a file cut short."""
    return _footer(file) is not None


def _of_stream(file: Any, end: int) -> Iterator[Message]:
    at, is_first = 0, True
    while at + 4 <= end:
        word = _int32(file, at)
        if word == _CONTINUATION and at + 8 > end:
            break
        start, metadata = (at + 8, _int32(file, at + 4)) if word == _CONTINUATION else (at + 4, word)  # before 2019
        if metadata == 0:
            at = end
            break
        if not 0 < metadata <= min(end - start, _MOST_METADATA):
            raise OSError("expected an Arrow IPC file or stream" if is_first else "a record batch is cut short")
        found = _message(_read(file, start, metadata), at, start + metadata)
        if found.end > end or found.end < found.body:
            raise OSError("a record batch is cut short")
        if is_first is not (found.kind == SCHEMA):
            raise OSError("expected an Arrow IPC file or stream, which begins with one schema")
        yield found
        at, is_first = found.end, False
    if is_first or at < end:
        raise OSError("expected an Arrow IPC file or stream, found none, or one that is cut short")


def _of_footer(file: Any, start: int, end: int) -> Iterator[Message]:
    try:
        table = _Table.root(_read(file, start, end - start))
        blocks = [*table.structs(_DICTIONARIES, _BLOCK), *table.structs(_BATCHES, _BLOCK)]
    except struct.error as error:
        raise OSError(f"the footer is damaged: {error}") from error
    for at, size, body in blocks:
        if not (at >= 0 and 8 < size <= _MOST_METADATA and body >= 0 and at + size + body <= start):
            raise OSError("a record batch lies beyond the file: damaged")
        metadata = _read(file, at, size)
        found = _message(metadata[8 if metadata[:4] == b"\xff" * 4 else 4 :], at, at + size)
        if found.kind not in (DICTIONARY, BATCH) or found.end != at + size + body:
            raise OSError("a record batch that is not as the footer says: damaged")
        yield found


def _footer(file: Any) -> tuple[int, int] | None:
    """Where the footer of a file begins and ends; None: it is a stream."""
    size = int(file.size())
    head = _read(file, 0, min(8, size))
    if head.startswith(_FEATHER_V1):
        raise OSError("Feather of version 1; read it with pandas, and write version 2")
    if not head.startswith(_MAGIC):
        return None
    tail = _read(file, max(8, size - 10), 10) if size >= 18 else b""
    length = int.from_bytes(tail[:4], "little", signed=True)
    if tail[4:] != _MAGIC or not 0 < length <= size - 18:
        raise OSError("an Arrow IPC file without its footer: cut short")
    return size - 10 - length, size - 10


def column_bytes(schema: pa.Schema, message: Message, path: Sequence[str]) -> int:
    """Bytes of the buffers of a column, or of a field in it, in a batch, as they are in the file."""
    first, last = _span(schema, iter(message.view_buffers), path)
    return sum(size for _, size in message.buffers[first:last])


def expansion(file: Any, message: Message) -> float:
    """How many times larger the buffers of a batch are when they are uncompressed."""
    stored = expanded = 1
    for offset, size in message.buffers:
        if size >= 8:
            length = int.from_bytes(_read(file, message.body + offset, 8), "little", signed=True)
            stored, expanded = stored + size, expanded + (size if length < 0 else length)
    return expanded / stored


def _span(fields: Any, views: Iterator[int], path: Sequence[str], at: int = 0) -> tuple[int, int]:
    """The first buffer of the field at a path and the one after its last, in the order of a batch."""
    for field in fields:
        start = at
        if field.name == path[0] and len(path) > 1:
            return _span(list(field.type), views, path[1:], at + 1)
        at = _after(field.type, views, at)
        if field.name == path[0]:
            return start, at
    raise KeyError(path[0])


def _after(type_: pa.DataType, views: Iterator[int], at: int) -> int:
    """The buffer after those of a column whose first one is `at`."""
    is_ = pa.types
    if isinstance(type_, pa.BaseExtensionType):
        return _after(type_.storage_type, views, at)
    if is_.is_null(type_):
        return at
    if is_.is_string_view(type_) or is_.is_binary_view(type_):
        return at + 2 + next(views, 0)
    if is_.is_dictionary(type_):
        return at + 2
    if is_.is_union(type_):
        own = 1 if type_.mode == "sparse" else 2
    elif is_.is_run_end_encoded(type_):
        return _after(type_.value_type, views, _after(type_.run_end_type, views, at))
    elif is_.is_list_view(type_) or is_.is_large_list_view(type_):
        own = 3
    elif is_.is_struct(type_) or is_.is_fixed_size_list(type_):
        own = 1
    else:
        texts = (is_.is_string, is_.is_binary, is_.is_large_string, is_.is_large_binary)
        own = 3 if any(is_text(type_) for is_text in texts) else 2
    at += own
    for number in range(type_.num_fields):
        at = _after(type_.field(number).type, views, at)
    return at


def _int32(file: Any, at: int) -> int:
    return int.from_bytes(_read(file, at, 4), "little", signed=True)


def _read(file: Any, at: int, size: int) -> bytes:
    file.seek(at)
    found = bytes(file.read(size))
    if len(found) != size:
        raise OSError("cut short")
    return found


def _message(metadata: bytes, start: int, body: int) -> Message:
    try:
        table = _Table.root(metadata)
        kind = table.number(_HEADER_TYPE, "<B")
        end = body + table.number(_BODY_LENGTH, "<q")
        if kind not in (DICTIONARY, BATCH):
            return Message(kind, start, body, end)
        batch = table.table(_HEADER)
        batch = batch.table(_DICTIONARY_DATA) if batch and kind == DICTIONARY else batch
        if batch is None:
            raise OSError("a message without a record batch: damaged")
        rows = batch.number(_ROWS, "<q")
        buffers = tuple((offset, size) for offset, size in batch.structs(_BUFFERS, "<qq"))
        views = tuple(count for (count,) in batch.structs(_VIEW_BUFFERS, "<q"))
        if rows < 0 or any(offset < 0 or size < 0 or offset + size > end - body for offset, size in buffers):
            raise OSError("a record batch whose buffers lie beyond it: damaged")
        return Message(kind, start, body, end, rows, buffers, views, batch.table(_COMPRESSION) is not None)
    except struct.error as error:
        raise OSError(f"the metadata of a message is damaged: {error}") from error


@dataclass(frozen=True)
class _Table:
    """A table in a FlatBuffer."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> _Table:
        """The table that a FlatBuffer holds."""
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def number(self, field: int, kind: str) -> int:
        """A number in a field, 0 by default."""
        at = self._field(field)
        return int(struct.unpack_from(kind, self.data, at)[0]) if at else 0

    def table(self, field: int) -> _Table | None:
        """A table in a field."""
        at = self._field(field)
        return _Table(self.data, at + struct.unpack_from("<I", self.data, at)[0]) if at else None

    def structs(self, field: int, kind: str) -> Iterator[tuple[int, ...]]:
        """The structs, or numbers, of a vector in a field."""
        at = self._field(field)
        if at:
            at += struct.unpack_from("<I", self.data, at)[0]
            (count,) = struct.unpack_from("<I", self.data, at)
            size = struct.calcsize(kind)
            if count * size > len(self.data):
                raise struct.error("a vector is longer than its message")
            for number in range(count):
                yield struct.unpack_from(kind, self.data, at + 4 + number * size)

    def _field(self, field: int) -> int:
        """Where a field lies; 0: it is not there."""
        vtable = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        (size,) = struct.unpack_from("<H", self.data, vtable)
        if 4 + 2 * field >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, vtable + 4 + 2 * field)
        return self.at + offset if offset else 0
