"""Random access to documents or packed sequences, for Grain and other loaders that ask for items by their number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Items
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np

from gneiss.arrays import Int32Array, Int64Array
from gneiss.errors import InputError
from gneiss.loader.order import Share
from gneiss.loader.packing import Sequence
from gneiss.loader.stream import Dataset

_Item = TypeVar("_Item")
#: Rows that are read and kept together, where a source does not shuffle in blocks.
_BLOCK_ROWS = 1024


class RandomAccess(Generic[_Item]):
    """Items of an epoch by their position in its order; a `grain.python.RandomAccessDataSource`.

    Blocks of the order are read whole, and the last few are kept: items asked for in turn are read once. Several
    threads may ask; what is sent to another process begins with nothing kept.
    """

    def __init__(self, source: Dataset[_Item], kept_blocks: int) -> None:
        self.source, self.kept_blocks = source, kept_blocks
        self._rows = int(getattr(source, "block_documents", getattr(source, "block_sequences", _BLOCK_ROWS)))
        self._kept: OrderedDict[int, Items[_Item]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return self.source.total

    def __getitem__(self, position: int) -> _Item:
        """The item at a position of the epoch's order. Raises IndexError, and what reading raises."""
        at = int(position)
        if not -len(self) <= at < len(self):
            raise IndexError(f"position {at} of {len(self)} items")
        block, row = divmod(at % len(self), self._rows)
        return self._block(block)[row]

    def __repr__(self) -> str:  # Grain compares it when it resumes
        return f"RandomAccess({self.source.identity()}, epoch={self.source.epoch})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.kept_blocks)

    def _block(self, number: int) -> Items[_Item]:
        with self._lock:
            found = self._kept.get(number)
            if found is None:
                start = number * self._rows
                found = list(self.source.read(self.source.epoch, start, min(start + self._rows, len(self))))
                self._kept[number] = found
            self._kept.move_to_end(number)
            while len(self._kept) > self.kept_blocks:
                self._kept.popitem(last=False)
            return found


def random_access_source(source: Dataset[_Item], *, kept_blocks: int = 8) -> RandomAccess[_Item]:
    """A source for Grain: `__len__`, and `__getitem__` by position in the shuffled order of the source's epoch.

    Parameters: `source`: `documents(…)` or `packed(…)`, whose `seed` and `epoch` determine the order; the loader
    distributes items over ranks and workers, so do not set `rank` and `world_size`; `kept_blocks`: number of blocks of
    the source (1024 items by default) kept in memory. The order is already shuffled; a loader that shuffles again reads
    a whole block for each item outside the kept blocks. Raises InputError.

    >>> source = random_access_source(packed("packed", seed=7, epoch=2))  # doctest: +SKIP
    >>> grain.MapDataset.source(source).map(lambda s: sequence_features(s, 2048)).batch(8)  # doctest: +SKIP
    """
    if source.share != Share():
        raise InputError(
            "random_access_source: expected rank=0 and world_size=1; the loader shares items out by itself"
        )
    if kept_blocks < 1:
        raise InputError(f"kept_blocks {kept_blocks}: expected 1 or more")
    return RandomAccess(source, kept_blocks)


def sequence_features(sequence: Sequence, length: int) -> dict[str, Any]:
    """A packed sequence as arrays of one length, for loaders that stack dicts.

    Returns `tokens`, int32 (length,), 0 where there is none; `document`, int64 (length,), the dense index of each
    token's document, -1 where there is none; `position`, int32 (length,), of a token in its document; `log_prior`,
    float32, and `sequence`, int64, its id. Raises InputError for a longer sequence.

    >>> from gneiss.loader.packing import Spans
    >>> spans = Spans(*map(np.array, ([7, 9], [0, 2], [2, 1], [5, 0], [0, 0])))
    >>> found = sequence_features(Sequence(3, np.array([1, 2, 3], np.int32), spans, 0.0), 4)
    >>> found["tokens"].tolist(), found["document"].tolist(), found["position"].tolist()
    ([1, 2, 3, 0], [7, 7, 9, -1], [5, 6, 0, 0])
    """
    size = len(sequence.tokens)
    if size > length:
        raise InputError(f"sequence {sequence.id}: expected at most {length} tokens, found {size}")
    tokens: Int32Array = np.zeros(length, np.int32)
    document: Int64Array = np.full(length, -1, np.int64)
    position: Int32Array = np.zeros(length, np.int32)
    spans = sequence.spans
    tokens[:size] = sequence.tokens
    document[:size] = np.repeat(spans.document, spans.length)
    position[:size] = np.arange(size) - np.repeat(spans.start - spans.document_start, spans.length)
    numbers = {"log_prior": np.float32(sequence.log_prior), "sequence": np.int64(sequence.id)}
    return {"tokens": tokens, "document": document, "position": position, **numbers}
