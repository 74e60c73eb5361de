"""Clusters by ranges of a corpus, against clusters of the whole, which a plain search gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.dedup import preference
from gneiss.dedup.minhash import joining
from gneiss.dedup.minhash.clusters import numbers_of
from gneiss.dedup.minhash.joining import Ranges, joined, resolved
from gneiss.dedup.minhash.matching import SCHEMA as EDGES
from tests.dedup.minhash import oracle
from tests.dedup.minhash.test_minhash import through_file


def edges_of(one: Int64Array, other: Int64Array, starts: Int64Array) -> pa.RecordBatch:
    """Pairs of numbers as edges, the later document first; none of a document with itself."""
    later, earlier = np.maximum(one, other), np.minimum(one, other)
    columns = []
    for number in (later[later != earlier], earlier[later != earlier]):
        shard = np.searchsorted(starts, number, side="right") - 1
        columns += [shard.astype(np.uint32), (number - starts[shard]).astype(np.uint32)]
    return pa.record_batch(columns, schema=EDGES)


def by_ranges(
    edges: Iterable[pa.RecordBatch], ranges: Ranges, orders: Sequence[UInt64Array] | None = None
) -> tuple[list[pa.RecordBatch], int]:
    """The batches of all shards, every batch through a file; and how many records were passed on."""
    count = len(ranges)
    sent: list[list[pa.RecordBatch]] = [[] for _ in range(count)]
    for batch in edges:
        for index, part in enumerate(ranges.parted(batch, numbers_of(batch, "", ranges.starts))):
            sent[index].append(part)
    passed: dict[tuple[int, int], list[pa.RecordBatch]] = {}
    for index in reversed(range(count)):
        first, end = ranges.shards[index : index + 2].tolist()
        its_orders = orders and [pa.record_batch([order], schema=preference.SCHEMA) for order in orders[first:end]]
        received = (batch for later in range(index + 1, count) for batch in passed[later, index])
        found = through_file(list(joined(sent[index], received, ranges, index, its_orders)))
        for receiver in range(count):
            passed[index, receiver] = found[receiver::count]
    shards: list[pa.RecordBatch] = []
    answers: list[list[pa.RecordBatch]] = [[] for _ in range(count)]
    for index in range(count):
        received = [passed[later, index] for later in range(index + 1, count)]
        *_, members = passed[index, index]
        found = list(resolved(members, received, answers[index], ranges, index))
        assert len(found) == ranges.shards_in(index) + count
        shards += found[: ranges.shards_in(index)]
        for receiver in range(index + 1, count):
            answers[receiver].append(found[ranges.shards_in(index) + receiver])
    return shards, sum(batch.num_rows for (one, two), batches in passed.items() if one != two for batch in batches)


def rows_of(batches: Iterable[pa.RecordBatch], starts: Int64Array) -> list[tuple[int, int, int]]:
    found = []
    for start, batch in zip(starts.tolist(), batches, strict=False):
        for row, shard, first_row, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            found.append((start + row, int(starts[shard]) + first_row, size))
    return found


@given(st.data())
def test_any_links_as_the_oracle(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 5), max_size=8))
    segment = np.sort(
        np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes))), np.int64)
    )
    ranges = Ranges.of(sizes, data.draw(st.integers(1, 12)), segment)
    starts = ranges.starts
    total = int(starts[-1])
    number = st.integers(0, max(total - 1, 0))
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=30)) if total else []
    neighbours: list[set[int]] = [set() for _ in range(total)]
    for one, other in pairs:
        neighbours[one].add(other)
        neighbours[other].add(one)
    expected = oracle.components_of([neighbour - {one} for one, neighbour in enumerate(neighbours)])
    edges = edges_of(*np.array(pairs, np.int64).reshape(-1, 2).T, starts)
    batches = [edges.slice(0, 7), edges.slice(7)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(joining, "_WAITING", data.draw(st.integers(1, 5)))
        found, _ = by_ranges(batches, ranges)
        assert rows_of(found, starts) == expected
        order = data.draw(st.lists(st.integers(0, 3), min_size=total, max_size=total))
        orders = np.split(np.array(order, np.uint64), starts[1:-1])
        found, _ = by_ranges(batches, ranges, orders if sizes else None)
    preferred: dict[int, int] = {}
    of_document = np.repeat(segment, sizes) if sizes else segment
    for document, first, _ in expected:
        best = preferred.get(first, document)
        preferred[first] = min(best, document, key=lambda one: (of_document[one], order[one], one))
    assert rows_of(found, starts) == [(document, preferred[first], size) for document, first, size in expected]


def shape(name: str, documents: int) -> tuple[Int64Array, Int64Array]:
    """Links of all documents to one cluster."""
    rising, choose = np.arange(1, documents), np.random.default_rng(3)
    if name == "path":
        return rising, rising - 1
    if name == "star":
        return rising, np.zeros_like(rising)
    if name == "star around the last":
        return rising - 1, np.full_like(rising, documents - 1)
    if name == "path in any order":
        order = choose.permutation(documents)
        return order[1:], order[:-1]
    return rising, choose.integers(0, rising)  # a random tree


SHAPES = ["path", "star", "star around the last", "path in any order", "tree"]


def check_one_cluster(name: str, documents: int, shards: int, most_documents: int) -> None:
    ranges = Ranges.of([documents // shards] * shards, most_documents)
    assert len(ranges) > 5
    edges = edges_of(*shape(name, documents), ranges.starts)
    found, passed = by_ranges([edges.slice(start, 1 << 20) for start in range(0, documents, 1 << 20)], ranges)
    for start, batch in zip(ranges.starts.tolist(), found, strict=False):
        assert batch.num_rows == documents // shards
        first = numbers_of(batch, "first_", ranges.starts)
        assert not first.any(), start
        assert set(batch["size"].unique().to_pylist()) == {documents}
    assert passed <= len(ranges) * documents


@pytest.mark.parametrize("name", SHAPES)
def test_a_cluster_of_all_documents(name: str) -> None:
    check_one_cluster(name, 2000, 40, 300)


@pytest.mark.parametrize(("name", "documents"), [*((name, 1_000_000) for name in SHAPES), ("tree", 10_000_000)])
@pytest.mark.exhaustive
def test_a_cluster_of_millions(name: str, documents: int) -> None:
    check_one_cluster(name, documents, 100, documents // 8)


def test_ranges_are_of_whole_shards() -> None:
    assert Ranges.of([], 5).shards.tolist() == [0, 0]
    assert Ranges.of([9, 1, 0, 0], 5).shards.tolist() == [0, 1, 4]
