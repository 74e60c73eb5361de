"""Which of several documents comes first: by a measure of the documents, then by shard and row."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.dedup.corpus_scope.records import column

#: A value for each row of a shard: the lower come first.
SCHEMA = pa.schema([("order", pa.uint64())])
_LAST = 2**64 - 1
_SIGN = np.uint64(1 << 63)


def order_of(measure: pa.Array) -> UInt64Array:
    """Numbers or flags as an order, uint64 (documents,), in which the largest comes first and what is missing last.

    >>> np.argsort(order_of(pa.array([0.5, None, -2.0, 7.0, float("nan")])), kind="stable").tolist()
    [3, 0, 2, 1, 4]
    """
    values = measure.cast(pa.int8()) if pa.types.is_boolean(measure.type) else measure
    values = values.cast(pa.float64(), safe=False)
    there = pc.fill_null(pc.invert(pc.is_nan(values)), False).to_numpy(zero_copy_only=False)
    given = np.asarray(pc.fill_null(values, 0.0)) + 0.0  # no negative zero
    bits = given.view(np.uint64)
    rising = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.where(there, ~rising, np.uint64(_LAST))


def ranks(
    number: Int64Array,
    starts: Int64Array,
    orders: Iterable[pa.RecordBatch] | None,
    segment: Int64Array | None = None,
) -> tuple[Int64Array, Int64Array]:
    """The rank of some documents among each other, from 0 for the first, and which has each rank.

    Parameters: `number`: their numbers in the corpus, rising, int64 (documents,); `starts`: the first number of each
    shard, and the end; `orders`: a batch for each shard (`SCHEMA`), iterated once; None: by number; `segment`: of each
    shard, int64 (shards,), rising: documents of a lower one come first, whatever the order says; default one of all.
    """
    if orders is None:
        own = np.arange(len(number))
        return own, own
    bounds = np.searchsorted(number, starts)
    order = np.empty(len(number), np.uint64)
    for batch, start, (low, high) in zip(orders, starts.tolist(), pairwise(bounds.tolist()), strict=False):
        order[low:high] = column(batch, "order")[number[low:high] - start]
    shard = np.repeat(np.arange(len(starts) - 1), np.diff(bounds))
    of_rank = np.argsort(order, kind="stable") if segment is None else np.lexsort((order, segment[shard]))
    rank = np.empty(len(number), np.int64)
    rank[of_rank] = np.arange(len(number))
    return rank, of_rank
