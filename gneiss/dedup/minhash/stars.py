"""Clusters of verified pairs: each document resembles the one that represents it, or every one in its cluster.

Documents are gone through in order of preference. One joins the first representative that it resembles; if there is
none, it is one itself. So no chain joins two documents that have little in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.dedup.corpus_scope.records import column
from gneiss.dedup.minhash import clusters
from gneiss.dedup.minhash.clusters import by_shard, numbers_of
from gneiss.dedup.preference import ranks

#: similarity: to the first document of the cluster; null for that one itself.
SCHEMA = clusters.SCHEMA.append(pa.field("similarity", pa.float64()))


def stars(
    pairs: Iterable[pa.RecordBatch],
    shard_rows: Sequence[int],
    complete: bool = False,
    orders: Iterable[pa.RecordBatch] | None = None,
    known: Iterable[pa.RecordBatch] = (),
    segment: Int64Array | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reduce all verified pairs: for each shard the documents in clusters of two or more (`SCHEMA`, in order of rows).

    Parameters: `pairs`: from `verified`, in any order, each once; `shard_rows`: rows of each shard; `complete`: a
    document joins a cluster only if it resembles all documents in it, as far as it was compared with them; `orders`:
    from `order_of`, for each shard; `known`: documents in clusters that stay as they are, each but the first with that
    one, as a pair from `verified`; `segment`: see `ranks`. Memory: about 70 bytes (not measured) for each pair that is
    similar enough.
    Raises InputError for pairs of documents that do not exist.
    """
    starts = np.concatenate([[0], np.cumsum(np.asarray(shard_rows, np.int64))])
    later, earlier, similarity, is_copy = _accepted(pairs, starts)
    member, its_first, its_similarity, copies = _accepted(known, starts)
    number = np.unique(np.concatenate([later, earlier, member, its_first]))
    rank, of_rank = ranks(number, starts, orders, segment)
    later, earlier, member, its_first = (
        rank[np.searchsorted(number, its)] for its in (later, earlier, member, its_first)
    )
    first, similar, distinct = np.arange(len(number)), np.ones(len(number)), np.ones(len(number), np.int64)
    first[member], similar[member] = its_first, its_similarity
    np.add.at(distinct, its_first[~copies], 1)
    order = np.lexsort((earlier, later))
    _join(later[order], earlier[order], similarity[order], is_copy[order], complete, first, similar, distinct)
    size = np.bincount(first, minlength=len(number))[first]
    in_cluster = size[rank] > 1
    rank, number_of = rank[in_cluster], number[of_rank]
    number, first = number[in_cluster], number_of[first[rank]]
    similarity = pa.array(similar[rank], mask=number == first)
    start = 0
    for batch in by_shard(number, first, size[rank], starts, starts):
        yield pa.record_batch([*batch.columns, similarity.slice(start, batch.num_rows)], schema=SCHEMA)
        start += batch.num_rows


def _accepted(
    pairs: Iterable[pa.RecordBatch], starts: Int64Array
) -> tuple[Int64Array, Int64Array, Float64Array, BoolArray]:
    """The pairs that are similar enough: later, earlier, similarity, is_copy."""
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))]
    for batch in pairs:
        similar = batch.filter(batch.column("similarity").is_valid())
        is_copy = np.asarray(similar.column("is_copy").to_numpy(zero_copy_only=False), np.bool_)
        later, earlier = numbers_of(similar, "", starts), numbers_of(similar, "first_", starts)
        parts.append((later, earlier, column(similar, "similarity"), is_copy))
    later, earlier, similarity, is_copy = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return later, earlier, similarity, is_copy


@njit(cache=True, nogil=True)
def _join(
    later: Int64Array,
    earlier: Int64Array,
    similarity: Float64Array,
    is_copy: BoolArray,
    complete: bool,
    first: Int64Array,
    similar: Float64Array,
    distinct: Int64Array,
) -> None:
    """By rank, the first document of the cluster of each, and the similarity to it; pairs by later, then earlier.

    distinct: by its first, the documents of a cluster, copies not counted.
    """
    resembled = np.zeros(len(first), np.int64)  # of those, how many the document at hand resembles
    pair = 0
    while pair < len(later):
        document, begin = later[pair], pair
        while pair < len(later) and later[pair] == document:
            pair += 1
        if is_copy[begin]:  # it goes where the document with the same words went
            first[document], similar[document] = first[earlier[begin]], similar[earlier[begin]]
            continue
        for at in range(begin, pair):
            resembled[first[earlier[at]]] += 1
        for at in range(begin, pair):
            chosen = earlier[at]
            if first[chosen] == chosen and (not complete or resembled[chosen] == distinct[chosen]):
                first[document], similar[document] = chosen, similarity[at]
                distinct[chosen] += 1
                break
        for at in range(begin, pair):
            resembled[first[earlier[at]]] = 0
