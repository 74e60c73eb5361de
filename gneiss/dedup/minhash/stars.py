"""Clusters of verified pairs: each document resembles the one that represents it, or every one in its cluster.

Documents are gone through in order of preference. One joins the first representative that it resembles; if there is
none, it is one itself. So no chain joins two documents that have little in common.

What a document does depends on those before it. So documents are cut into ranges, in that order, and `stars` decides on
one range after another. Of a range's pairs with later ones, `passed_on` hands on to these what they need: the pairs
whose earlier document can be joined. At last `sized` counts the clusters. A task holds the clusters of a range's
documents, and some pairs at a time, however many documents a cluster has, or however many resemble each other in turn.
Source: time-forward processing (Chiang et al. 1995, External-Memory Graph Algorithms).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, BoolArray, Float64Array, Int64Array, UInt64Array, distinct_values
from gneiss.dedup.corpus_scope.records import by_receiver, column
from gneiss.dedup.minhash import clusters
from gneiss.dedup.minhash.clusters import by_shard, numbers_of
from gneiss.dedup.preference import Cuts

#: similarity: to the first document of the cluster; null for that one itself.
SCHEMA = clusters.SCHEMA.append(pa.field("similarity", pa.float64()))
#: Pairs that are similar enough, by the numbers of their documents in the corpus, with their orders (`order_of`).
PAIRS = pa.schema(
    [
        ("later", pa.int64()),
        ("earlier", pa.int64()),
        ("later_order", pa.uint64()),
        ("earlier_order", pa.uint64()),
        ("similarity", pa.float64()),
        ("is_copy", pa.bool_()),
    ]
)
#: The same, with the first document of the earlier one's cluster, and how similar the earlier one is to it.
PASSED = PAIRS.append(pa.field("first", pa.int64())).append(pa.field("first_similarity", pa.float64()))
#: Documents in clusters that are not the first: with that one.
MEMBERS = pa.schema(
    [
        ("document", pa.int64()),
        ("first", pa.int64()),
        ("similarity", pa.float64()),
        ("is_copy", pa.bool_()),
    ]
)
#: Pairs that a task holds at a time, about.
MOST_PAIRS = 1 << 20
#: Of a task over a range, for each of its documents.
BYTES_PER_DOCUMENT = 160
_PAIRS_PER_SAMPLE = 64


@dataclass(frozen=True, eq=False)
class Members:
    """Documents in clusters that are not the first, rising: arrays (documents,)."""

    document: Int64Array
    first: Int64Array
    similarity: Float64Array
    is_copy: BoolArray

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> Members:
        """From batches of `MEMBERS`, in any order."""
        found = pa.Table.from_batches(batches, MEMBERS).combine_chunks().sort_by("document")
        return cls(*(column(found, name) for name in MEMBERS.names))

    def to_batch(self) -> pa.RecordBatch:
        """See `MEMBERS`."""
        return pa.record_batch([getattr(self, field.name) for field in fields(self)], schema=MEMBERS)

    def of_documents(self, document: Int64Array) -> tuple[Int64Array, Float64Array]:
        """The first document of the cluster of each, itself where it is none of these; and how similar it is to it."""
        first, similarity = document.copy(), np.ones(len(document))
        at = np.searchsorted(self.document, document)
        is_member = np.append(self.document, -1)[at] == document
        first[is_member], similarity[is_member] = self.first[at[is_member]], self.similarity[at[is_member]]
        return first, similarity


def accepted(verified: Iterable[pa.RecordBatch], starts: Int64Array, cuts: Cuts) -> Iterator[pa.RecordBatch]:
    """The pairs that are similar enough (`PAIRS`): of each batch one for each range, which has the earlier document.

    Parameters: `verified`: from there, in any order, each pair once; `starts`: the number of each shard's first
    document, and the end; `cuts`: between ranges. Raises InputError for pairs of documents that do not exist.
    """
    for batch in verified:
        similar = batch.filter(batch.column("similarity").is_valid())
        later, earlier = (numbers_of(similar, which, starts) for which in ("", "first_"))
        others = similar.select(["order", "first_order", "similarity", "is_copy"])
        pairs = pa.record_batch([later, earlier, *others.columns], schema=PAIRS)
        yield from by_receiver(pairs, cuts.part_of(column(others, "first_order"), earlier), len(cuts))


def stars(
    pairs: Iterable[pa.RecordBatch],
    passed: Sequence[Iterable[pa.RecordBatch]],
    cuts: Cuts,
    index: int,
    segments: Int64Array,
    known: Iterable[pa.RecordBatch] = (),
    before: Callable[[], Iterable[pa.RecordBatch]] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Decide on a range: its documents that join a cluster (`MEMBERS`), in batches.

    Parameters: `pairs`: from `accepted`, for this range; `passed`: what each earlier range passed on to it; both are
    iterated several times; `cuts`: between ranges; `index`: of the range; `segments`: the first number of each segment,
    rising: documents of an earlier one are preferred, whatever their order is; `known`: members in the range that stay
    as they are (`MEMBERS`); `before`: the members in all earlier ranges, if a document joins a cluster only if it
    resembles all documents in it, as far as it was compared with them; None: if it resembles the first.
    """
    members = Members.of(known)
    yield members.to_batch()
    passes = _passes(chain(pairs, *passed), cuts, index)
    for turn in range(len(passes)):

        def in_turn(batch: pa.RecordBatch, turn: int = turn) -> pa.RecordBatch:
            later = _laters(batch)
            return batch.filter(pa.array(cuts.are_in(index, *later) & passes.are_in(turn, *later)))

        inner, outer = (
            pa.Table.from_batches(map(in_turn, batches), schema)
            for batches, schema in ((pairs, PAIRS), (chain.from_iterable(passed), PASSED))
        )
        joined = _Pairs.of(inner, outer, members).joined(segments, members, before)
        yield joined.to_batch()
        members = Members.of([members.to_batch(), joined.to_batch()])


def passed_on(
    pairs: Iterable[pa.RecordBatch], members: Iterable[pa.RecordBatch], cuts: Cuts, index: int, complete: bool
) -> Iterator[pa.RecordBatch]:
    """What later ranges need of a range (`PASSED`): of each batch one for each range.

    Parameters: `pairs`: see `stars`; `members`: from there; `complete`: whether a document must resemble all of a
    cluster.
    """
    of_range = Members.of(members)
    for batch in pairs:
        outer = batch.filter(pa.array(~cuts.are_in(index, *_laters(batch))))
        earlier = column(outer, "earlier")
        first, similarity = of_range.of_documents(earlier)
        passed = pa.record_batch([*outer.columns, first, similarity], schema=PASSED)
        if not complete:
            passed = passed.filter(pa.array(column(outer, "is_copy") | (first == earlier)))
        yield from by_receiver(passed, cuts.part_of(*_laters(passed)), len(cuts))


def sized(members: Sequence[Iterable[pa.RecordBatch]], starts: Int64Array, before: int = 0) -> Iterator[pa.RecordBatch]:
    """The documents of clusters, with the size of each (`SCHEMA`), in batches for each shard from `before` on, in turn.

    Parameters: `members`: from `stars`, of each range, iterated twice: all of the clusters, or of some of them;
    `starts`: see `accepted`.
    """
    firsts, sizes = np.empty(0, np.int64), np.empty(0, np.int64)
    for batch in chain.from_iterable(members):
        first, count = np.unique(column(batch, "first"), return_counts=True)
        fresh = np.setdiff1d(first, firsts, assume_unique=True)
        place = np.searchsorted(firsts, fresh)
        firsts, sizes = np.insert(firsts, place, fresh), np.insert(sizes, place, 1)
        sizes[np.searchsorted(firsts, first)] += count
    themselves = Members(firsts, firsts, np.ones(len(firsts)), np.zeros(len(firsts), np.bool_))
    for batch in chain.from_iterable([*members, [themselves.to_batch()]]):
        of_batch = Members.of([batch])
        own = slice(int(np.searchsorted(of_batch.document, starts[before])), None)
        document, first = of_batch.document[own], of_batch.first[own]
        similarity, start = pa.array(of_batch.similarity[own], mask=document == first), 0
        for part in by_shard(document, first, sizes[np.searchsorted(firsts, first)], starts[before:], starts):
            columns = [*part.columns, similarity.slice(start, part.num_rows)]
            yield pa.record_batch(columns, schema=SCHEMA)
            start += part.num_rows


def of_shard(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The documents of a shard in clusters, in order of rows (`SCHEMA`), from all batches of `sized` for it."""
    return pa.concat_batches(list(batches)).sort_by("row")


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs and the clusters of their earlier documents; arrays (pairs,)."""

    later: Int64Array
    earlier: Int64Array
    later_order: UInt64Array
    earlier_order: UInt64Array
    similarity: Float64Array
    is_copy: BoolArray
    first: Int64Array
    first_similarity: Float64Array

    @classmethod
    def of(cls, inner: pa.Table, outer: pa.Table, members: Members) -> _Pairs:
        """Those within a range (`PAIRS`), which has these members so far, and those passed on to it (`PASSED`)."""
        known = members.of_documents(column(inner, "earlier"))
        parts = ([*_arrays(inner), *known], _arrays(outer))
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def joined(
        self,
        segments: Int64Array,
        members: Members,
        before: Callable[[], Iterable[pa.RecordBatch]] | None,
    ) -> Members:
        """The later documents that join a cluster."""
        number = distinct_values(np.concatenate([self.later, self.earlier, self.first]))
        later, earlier, first_of_earlier = (
            np.searchsorted(number, documents) for documents in (self.later, self.earlier, self.first)
        )
        first, similar = np.arange(len(number)), np.ones(len(number))
        first[earlier], similar[earlier] = first_of_earlier, self.first_similarity
        distinct = np.ones(len(number), np.int64)
        for batch in [] if before is None else chain(before(), [members.to_batch()]):
            joined = column(batch, "first")[~column(batch, "is_copy")]
            at = np.searchsorted(number, joined)
            distinct += np.bincount(at[np.append(number, -1)[at] == joined], minlength=len(number))
        order = self._order(segments)
        _join(
            later[order], earlier[order], self.similarity[order], self.is_copy[order], before is not None,
            first, similar, distinct,
        )  # fmt: skip
        at, pair = np.unique(later, return_index=True)
        joined = first[at] != at
        at = at[joined]
        return Members(number[at], number[first[at]], similar[at], self.is_copy[pair[joined]])

    def _order(self, segments: Int64Array) -> Int64Array:
        """By the later document, then the earlier one, in order of preference."""
        segment = np.searchsorted(segments, self.earlier, side="right")
        return np.lexsort((self.earlier, self.earlier_order, segment, self.later, self.later_order))


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
    """The first document of the cluster of each, and the similarity to it; pairs by later, then earlier document.

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


def _passes(batches: Iterable[pa.RecordBatch], cuts: Cuts, index: int) -> Cuts:
    """Cuts of a range, between which its pairs are about as many as a task holds."""
    orders, laters, count = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for batch in batches:
        order, later = _laters(batch)
        in_range = np.flatnonzero(cuts.are_in(index, order, later))
        sample = in_range[::_PAIRS_PER_SAMPLE]
        orders.append(order[sample])
        laters.append(later[sample])
        count += len(in_range)
    return Cuts.evenly(np.concatenate(orders), np.concatenate(laters), 1 + count // MOST_PAIRS)


def _laters(batch: pa.RecordBatch) -> tuple[UInt64Array, Int64Array]:
    """The order and the number of the later documents of pairs."""
    return column(batch, "later_order"), column(batch, "later")


def _arrays(table: pa.Table) -> list[AnyArray]:
    """All columns, not null."""
    return [column(table, name) for name in table.column_names]
