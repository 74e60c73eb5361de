"""Row groups, or record batches: cut into parts, and read part by part, each value decoded once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa

from gneiss.input.formats.format import Part

#: A larger row group, decoded, is read in tables of about this size.
_TABLE_BYTES = 128_000_000
#: A worker reads some columns of a shard to decide it, and others to write it.
_MOST_BEGUN = 2


@dataclass
class Begun:
    """A row group that is being read: its next batches, the rest of the last one, and the row `at` which it begins."""

    batches: Iterator[pa.RecordBatch]
    opened: ExitStack
    at: int = 0
    rest: pa.RecordBatch | None = None

    def read(self, start: int, end: int) -> Iterator[pa.Table]:
        """Rows from `start` to `end`, in tables; rows before `start` are decoded and left out."""
        while self.at < end and (batch := self.rest or next(self.batches, None)) is not None:
            first, last = max(start - self.at, 0), min(end - self.at, batch.num_rows)
            self.at, self.rest = self.at + last, batch.slice(last) if last < batch.num_rows else None
            if first < last:
                yield pa.Table.from_batches([batch.slice(first, last - first)])


@dataclass
class RowGroups:
    """The row groups that a worker has begun to read, the one of its last reads last."""

    _begun: dict[Hashable, Begun] = field(default_factory=dict)

    def read(self, key: Hashable, begin: Callable[[], Begun], start: int, end: int) -> Iterator[pa.Table]:
        """Rows of a row group, read on from where its last read ended if that is not behind `start`.

        key: of a file, a row group in it, and columns; begin: starts from its first row.
        """
        begun = self._begun.pop(key, None)
        if begun is not None and begun.at > start:
            begun.opened.close()
            begun = None
        begun = begun or begin()
        try:
            yield from begun.read(start, end)
        except BaseException:
            begun.opened.close()
            raise
        self._begun[key] = begun
        while len(self._begun) > _MOST_BEGUN:
            self._begun.pop(next(iter(self._begun))).opened.close()

    def close(self) -> None:
        """Close their files."""
        while self._begun:
            self._begun.popitem()[1].opened.close()


def cut_groups(
    letter: str,
    rows: Sequence[int],
    sizes: Sequence[int],
    beside: Sequence[int],
    tables: Sequence[int],
    part_max_bytes: int,
) -> Iterator[Part]:
    """Parts of consecutive row groups with at most this many bytes of text; a larger row group is split by rows.

    Of each row group: `rows`; decoded bytes of the text, `sizes`, of columns held `beside` it, and of all, `tables`.
    letter: what a part's name has before the number of its first row group.
    """
    if not rows:
        yield Part("", 0, 0, 0, 0)
    first = at = 0
    while first < len(rows):
        last, size, count = first + 1, sizes[first], min(rows[first], -(-sizes[first] // part_max_bytes))
        table_bytes, table_rows = _table(tables[first], rows[first])
        if count > 1:  # one row group is too large
            for low, high in pairwise(number * rows[first] // count for number in range(count + 1)):
                name, share = f".{letter}{first:05d}.r{low:09d}", (high - low) / rows[first]
                part_bytes, held_bytes = size * (high - low) // rows[first], int(beside[first] * share)
                its_rows = table_rows or high - low
                yield Part(name, at + low, at + high, high - low, part_bytes, held_bytes, table_bytes, its_rows)
        else:
            while last < len(rows) and size + sizes[last] <= part_max_bytes:
                size, last = size + sizes[last], last + 1
            largest = max(range(first, last), key=tables.__getitem__)
            table_bytes, table_rows = _table(tables[largest], rows[largest])
            name, count = "" if (first, last) == (0, len(rows)) else f".{letter}{first:05d}", sum(rows[first:last])
            yield Part(name, at, at + count, count, size, sum(beside[first:last]), table_bytes, table_rows)
        at += sum(rows[first:last])
        first = last


def _table(size: int, rows: int) -> tuple[int, int | None]:
    """Bytes and rows of the tables in which a row group is read; None: all its rows."""
    if size <= _TABLE_BYTES:
        return size, None
    return max(_TABLE_BYTES, size // max(rows, 1)), max(1, rows * _TABLE_BYTES // size)
