"""Candidate pairs: which documents are compared, where pairs are verified before they are joined.

A bucket is the documents that share a key. In it, documents with the same words count as one, for which the earliest
stands; the others are its copies, and need not be compared. Of those that are left, each is compared with the
`MOST_COMPARED` earliest of the bucket, so that a bucket costs time and pairs in proportion to its documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import BoolArray, Int, Int64Array, UInt64Array, distinct_values
from gneiss.dedup.corpus_scope.scheme import in_pass, low_half
from gneiss.dedup.minhash.keys import PlacedKeys, placed_keys, places

#: With how many of a bucket a document is compared, at most.
MOST_COMPARED = 16
# An estimate from the sizes of the columns and their sorted copies, without the pairs; not measured.
_REDUCER_BYTES_PER_KEY = 80
#: order, first_order: of preference; is_copy: a pair of documents with the same words, which need not be compared.
SCHEMA = pa.schema(
    [
        ("shard", pa.uint32()),
        ("row", pa.uint32()),
        ("order", pa.uint64()),
        ("first_shard", pa.uint32()),
        ("first_row", pa.uint32()),
        ("first_order", pa.uint64()),
        ("is_copy", pa.bool_()),
    ]
)


def candidates(
    sent: Iterable[pa.RecordBatch],
    passes: int = 1,
    known: Iterable[pa.RecordBatch] = (),
    before: int = 0,
    segment: Int64Array | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reduce a partition: the pairs that are compared (`SCHEMA`), the later document first; a batch for each pass.

    Parameters: `sent`: the keys from each shard, in order of shards, iterated once in each of the passes; `known`: keys
    of the `before` shards before those (`KNOWN`), iterated alike, whose documents are not compared with each other;
    `segment`: of each shard, int64 (shards,): documents of a lower one are preferred, whatever the order says. A
    pair comes once for each key that it shares.
    """
    for turn in range(passes):
        yield _candidates(placed_keys(sent, known, before), turn, passes, before, segment)


def passes_for(keys: int, memory_bytes: int) -> int:
    """The number of passes of a reducer over a partition with `keys`.

    >>> passes_for(10_000_000, 10**9), passes_for(100_000_000, 10**9)
    (1, 8)
    """
    return max(1, -(-keys * _REDUCER_BYTES_PER_KEY // memory_bytes))


def _candidates(
    sent: Iterable[PlacedKeys], turn: int, passes: int, before: int, segment: Int64Array | None
) -> pa.RecordBatch:
    parts = [keys.where(in_pass(low_half(keys.high), turn, passes)) if passes > 1 else keys for keys in sent]
    keys = PlacedKeys.joined(parts)
    if before:
        keys = keys.where(_occur_in(keys.high, keys.high[keys.shard >= before]))
    repeated = np.flatnonzero(_occur_twice(keys.high))
    if before:  # known keys come in another order
        repeated = repeated[np.argsort(places(keys.shard[repeated], keys.row[repeated]), kind="stable")]
    of_segment = np.zeros(len(repeated)) if segment is None else segment[keys.shard[repeated]]
    record = repeated[np.lexsort((keys.order[repeated], of_segment))]  # from here on in order of preference
    later, earlier, is_copy = _pairs(keys.high[record], keys.low[record])
    later, earlier = record[later], record[earlier]
    if before:
        is_own = keys.shard[later] >= before
        later, earlier, is_copy = later[is_own], earlier[is_own], is_copy[is_own]
    columns = [values[record] for record in (later, earlier) for values in (keys.shard, keys.row, keys.order)]
    return pa.record_batch([*columns, is_copy], schema=SCHEMA)


def _occur_in(key: UInt64Array, own: UInt64Array) -> BoolArray:
    """Whether each key is one of others."""
    own = distinct_values(own)
    place = np.searchsorted(own, key)
    place[place == len(own)] = 0
    return own[place] == key if len(own) else np.zeros(len(key), np.bool_)


def _occur_twice(key: UInt64Array) -> BoolArray:
    """Whether each key is also that of another record."""
    order = np.argsort(key)
    equal = np.diff(key[order], prepend=0, append=0) == 0
    equal[[0, -1]] = False
    twice = np.empty(len(key), np.bool_)
    twice[order] = equal[1:] | equal[:-1]
    return twice


def _pairs(key: UInt64Array, words: UInt64Array) -> tuple[Int64Array, Int64Array, BoolArray]:
    """The pairs among records with equal keys, records being in order of preference: later, earlier, is_copy."""
    order = np.lexsort((words, key))  # stable: records with equal words stay in order
    key, words = key[order], words[order]
    is_new_key = np.append(True, key[1:] != key[:-1])[: len(order)]
    is_new = is_new_key | np.append(True, words[1:] != words[:-1])[: len(order)]
    standing, copies = np.flatnonzero(is_new), np.flatnonzero(~is_new)
    stands_for = order[standing[np.cumsum(is_new)[copies] - 1]]
    # those that stand for their copies: bucket by bucket, in order of preference
    bucket, record = np.cumsum(is_new_key)[standing], order[standing]
    in_order = np.lexsort((record, bucket))
    bucket, record = bucket[in_order], record[in_order]
    starts = np.flatnonzero(np.diff(bucket, prepend=0))
    place = np.arange(len(bucket)) - np.repeat(starts, np.diff(np.append(starts, len(bucket))))
    compared = np.minimum(place, MOST_COMPARED)
    earlier = np.empty(compared.sum(), np.int64)
    _write_earliest(record, place, compared, earlier)
    is_copy = np.repeat([False, True], [len(earlier), len(copies)])
    later = np.append(np.repeat(record, compared), order[copies])
    return later, np.append(earlier, stands_for), is_copy


@njit(cache=True, nogil=True)
def _write_earliest(record: Int64Array, place: Int64Array, compared: Int64Array, earlier: Int64Array) -> None:
    """The records at the begin of the bucket of each record, as many as it is compared with."""
    written: Int = 0
    for at in range(len(record)):
        for number in range(compared[at]):
            earlier[written] = record[at - place[at] + number]
            written += 1
