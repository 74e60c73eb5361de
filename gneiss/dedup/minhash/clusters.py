"""Last stage: clusters, the connected components of documents that match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, Int, Int64Array
from gneiss.dedup.corpus_scope.records import column, expect

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


def clusters(edges: Iterable[pa.RecordBatch], shard_rows: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Reduce all edges: for each shard the documents in clusters of two or more (`SCHEMA`, in order of rows).

    Parameters: `edges`: from `matched`, of all partitions, in any order, iterated once; `shard_rows`: rows of each
    shard. The first of a cluster is the earliest in corpus order. Memory: 4 bytes for each document of the corpus, 8
    from 2^31 documents on, and one batch of edges. Raises InputError for edges between documents that do not exist.
    """
    starts = np.concatenate([[0], np.cumsum(np.asarray(shard_rows, np.int64))])
    total = int(starts[-1])
    links = np.full(total, -1, np.int32 if total < _NARROW_LIMIT else np.int64)
    for batch in edges:
        _unite(links, _numbers(batch, "", starts), _numbers(batch, "first_", starts))
    for start, end in pairwise(starts.tolist()):
        row, first, size = _members(links, start, end)
        first_shard = np.searchsorted(starts, first, side="right") - 1
        columns = (row, first_shard, first - starts[first_shard])
        yield pa.record_batch(
            [*(values.astype(np.uint32) for values in columns), size.astype(np.uint64)], schema=SCHEMA
        )


def _numbers(edges: pa.RecordBatch, which: str, starts: Int64Array) -> Int64Array:
    """The places of documents in the corpus."""
    shard = column(edges, f"{which}shard").astype(np.int64)
    expect(len(shard) == 0 or int(shard.max()) < len(starts) - 1, f"edges to shard {shard.max(initial=0)}")
    number = starts[shard] + column(edges, f"{which}row")
    expect(bool((number < starts[shard + 1]).all()), "edges to rows beyond the end of their shard")
    return np.asarray(number, np.int64)


@njit(cache=True, nogil=True)
def _unite(links: AnyArray, one: Int64Array, other: Int64Array) -> None:
    for i in range(len(one)):
        a, b = _first(links, one[i]), _first(links, other[i])
        if a != b:
            earlier, later = min(a, b), max(a, b)
            links[earlier] += links[later]
            links[later] = earlier


@njit(cache=True, nogil=True)
def _first(links: AnyArray, document: Int) -> Int:
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
            row[written], first[written] = document - start, _first(links, document)
            size[written] = -links[first[written]]
            written += 1
    return row, first, size
