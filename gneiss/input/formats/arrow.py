"""Arrow IPC files and streams, as pyarrow, pandas, polars and Hugging Face's datasets write them.

Parts are consecutive record batches, cut by their size; a batch that is too large is split by rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import xxhash

from gneiss.input.columns import field_at, find_path
from gneiss.input.formats.format import CutFile, Part
from gneiss.input.formats.messages import BATCH, DICTIONARY, SCHEMA, Message, column_bytes, expansion, is_file, messages
from gneiss.input.formats.row_groups import Begun, RowGroups, cut_groups
from gneiss.store.place import Place

#: Batches are gathered into tables of this size.
_TABLE_BYTES, _TABLE_ROWS = 16_000_000, 65_536
#: What tells one version of a file from another of the same size and time.
_ENDS_BYTES = 1 << 16
#: Compressed batches whose expansion is looked up.
_SAMPLED = 8


@dataclass(frozen=True)
class Arrow:
    """Arrow IPC files and streams. Parts count rows. `batches`: those that a worker goes on reading."""

    batches: RowGroups | None = field(default=None, compare=False)
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")
    counts_rows: ClassVar[bool] = True
    finds_malformed: ClassVar[bool] = False

    def for_worker(self) -> Arrow:
        """See Format."""
        return replace(self, batches=RowGroups())

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        """See Format."""
        with file.open() as opened:
            digest = _digest(opened)
            schema = _schema(opened)
            if not find_path(schema, text):
                return CutFile(schema, (), digest)
            found = list(messages(opened))
            batches = [message for message in found if message.kind == BATCH]
            factors = _expansions(opened, batches)
        values = _mean_values([message for message in found if message.kind == DICTIONARY])

        def sizes(names: Sequence[str]) -> list[int]:
            paths = [path for path in (find_path(schema, name) for name in names) if path]
            return [
                int(sum(_column_bytes(schema, batch, path, factor, values) for path in paths))
                for batch, factor in zip(batches, factors, strict=True)
            ]

        rows = [batch.rows for batch in batches]
        tables = [int(factor * (batch.end - batch.body)) for batch, factor in zip(batches, factors, strict=True)]
        beside = sizes([name for name in dict.fromkeys(held) if name != text])
        parts = cut_groups("b", rows, sizes([text]), beside, tables, part_max_bytes)
        largest = max(tables, default=0)  # a batch is read whole, however it is cut
        return CutFile(schema, tuple(replace(part, table_bytes=largest, table_rows=None) for part in parts), digest)

    def together(self, text: str, schemas: Sequence[pa.Schema]) -> tuple[Arrow, Sequence[pa.Schema]]:
        """See Format: each file has its own columns."""
        return self, schemas

    def digest(self, file: Place) -> str:
        """See Format: of its size, its first and its last bytes, and what lies between is known by its etag."""
        with file.open() as opened:
            return _digest(opened)

    def schema(self, file: Place, part: Part) -> pa.Schema:
        """See Format."""
        with file.open() as opened:
            return _schema(opened)

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """See Format."""
        with ExitStack() as opened:
            source = opened.enter_context(file.open())
            found, head = _within(source, part), list[_Located]()
            for message in found:
                head.append(message)
                if message.message.kind == BATCH:
                    break
            if not head or head[-1].message.kind != BATCH:
                return
            first = head[-1]
            if part.start <= first.row and first.row + first.message.rows <= part.end:
                yield from _gathered(_read(source, chain(head, found), columns))
                return
            batches = self.batches  # of a batch that is cut into parts
            if batches is None:
                batches = RowGroups()
                opened.callback(batches.close)
            key = (file, first.message.start, None if columns is None else tuple(columns))
            begin = partial(_begin, file, head, columns)
            yield from batches.read(key, begin, part.start - first.row, part.end - first.row)


@dataclass(frozen=True)
class _Located:
    """A message, the row at which it begins, and how many batches come before it."""

    message: Message
    row: int
    number: int


class _Spliced(io.RawIOBase):
    """Some byte ranges of a file, one after the other, as a stream."""

    def __init__(self, file: Any, ranges: Iterator[tuple[int, int]]) -> None:
        self._file = file
        self._ranges = ranges
        self._at = self._end = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, fewer than asked for only at the end."""
        pieces, wanted = list[bytes](), size or 0
        while wanted > 0:
            if self._at == self._end:
                self._at, self._end = next(self._ranges, (self._at, self._at))
                if self._at == self._end:
                    break
            self._file.seek(self._at)
            pieces.append(self._file.read(min(wanted, self._end - self._at)))
            if not pieces[-1]:
                raise OSError("cut short")
            self._at, wanted = self._at + len(pieces[-1]), wanted - len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _schema(source: Any) -> pa.Schema:
    if is_file(source):
        source.seek(0)
        return pa.ipc.open_file(source).schema
    first = next(messages(source))
    source.seek(first.start)
    return pa.ipc.read_schema(pa.ipc.read_message(source))


def _within(source: Any, part: Part) -> Iterator[_Located]:
    """The batches with rows of a part, and what must be read before them."""
    row = number = 0
    for message in messages(source):
        if row >= part.end:
            return
        is_batch = message.kind == BATCH
        if message.kind in (SCHEMA, DICTIONARY) or (is_batch and row + message.rows > part.start):
            yield _Located(message, row, number)
        row, number = row + (message.rows if is_batch else 0), number + is_batch


def _read(source: Any, wanted: Iterator[_Located], columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The record batches among some messages, without those of no rows."""
    schema = _schema(source)
    paths = [path for path in (find_path(schema, name) for name in columns or ()) if path]
    chosen = sorted({schema.get_field_index(path[0]) for path in paths})
    options = pa.ipc.IpcReadOptions(included_fields=chosen)  # none: all
    for batch in _batches(source, wanted, options):
        for column in batch.columns:
            column.view(_as_bytes(column.type)).validate(full=True)
        if batch.num_rows:
            yield batch if columns is None or chosen else batch.select([])


def _batches(source: Any, wanted: Iterator[_Located], options: pa.ipc.IpcReadOptions) -> Iterator[pa.RecordBatch]:
    if is_file(source):
        with pa.ipc.open_file(source, options=options) as file:
            for part in wanted:
                if part.message.kind == BATCH:
                    yield file.get_batch(part.number)
        return
    stream = _Spliced(source, ((part.message.start, part.message.end) for part in wanted))
    with pa.ipc.open_stream(stream, options=options) as reader:
        yield from reader


def _begin(file: Place, head: Sequence[_Located], columns: Sequence[str] | None) -> Begun:
    """A batch that is cut into parts, from its first row."""
    opened = ExitStack()
    source = opened.enter_context(file.open())
    return Begun(_read(source, iter(head), columns), opened)


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches in tables of a size for which it is worth the work on each."""
    waiting, rows, size = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _TABLE_ROWS or size >= _TABLE_BYTES:
            yield _table(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield _table(waiting)


def _table(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    return table.combine_chunks() if len(batches) > 1 else table


def _as_bytes(type_: pa.DataType) -> pa.DataType:
    """A type of the same layout without texts, which are checked for UTF-8 one by one later on."""
    is_ = pa.types
    pairs = (
        (is_.is_string, pa.binary()),
        (is_.is_large_string, pa.large_binary()),
        (is_.is_string_view, pa.binary_view()),
    )
    for is_text, bytes_ in pairs:
        if is_text(type_):
            return bytes_
    if is_.is_dictionary(type_):
        return pa.dictionary(type_.index_type, _as_bytes(type_.value_type), type_.ordered)
    if is_.is_map(type_):
        return pa.map_(_as_bytes(type_.key_type), _as_bytes(type_.item_type))
    if is_.is_struct(type_):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in type_])
    if is_.is_fixed_size_list(type_):
        return pa.list_(_as_bytes(type_.value_type), type_.list_size)
    lists = (
        (is_.is_list, pa.list_), (is_.is_large_list, pa.large_list),
        (is_.is_list_view, pa.list_view), (is_.is_large_list_view, pa.large_list_view),
    )  # fmt: skip
    for is_list, list_of in lists:
        if is_list(type_):
            return list_of(_as_bytes(type_.value_type))
    return type_


def _expansions(source: Any, batches: Sequence[Message]) -> list[float]:
    """How many times larger each batch is when it is uncompressed; of most of many, that of the nearest one sampled."""
    compressed = [number for number, batch in enumerate(batches) if batch.is_compressed]
    if not compressed:
        return [1.0] * len(batches)
    sampled = sorted({compressed[at] for at in np.linspace(0, len(compressed) - 1, _SAMPLED).astype(int)})
    found = {number: expansion(source, batches[number]) for number in sampled}
    return [
        found[min(sampled, key=lambda near: abs(near - number))] if batch.is_compressed else 1.0
        for number, batch in enumerate(batches)
    ]


def _mean_values(dictionaries: Sequence[Message]) -> float:
    """The mean size of the values of the dictionary whose values are the largest."""
    return max(
        ((dictionary.end - dictionary.body) / max(dictionary.rows, 1) for dictionary in dictionaries), default=0.0
    )


def _column_bytes(schema: pa.Schema, message: Message, path: Sequence[str], factor: float, value_bytes: float) -> float:
    """Decoded size of a column in a batch, or a guess of it; `value_bytes`: of a value in a dictionary."""
    if pa.types.is_dictionary(field_at(schema, path).type):
        return message.rows * value_bytes
    return factor * column_bytes(schema, message, path)


def _digest(source: Any) -> str:
    size = int(source.size())
    digest = xxhash.xxh3_128(size.to_bytes(8, "little"))
    for start in (0, max(0, size - _ENDS_BYTES)):
        source.seek(start)
        digest.update(source.read(min(_ENDS_BYTES, size - start)))
    return digest.hexdigest()
