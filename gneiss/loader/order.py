"""The order of an epoch: one permutation of all rows of some files, a function of (seed, epoch, block rows).

Files in shuffled order form one stream of rows; the stream is cut into blocks, and rows are shuffled within a block. A
consumer (a loader worker of a rank) takes a contiguous part of that order, or of what is left of it. So for any number
of ranks and workers every row is read once, a position is all that is needed to resume, and memory holds one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.errors import InputError

#: Ranges of positions of an epoch's order, [start, end), ascending and apart.
Ranges: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RowRange:
    """Rows `start` to `end` (exclusive) of a file."""

    file: int
    start: int
    end: int


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch. rows: of each file; block_rows: shuffled together; shuffled: if not, the stored order.

    >>> order = EpochOrder((3, 2), seed=7, epoch=0, block_rows=4)
    >>> sorted((rows.file, row) for block in order.blocks(0, 5) for rows in block[0]
    ...     for row in range(rows.start, rows.end))
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    """

    rows: tuple[int, ...]
    seed: int
    epoch: int
    block_rows: int
    shuffled: bool = True

    @property
    def total(self) -> int:
        """The number of rows."""
        return sum(self.rows)

    @cached_property
    def files(self) -> list[int]:
        """The files in the order of this epoch."""
        count = len(self.rows)
        return self._permutation(count, "files").tolist() if self.shuffled else list(range(count))

    @cached_property
    def _bounds(self) -> Int64Array:
        """Where each file starts in the stream, and where the last one ends, int64 (files + 1,)."""
        return np.array(list(accumulate((self.rows[file] for file in self.files), initial=0)), np.int64)

    def blocks(self, start: int, end: int) -> Iterator[tuple[list[RowRange], Int64Array]]:
        """For positions `start` to `end`: the row ranges of each block, and which of their rows to give, in order."""
        for block in range(start // self.block_rows, -(-end // self.block_rows) if end > start else 0):
            first = block * self.block_rows
            last = min(first + self.block_rows, self.total)
            rows = self._permutation(last - first, f"block {block}") if self.shuffled else np.arange(last - first)
            rows = rows[max(start - first, 0) : end - first]
            if not self.shuffled:  # read nothing that is not yielded
                first, last, rows = first + int(rows[0]), first + int(rows[-1]) + 1, rows - rows[0]
            yield self._ranges(first, last), rows

    def _ranges(self, first: int, last: int) -> list[RowRange]:
        ranges = []
        at = int(np.searchsorted(self._bounds, first, side="right")) - 1
        while first < last:
            end = min(last, int(self._bounds[at + 1]))
            if end > first:
                ranges.append(RowRange(self.files[at], first - int(self._bounds[at]), end - int(self._bounds[at])))
            first, at = end, at + 1
        return ranges

    def _permutation(self, count: int, what: str) -> Int64Array:
        key = np.uint64(xxhash.xxh3_64_intdigest(f"{self.seed}\0{self.epoch}\0{what}".encode()))
        return np.argsort(mixed(np.arange(count, dtype=np.uint64) + key), kind="stable")


@dataclass(frozen=True)
class Share:
    """One consumer's (a loader worker of a rank's) part of every epoch.

    Shares are contiguous and differ by at most one row; with `drop_uneven` they are equal, and the last few rows of
    the epoch's order (fewer than the ranks; different ones in each epoch) are skipped.
    left: epoch → the positions that are shared out, by default all; see `gneiss.loader.resumed`.
    """

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1
    drop_uneven: bool = False
    left: tuple[tuple[int, Ranges], ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.world_size and 0 <= self.worker < self.workers):
            raise InputError(
                f"rank {self.rank} of {self.world_size}, worker {self.worker} of {self.workers}: expected numbers from"
                " 0, smaller than how many there are (the global rank, not LOCAL_RANK)"
            )

    @property
    def consumer(self) -> int:
        """The index of this consumer."""
        return self.rank * self.workers + self.worker

    @property
    def consumers(self) -> int:
        """The number of consumers."""
        return self.world_size * self.workers

    @property
    def settings(self) -> dict[str, Any]:
        """What stays the same while it reads: everything but what is left."""
        return {name: value for name, value in asdict(self).items() if name != "left"}

    def parts(self, epoch: int, total: int) -> Ranges:
        """The positions of an epoch's order that are this consumer's.

        >>> Share(rank=1, world_size=2, left=((3, ((0, 2), (5, 9))),)).parts(3, 10)
        ((6, 9),)
        """
        whole = dict(self.left).get(epoch, ((0, total),))
        return cut(whole, *self.bounds(sum(end - start for start, end in whole)))

    def bounds(self, total: int) -> tuple[int, int]:
        """First position, and the position after the last one."""
        if self.drop_uneven:  # ranks must have equal shares; the workers of a rank need not
            total -= total % self.world_size
        first, last = (rank * total // self.world_size for rank in (self.rank, self.rank + 1))
        of_rank = last - first
        start, end = (worker * of_rank // self.workers for worker in (self.worker, self.worker + 1))
        return first + start, first + end


def cut(ranges: Iterable[tuple[int, int]], first: int, last: int) -> Ranges:
    """Of ranges put end to end, the part from `first` to `last`.

    >>> cut([(0, 4), (10, 20)], 3, 7)
    ((3, 4), (10, 13))
    """
    found, before = [], 0
    for start, end in ranges:
        own = max(first - before, 0) + start, min(last - before + start, end)
        if own[0] < own[1]:
            found.append(own)
        before += end - start
    return tuple(found)


class RowReader:
    """Reads row ranges of files; rows read in order are read once. `open` yields a file's rows from a given row."""

    def __init__(self, open: Callable[[int, int], Iterator[pa.Table]]) -> None:
        self._open = open
        self._file, self._row = -1, 0
        self._tables: Iterator[pa.Table] = iter(())
        self._left: pa.Table | None = None

    def read(self, rows: RowRange) -> list[pa.Table]:
        """The rows of a range, in order. Raises InputError when the file ends before it."""
        if (rows.file, rows.start) != (self._file, self._row):
            self._file, self._row, self._left = rows.file, rows.start, None
            self._tables = self._open(rows.file, rows.start)
        parts: list[pa.Table] = []
        while self._row < rows.end:
            if self._left is None or not self._left.num_rows:
                self._left = next(self._tables, None)
                if self._left is None:
                    raise InputError(f"file {rows.file}: it ends at row {self._row}, expected {rows.end} rows")
            part = self._left.slice(0, rows.end - self._row)
            self._left = self._left.slice(part.num_rows)
            self._row += part.num_rows
            parts.append(part)
        return parts


def mixed(values: UInt64Array) -> UInt64Array:
    """splitmix64 (Steele, Lea, Flood 2014): a bijection of uint64 whose values look random.

    >>> mixed(np.array([0], np.uint64)).tolist()
    [16294208416658607535]
    """
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
