"""Row groups that are read part by part, each value decoded once: a part begins where the one before it ended."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pyarrow as pa

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
