"""Clusters of verified pairs by ranges, against the definition: all documents in order of preference, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import Int64Array
from gneiss.dedup.corpus_scope.records import column
from gneiss.dedup.minhash import stars as stars_module
from gneiss.dedup.minhash import verified
from gneiss.dedup.minhash.stars import MEMBERS, accepted, of_shard, passed_on, sized, stars
from gneiss.dedup.preference import Cuts
from tests.dedup.minhash.test_minhash import through_file

NO_MEMBERS = pa.RecordBatch.from_pylist([], MEMBERS)


class Pair(NamedTuple):
    """Of documents by their numbers; similarity: None where it is not enough."""

    later: int
    earlier: int
    similarity: float | None
    is_copy: bool = False


def by_ranges(
    pairs: Iterable[pa.RecordBatch],
    starts: Int64Array,
    cuts: Cuts,
    complete: bool,
    segments: Int64Array,
    known: pa.RecordBatch = NO_MEMBERS,
) -> tuple[list[pa.RecordBatch], int]:
    """The batches of all shards, every batch through a file; and how many pairs were passed on."""
    count = len(cuts)
    sent = list(accepted(pairs, starts, cuts))
    members: list[list[pa.RecordBatch]] = []
    passed: list[list[pa.RecordBatch]] = []
    of_known = cuts.part_of(np.zeros(known.num_rows, np.uint64), column(known, "document"))
    for index in range(count):
        received = [batches[index::count] for batches in passed]
        found = stars(
            sent[index::count], received, cuts, index, segments, [known.filter(pa.array(of_known == index))],
            (lambda: chain.from_iterable(members)) if complete else None,
        )  # fmt: skip
        members.append(through_file(list(found)))
        passed.append(through_file(list(passed_on(sent[index::count], members[-1], cuts, index, complete))))
    shards = len(starts) - 1
    batches = through_file(list(sized(members, starts)))
    count_passed = sum(batch.num_rows for batches in passed for batch in batches)
    return [of_shard(batches[shard::shards]) for shard in range(shards)], count_passed


def batch_of(pairs: Sequence[Pair], starts: Int64Array, order: Sequence[int]) -> pa.RecordBatch:
    """Pairs as from `verified`."""
    columns: list[list[int]] = []
    for numbers in ([pair.later for pair in pairs], [pair.earlier for pair in pairs]):
        shard = np.searchsorted(starts, numbers, side="right") - 1
        columns += [shard.tolist(), (numbers - starts[shard]).tolist(), [order[number] for number in numbers]]
    values = [*columns, [pair.is_copy for pair in pairs], [pair.similarity for pair in pairs]]
    arrays = [pa.array(column, field.type) for column, field in zip(values, verified.SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=verified.SCHEMA)


def rows_of(shards: Iterable[pa.RecordBatch], starts: Int64Array) -> list[tuple[int, int, int, float | None]]:
    """Document, first, size and similarity of each in a cluster."""
    found = []
    for start, batch in zip(starts.tolist(), shards, strict=False):
        for row, shard, first_row, size, similarity in zip(
            *(values.to_pylist() for values in batch.columns), strict=True
        ):
            found.append((start + row, int(starts[shard]) + first_row, size, similarity))
    return found


def expected(
    pairs: Iterable[Pair],
    in_order: Sequence[int],
    complete: bool,
    known: Mapping[int, tuple[int, float, bool]],
) -> list[tuple[int, int, int, float | None]]:
    """The definition."""
    place = {document: number for number, document in enumerate(in_order)}
    first: dict[int, int] = {}
    similarity: dict[int, float | None] = {}
    distinct: dict[int, set[int]] = {}
    for document in in_order:
        first[document], similarity[document] = document, None
        own = [pair for pair in pairs if pair.later == document and pair.similarity is not None]
        own.sort(key=lambda pair: place[pair.earlier])
        if document in known:
            first[document], similarity[document], is_copy = known[document]
            if is_copy:
                continue
        elif own and own[0].is_copy:
            first[document] = first[own[0].earlier]
            similarity[document] = similarity[own[0].earlier] or 1.0
            continue
        else:
            alike = {pair.earlier for pair in own}
            for pair in own:
                needed = distinct[pair.earlier] if complete and first[pair.earlier] == pair.earlier else {pair.earlier}
                if first[pair.earlier] == pair.earlier and needed <= alike:
                    first[document], similarity[document] = pair.earlier, pair.similarity
                    break
        distinct.setdefault(first[document], set()).add(document)
    size = Counter(first.values())
    return sorted((document, one, size[one], similarity[document]) for document, one in first.items() if size[one] > 1)


@given(st.data())
def test_any_pairs_as_the_definition(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    starts = np.append(0, np.cumsum(sizes))
    total, before = int(starts[-1]), data.draw(st.integers(0, len(sizes) - 1))
    own = int(starts[before])
    order = data.draw(st.lists(st.integers(1, 4), min_size=total, max_size=total))
    segment = np.where(np.arange(total) < own, np.arange(total) * 2 // max(own, 1), 2)  # two known ones, and the own
    segments = np.unique(segment, return_index=True)[1] if total else np.zeros(0, np.int64)
    in_order = sorted(range(total), key=lambda document: (segment[document], order[document], document))
    known: dict[int, tuple[int, float, bool]] = {}
    pairs: list[Pair] = []
    compared: list[int] = []  # those that are no copies
    for document in in_order:
        is_copy = bool(compared) and data.draw(st.booleans())
        if document >= own and compared:
            some = data.draw(st.lists(st.sampled_from(compared), unique=True, max_size=1 if is_copy else 5))
            similarities = [1.0 if is_copy else data.draw(st.sampled_from([None, 0.5, 0.9])) for _ in some]
            pairs += [Pair(document, other, value, is_copy) for other, value in zip(some, similarities, strict=True)]
        elif compared and data.draw(st.booleans()):
            firsts = [other for other in compared if other not in known]
            known[document] = (data.draw(st.sampled_from(firsts)), 0.75, is_copy)
        compared += [] if is_copy else [document]
    pairs = data.draw(st.permutations(pairs))
    places = data.draw(st.lists(st.sampled_from(in_order), unique=True, max_size=4)) if total else []
    keys = sorted((0 if place < own else order[place], place) for place in places)
    cuts = Cuts(
        *(np.array([key[half] for key in keys], type_) for half, type_ in enumerate((np.uint64, np.int64))), own
    )
    complete = data.draw(st.booleans())
    members = [dict(zip(MEMBERS.names, (document, *known[document]), strict=True)) for document in sorted(known)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stars_module, "MOST_PAIRS", data.draw(st.integers(1, 5)))
        patched.setattr(stars_module, "_PAIRS_PER_SAMPLE", data.draw(st.integers(1, 3)))
        batch = batch_of(pairs, starts, order)
        found, _ = by_ranges(
            [batch.slice(0, 5), batch.slice(5)], starts, cuts, complete, segments,
            pa.RecordBatch.from_pylist(members, MEMBERS),
        )  # fmt: skip
    assert rows_of(found, starts) == expected(pairs, in_order, complete, known)


def shape(name: str, documents: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The later and earlier documents of pairs, and the first document of each one's cluster."""
    number = np.arange(documents)
    if name == "star":
        return number[1:], np.zeros_like(number[1:]), np.zeros_like(number)
    if name == "star around the last":
        return np.full_like(number[1:], documents - 1), number[:-1], np.append(number[:-1], 0)
    return number[1:], number[:-1], number // 2 * 2  # a path: every second one is joined


SHAPES = ["star", "star around the last", "path"]


def check_shape(name: str, documents: int, ranges: int, most_pairs: int, complete: bool) -> None:
    later, earlier, first = shape(name, documents)
    starts = np.arange(0, documents + 1, documents // 10)
    columns = [
        values
        for number in (later, earlier)
        for values in ((number // starts[1]).astype(np.uint32), (number % starts[1]).astype(np.uint32),
                       np.zeros(len(number), np.uint64))
    ]  # fmt: skip
    batch = pa.record_batch([*columns, np.zeros(len(later), np.bool_), np.ones(len(later))], schema=verified.SCHEMA)
    cuts = Cuts(np.zeros(ranges - 1, np.uint64), np.arange(1, ranges) * documents // ranges)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stars_module, "MOST_PAIRS", most_pairs)
        batches = [batch.slice(start, 1 << 20) for start in range(0, len(later), 1 << 20)]
        found, passed = by_ranges(batches, starts, cuts, complete, starts[:1])
    assert passed <= len(later)
    size = np.bincount(first)
    for shard, of_one in enumerate(found):
        own = np.arange(starts[shard], starts[shard + 1])
        own = own[size[first[own]] > 1]
        assert (column(of_one, "row") == own - starts[shard]).all()
        assert (starts[column(of_one, "first_shard")] + column(of_one, "first_row") == first[own]).all()
        assert (column(of_one, "size").astype(np.int64) == size[first[own]]).all()


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_long_and_large(name: str, complete: bool) -> None:
    check_shape(name, 2000, 7, 100, complete and name != "star")


@pytest.mark.parametrize(("name", "documents"), [*((name, 1_000_000) for name in SHAPES), ("star", 10_000_000)])
@pytest.mark.exhaustive
def test_millions(name: str, documents: int) -> None:
    check_shape(name, documents, 8, documents // 30, complete=False)
