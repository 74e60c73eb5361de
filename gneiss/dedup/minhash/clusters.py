"""Last stage: clusters, the connected components of documents that match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, Int, Int64Array
from gneiss.dedup.corpus_scope.records import column, expect, parted
from gneiss.dedup.preference import ranks

SCHEMA = pa.schema(
    [
        ("row", pa.uint32()),
        ("first_shard", pa.uint32()),
        ("first_row", pa.uint32()),
        ("size", pa.uint64()),
    ]
)
#: For each document another of its cluster that comes earlier; for the first of a cluster minus its size.
_NARROW_LIMIT = 2**31


def clusters(
    edges: Iterable[pa.RecordBatch],
    shard_rows: Sequence[int],
    orders: Iterable[pa.RecordBatch] | None = None,
    segment: Int64Array | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reduce all edges: for each shard the documents in clusters of two or more (`SCHEMA`, in order of rows).

    Parameters: `edges`: from `matched`, of all partitions, in any order, iterated once; `shard_rows`: rows of each
    shard; `orders`: from `order_of`, for each shard: the first of a cluster is the one that comes first in it; by
    default the earliest in corpus order; `segment`: see `ranks`. Memory: 4 bytes for each document of the corpus, 8
    from 2^31 documents on, and one batch of edges; with `orders` about 60 bytes (not measured) for each edge.
    Raises InputError for edges between documents that do not exist.
    """
    starts = np.concatenate([[0], np.cumsum(np.asarray(shard_rows, np.int64))])
    total = int(starts[-1])
    if orders is not None:
        yield from _clusters_in_order(edges, starts, orders, segment)
        return
    links = np.full(total, -1, np.int32 if total < _NARROW_LIMIT else np.int64)
    for batch in edges:
        _unite(links, numbers_of(batch, "", starts), numbers_of(batch, "first_", starts))
    for start, end in pairwise(starts.tolist()):
        row, first, size = _members(links, start, end)
        (batch,) = by_shard(row + start, first, size, np.array([start, end]), starts)
        yield batch


def _clusters_in_order(
    edges: Iterable[pa.RecordBatch],
    starts: Int64Array,
    orders: Iterable[pa.RecordBatch],
    segment: Int64Array | None,
) -> Iterator[pa.RecordBatch]:
    parts = [(numbers_of(batch, "", starts), numbers_of(batch, "first_", starts)) for batch in edges]
    nothing = (np.empty(0, np.int64),) * 2
    one, other = (np.concatenate(half) for half in zip(nothing, *parts, strict=True))
    number = np.unique(np.concatenate([one, other]))
    rank, of_rank = ranks(number, starts, orders, segment)
    links = np.full(len(number), -1)
    _unite(links, rank[np.searchsorted(number, one)], rank[np.searchsorted(number, other)])
    _, first, size = _members(links, 0, len(links))
    return by_shard(number, number[of_rank][first][rank], size[rank], starts, starts)


def by_shard(
    number: Int64Array, first: Int64Array, size: Int64Array, bounds: Int64Array, starts: Int64Array
) -> Iterator[pa.RecordBatch]:
    """Documents, the first of the cluster of each and its size, by their numbers in the corpus (`SCHEMA`).

    Parameters: `bounds`: the first number of each shard that is asked for, and the end; `starts`: of all shards.
    """
    shard = np.searchsorted(starts, first, side="right") - 1
    at = np.searchsorted(number, bounds)
    columns = [number - np.repeat(bounds[:-1], np.diff(at)), shard, first - starts[shard]]
    batch = pa.record_batch([*(values.astype(np.uint32) for values in columns), size.astype(np.uint64)], schema=SCHEMA)
    yield from parted(batch, at)


def numbers_of(edges: pa.RecordBatch, which: str, starts: Int64Array) -> Int64Array:
    """The numbers in the corpus of the documents in the columns `shard` and `row`, with a prefix."""
    shard = column(edges, f"{which}shard").astype(np.int64)
    expect(len(shard) == 0 or int(shard.max()) < len(starts) - 1, f"edges to shard {shard.max(initial=0)}")
    number = starts[shard] + column(edges, f"{which}row")
    expect(bool((number < starts[shard + 1]).all()), "edges to rows beyond the end of their shard")
    return np.asarray(number, np.int64)


@njit(cache=True, nogil=True)
def _unite(links: AnyArray, one: Int64Array, other: Int64Array) -> None:
    for i in range(len(one)):
        a, b = first_of(links, one[i]), first_of(links, other[i])
        if a != b:
            earlier, later = min(a, b), max(a, b)
            links[earlier] += links[later]
            links[later] = earlier


@njit(cache=True, nogil=True)
def first_of(links: AnyArray, document: Int) -> Int:
    """The first of a document's cluster; on the way there, links are made shorter."""
    while links[document] >= 0:
        linked = links[document]
        if links[linked] >= 0:
            links[document] = links[linked]
        document = linked
    return document


@njit(cache=True, nogil=True)
def _members(links: AnyArray, start: Int, end: Int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Row, first and cluster size of each document between two places that is in a cluster."""
    count = 0
    for document in range(start, end):
        count += links[document] != -1
    row, first, size = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    written = 0
    for document in range(start, end):
        if links[document] != -1:
            row[written], first[written] = document - start, first_of(links, document)
            size[written] = -links[first[written]]
            written += 1
    return row, first, size
