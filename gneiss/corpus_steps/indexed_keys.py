"""Keys of an index: what all documents of a run must share, in order of keys, so that a reducer reads its part.

A file holds `SLOTS_OF_FILE` batches, each of the keys of a slot: one of equally wide ranges of keys. How many slots
there are follows from the rows of the shards alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.corpus_steps.preference_stages import kept_order
from gneiss.corpus_steps.step import Batches, Segment, Stage, StepCorpus

#: high_step: from one key to the next, in its slot.
SCHEMA = pa.schema(
    [
        ("high_step", pa.uint64()),
        ("low", pa.uint64()),
        ("shard", pa.uint32()),
        ("row", pa.uint32()),
        ("order", pa.uint64()),
    ]
)
KEYS_OF_SLOT, SLOTS_OF_FILE = 1 << 16, 64
# Hashes leave little to compress, as in `indexed_sets`.
_LEVEL = 3


#: Changes whenever the same document gets other keys than before.
HASHES = 1


def index_stages(keys_per_document: int, partitions: int, keep: str | None, corpus: StepCorpus) -> Sequence[Stage]:
    """If an index is kept: `index`, which puts the keys of all shards in order, and what `keep` needs of documents.

    Parameters: `partitions`: of the stage `keys`.
    """
    if not corpus.keeps_index:
        return ()
    slots = _slots([shard.rows for shard in corpus.shards], keys_per_document)
    work = partial(_index, slots, partitions)
    index = Stage("index", -(-slots // SLOTS_OF_FILE), SCHEMA, work, is_kept=True, level=_LEVEL)
    return (index, *kept_order(keep, corpus))


@dataclass(frozen=True)
class IndexedKeys:
    """The keys of all segments in one of several partitions: the `known` ones of reducers, read each time."""

    segments: Sequence[Segment]
    keys_per_document: int
    partition: int
    partitions: int

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        from gneiss.dedup.corpus_scope.records import column
        from gneiss.dedup.minhash.keys import KNOWN

        before = 0
        for segment in self.segments:
            for batch in self._batches(segment):
                high = np.cumsum(column(batch, "high_step"), dtype=np.uint64)
                chosen = np.flatnonzero(_range_of(high, self.partitions) == self.partition)
                low, order, shard, row = (column(batch, name)[chosen] for name in ("low", "order", "shard", "row"))
                yield pa.record_batch([high[chosen], low, order, shard + np.uint32(before), row], schema=KNOWN)
            before += len(segment.shards)

    def _batches(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        """The batches of the slots that the partition overlaps."""
        slots = _slots([rows for _, rows in segment.shards], self.keys_per_document)
        first, end = self.partition * slots // self.partitions, -(-(self.partition + 1) * slots // self.partitions)
        for task in range(first // SLOTS_OF_FILE, -(-end // SLOTS_OF_FILE)):
            start = task * SLOTS_OF_FILE
            stop = min(start + SLOTS_OF_FILE, slots)
            yield from segment.read("index", task, max(first, start) - start, min(end, stop) - start)


def _index(slots: int, partitions: int, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.minhash.keys import placed_keys

    first, end = task * SLOTS_OF_FILE, min((task + 1) * SLOTS_OF_FILE, slots)
    parts = [pa.record_batch([np.empty(0, field.type.to_pandas_dtype()) for field in SCHEMA], schema=SCHEMA)]
    for partition in range(first * partitions // slots, -(-end * partitions // slots)):
        for keys in placed_keys(corpus.across("keys", len(corpus.shards), partition)):
            slot = _range_of(keys.high, slots)
            taken = keys.where((first <= slot) & (slot < end))
            columns = [taken.high, taken.low, taken.shard, taken.row, taken.order]
            parts.append(pa.record_batch(columns, schema=SCHEMA))
    high, *rest = (np.asarray(column.to_numpy()) for column in pa.Table.from_batches(parts).itercolumns())
    low, shard, row, _ = rest
    in_order = np.lexsort((row, shard, low, high))
    bounds = np.searchsorted(_range_of(high[in_order], slots), np.arange(first, end + 1))
    for start, stop in pairwise(bounds.tolist()):
        rows = in_order[start:stop]
        step = np.diff(high[rows], prepend=np.uint64(0))
        yield pa.record_batch([step, *(values[rows] for values in rest)], schema=SCHEMA)


def _slots(rows: Sequence[int], keys_per_document: int) -> int:
    return 1 + sum(rows) * keys_per_document // KEYS_OF_SLOT


def _range_of(key: UInt64Array, ranges: int) -> Int64Array:
    """Which of equally many ranges of keys each is in, as partitions of keys are."""
    return (((key >> np.uint64(32)) * np.uint64(ranges)) >> np.uint64(32)).astype(np.int64)
