"""Clusters: what is said of each document in one, and the links by which a document finds the first of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, Int, Int64Array
from gneiss.dedup.corpus_scope.records import column, expect, parted

#: The documents of a shard in clusters of two or more, in order of rows.
SCHEMA = pa.schema(
    [
        ("row", pa.uint32()),
        ("first_shard", pa.uint32()),
        ("first_row", pa.uint32()),
        ("size", pa.uint64()),
    ]
)


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
def first_of(links: AnyArray, document: Int) -> Int:
    """The first of a document's cluster; on the way there, links are made shorter."""
    while links[document] >= 0:
        linked = links[document]
        if links[linked] >= 0:
            links[document] = links[linked]
        document = linked
    return document
