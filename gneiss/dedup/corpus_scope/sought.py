"""Of a corpus known by an index, only passages that hold an anchor of the new shards take part in the exchanges.

All others have no partner. A Bloom filter (Bloom 1970) for each partition decides, broadcast to the tasks
of the known shards: a key that it takes for another costs the text of one super-window, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import BoolArray, UInt32Array, UInt64Array
from gneiss.dedup.corpus_scope.passages import Passages, passages_batch
from gneiss.dedup.corpus_scope.records import column
from gneiss.dedup.corpus_scope.scheme import Scheme, low_half
from gneiss.dedup.corpus_scope.selected import Selected

#: Words of a filter.
SCHEMA = pa.schema([("bits", pa.uint64())])
# At two hashes a filter takes at most 1 in 270 keys for one of its own. All filters together have at most 64 MiB, so
# that it is more from 17 million keys on (0.9 GB of new text at 200 bytes).
_BITS_PER_KEY, _MOST_BITS = 32, 1 << 29


def key_filter(keys: Iterable[pa.RecordBatch], scheme: Scheme) -> pa.RecordBatch:
    """Reduce a partition: a filter of its keys (`SCHEMA`).

    Parameters: `keys`: a batch for each new shard, of `shard_keys`, iterated twice.
    """
    wanted = min(_BITS_PER_KEY * sum(batch.num_rows for batch in keys), _MOST_BITS // scheme.partitions)
    size = 64
    while size < wanted:
        size *= 2
    bits = np.zeros(size // 64, np.uint64)
    for batch in keys:
        _set(bits, column(batch, "key"))
    return pa.record_batch([bits], schema=SCHEMA)


def sought_passages(passages: Passages, scheme: Scheme, filters: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Map a known shard, or some of its passages: the super-windows of anchors that pass the filters, as passages.

    Parameters: `filters`: of all partitions. Where super-windows overlap, they are one passage, so that the anchors of
    its windows are those of the text around it.
    """
    selected = Selected.of(passages.units, scheme)
    order, bounds = scheme.by_partition(selected.key)
    key, taken = low_half(selected.key), np.zeros(len(selected.key), np.bool_)
    for (low, high), bits in zip(pairwise(bounds.tolist()), filters, strict=True):
        here = order[low:high]
        taken[here] = _are_set(column(bits, "bits"), key[here])
    begin = selected.begin[taken]
    end = begin + selected.count[taken] - 1 + scheme.min_length  # rise, as begin does
    opens = np.append(True, begin[1:] >= end[:-1])[: len(begin)]
    closes = np.append(opens[1:], True)[: len(end)]
    return passages_batch(passages, begin[opens], end[closes])


@njit(cache=True, nogil=True)
def _set(bits: UInt64Array, key: UInt32Array) -> None:
    for i in range(len(key)):
        for hash_ in _hashes(key[i]):
            bit = hash_ & np.uint64(64 * len(bits) - 1)
            bits[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@njit(cache=True, nogil=True)
def _are_set(bits: UInt64Array, key: UInt32Array) -> BoolArray:
    found = np.ones(len(key), np.bool_)
    for i in range(len(key)):
        for hash_ in _hashes(key[i]):
            bit = hash_ & np.uint64(64 * len(bits) - 1)
            found[i] &= np.bool_((bits[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1))
    return found


@njit(cache=True, nogil=True)
def _hashes(key: np.uint32) -> tuple[np.uint64, np.uint64]:
    """Two hashes of a key, which is one itself."""
    return np.uint64(key), (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
