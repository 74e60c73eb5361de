"""Clusters of a corpus that no task holds whole: ranges of shards, gone through twice.

From the last range to the first, `joined` unites the documents of a range that are linked. A component that earlier
ranges have a part in is linked to the earliest of its documents there, and so are the others of them, in the range of
each: as many links are passed on as came, at most. From the first range to the last, `resolved` says which cluster each
component belongs to. So a task holds a range, however long a path or large a cluster is, and each link is read once in
each range that it is passed on to.
Source: the elimination order of union-find over a graph in external memory; compare Chiang et al. 1995, External-Memory
Graph Algorithms, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, Int, Int64Array, UInt64Array
from gneiss.dedup.corpus_scope.records import column, parted
from gneiss.dedup.minhash.clusters import SCHEMA as CLUSTERS
from gneiss.dedup.minhash.clusters import by_shard, first_of, numbers_of

#: To an earlier range: a document there and another in its component. One that comes earlier is a link; one that comes
#: later is the first of a component of the sender, with its documents and the preferred one of them. To the range
#: itself: each document that is in a component, and what it is linked to.
SCHEMA = pa.schema([(name, pa.uint64()) for name in ("document", "other", "size", "order", "preferred")])
#: Links that are passed on wait until there are so many.
_WAITING = 1 << 20
#: Of a task over a range, for each of its documents.
BYTES_PER_DOCUMENT = 80
_NARROW_LIMIT = 2**31


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges of consecutive shards.

    starts: the first number of each shard's documents, and the end, int64 (shards + 1,); shards: the first shard of
    each range, and the end, int64 (ranges + 1,); segments: the first number of each segment, int64 (segments,):
    documents of an earlier one are preferred, whatever their order is.
    """

    starts: Int64Array
    shards: Int64Array
    segments: Int64Array

    @classmethod
    def of(cls, shard_rows: Sequence[int], most_documents: int, segment: Int64Array | None = None) -> Ranges:
        """As few as have at most so many documents, or one shard; `segment`: of each shard, rising, default one of all.

        >>> Ranges.of([3, 3, 9, 1, 1], 6).shards.tolist()
        [0, 2, 3, 5]
        """
        starts = np.append(0, np.cumsum(np.asarray(shard_rows, np.int64)))
        shards = [0]
        for shard in range(1, len(shard_rows)):
            if starts[shard + 1] - starts[shards[-1]] > most_documents:
                shards.append(shard)
        segment = np.zeros(len(shard_rows), np.int64) if segment is None else segment
        return cls(starts, np.array([*shards, len(shard_rows)]), starts[:-1][np.diff(segment, prepend=-1) > 0])

    def __len__(self) -> int:
        return len(self.shards) - 1

    def of_shard(self, shard: int) -> int:
        """The range that a shard is in."""
        return int(np.searchsorted(self.shards, shard, side="right")) - 1

    def shards_in(self, index: int) -> int:
        """How many shards a range has."""
        return int(self.shards[index + 1] - self.shards[index])

    def documents(self, index: int) -> tuple[int, int]:
        """The first number of a range's documents, and the end."""
        first, end = self.starts[self.shards[index : index + 2]].tolist()
        return first, end

    def parted(self, batch: pa.RecordBatch, document: Int64Array) -> list[pa.RecordBatch]:
        """A batch for each range, of the records about its documents."""
        order = np.argsort(document, kind="stable")
        ordered = batch if (order == np.arange(len(order))).all() else batch.take(pa.array(order))
        return parted(ordered, np.searchsorted(document[order], self.starts[self.shards]))


@dataclass(frozen=True, eq=False)
class Components:
    """Components of a range's documents, which come by their places in it; arrays (documents,) that change.

    links: another document of its component that comes earlier; minus the documents of the component, if there is none;
    outer: for the first of a component the earliest document in it of an earlier range, or -1; order, preferred: for
    the first the order and the number of the document that is preferred; both empty where it is the first; segments:
    see Ranges.
    """

    base: int
    links: AnyArray
    outer: Int64Array
    order: UInt64Array
    preferred: Int64Array
    segments: Int64Array

    @classmethod
    def of(cls, ranges: Ranges, index: int, orders: Iterable[pa.RecordBatch] | None) -> Components:
        """Each document by itself; `orders`: from `order_of`, for each shard of the range."""
        base, end = ranges.documents(index)
        wide = np.int32 if ranges.starts[-1] < _NARROW_LIMIT else np.int64
        order = np.empty(0, np.uint64)
        if orders is not None:
            order = np.concatenate([order, *(column(batch, "order") for batch in orders)])
        return cls(
            base, np.full(end - base, -1, wide), np.full(end - base if index else 0, -1), order,
            np.arange(base, base + len(order)), ranges.segments,
        )  # fmt: skip

    def link(self, document: Int64Array, other: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Unite documents of the range with earlier ones; returns the links to pass on, the later document first."""
        later, earlier = np.empty_like(document), np.empty_like(document)
        count = _link(
            self.links, self.outer, self.order, self.preferred, self.segments, self.base,
            document, other, later, earlier,
        )  # fmt: skip
        return later[:count], earlier[:count]

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the components of later ranges to those of their documents here."""
        document, _, size, order, preferred = (column(batch, name) for name in SCHEMA.names)
        _add(
            self.links, self.order, self.preferred, self.segments, self.base,
            document, size, order, preferred.astype(np.int64),
        )  # fmt: skip

    def members(self) -> pa.RecordBatch:
        """The documents that are in a component with another, rising (`SCHEMA`)."""
        is_member = self.links != -1
        if len(self.outer):
            is_member |= self.outer >= 0
        place = np.flatnonzero(is_member)
        first = np.empty_like(place)
        _firsts(self.links, place, first)
        other = first + self.base
        if len(self.outer):
            other = np.where((first == place) & (self.outer[first] >= 0), self.outer[first], other)
        order = self.order[first] if len(self.order) else np.zeros(len(place), np.uint64)
        preferred = self.preferred[first] if len(self.order) else first + self.base
        columns = [place + self.base, other, -self.links[first].astype(np.int64), order, preferred]
        return pa.record_batch([values.astype(np.uint64) for values in columns], schema=SCHEMA)


def joined(
    edges: Iterable[pa.RecordBatch],
    passed: Iterable[pa.RecordBatch],
    ranges: Ranges,
    index: int,
    orders: Iterable[pa.RecordBatch] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Unite the documents of a range: batches for each of the ranges in turn (`SCHEMA`), the last for itself.

    Parameters: `edges`: from `matched`, of all partitions, whose later document is in the range; `passed`: what later
    ranges sent to it; `index`: of the range; `orders`: from `order_of`, for its shards; by default the earliest
    document of a cluster comes first. Raises InputError for edges between documents that do not exist.
    """
    components = Components.of(ranges, index, orders)
    waiting: list[tuple[Int64Array, Int64Array]] = []
    for document, other in _links(edges, passed, ranges.starts, components):
        waiting.append(components.link(document, other))
        if sum(len(later) for later, _ in waiting) >= _WAITING:
            yield from _passed_on(waiting, ranges)
            waiting.clear()
    yield from _passed_on(waiting, ranges)
    members = components.members()
    outer = members.filter(pa.array(column(members, "other") < components.base))
    sent = ranges.parted(
        outer.select(["other", "document", *SCHEMA.names[2:]]).rename_columns(SCHEMA.names),
        column(outer, "other").astype(np.int64),
    )  # fmt: skip
    sent[index] = members
    yield from sent


def resolved(
    members: pa.RecordBatch,
    passed: Iterable[Iterable[pa.RecordBatch]],
    answers: Iterable[pa.RecordBatch],
    ranges: Ranges,
    index: int,
) -> Iterator[pa.RecordBatch]:
    """The documents of a range that are in clusters: a batch for each of its shards, then an answer to each range.

    Parameters: `members`: what `joined` sent to the range itself; `passed`: for each later range, what it sent to this
    one; `answers`: of each earlier one to this one.
    """
    document, other, size, _, first = (column(members, name).astype(np.int64) for name in SCHEMA.names)
    base = ranges.documents(index)[0]
    outside = np.flatnonzero(other < base)
    bounds = ranges.starts[ranges.shards]
    for earlier, answer in enumerate(answers):
        of_range = outside[(other[outside] >= bounds[earlier]) & (other[outside] < bounds[earlier + 1])]
        of_range = of_range[np.argsort(other[of_range], kind="stable")]
        first[of_range] = numbers_of(answer, "first_", ranges.starts)
        size[of_range] = column(answer, "size").astype(np.int64)
    inside = np.flatnonzero((other >= base) & (other != document))
    at = np.searchsorted(document, other[inside])
    first[inside], size[inside] = first[at], size[at]
    shards = slice(int(ranges.shards[index]), int(ranges.shards[index + 1]) + 1)
    yield from by_shard(document, first, size, ranges.starts[shards], ranges.starts)
    for _ in range(index + 1):
        yield pa.RecordBatch.from_pylist([], CLUSTERS)
    for batches in passed:
        parts = [column(batch, "document")[_are_components(batch)] for batch in batches]
        asked = np.searchsorted(document, np.concatenate([np.empty(0, np.uint64), *parts]).astype(np.int64))
        row = np.zeros(len(asked), np.int64)
        (answer,) = by_shard(row, first[asked], size[asked], np.array([0, 1]), ranges.starts)
        yield answer


def clusters(
    edges: Iterable[pa.RecordBatch], shard_rows: Sequence[int], orders: Iterable[pa.RecordBatch] | None = None
) -> list[pa.RecordBatch]:
    """Clusters of documents that a task holds in one range: a batch for each shard. Parameters: see `joined`."""
    ranges = Ranges.of(shard_rows, sum(shard_rows))
    *_, members = joined(edges, (), ranges, 0, orders)
    return list(resolved(members, (), (), ranges, 0))[: len(shard_rows)]


def _links(
    edges: Iterable[pa.RecordBatch], passed: Iterable[pa.RecordBatch], starts: Int64Array, components: Components
) -> Iterator[tuple[Int64Array, Int64Array]]:
    """The links of a range's documents to earlier ones; components of later ranges are counted on the way."""
    for batch in edges:
        yield numbers_of(batch, "", starts), numbers_of(batch, "first_", starts)
    for batch in passed:
        are_components = _are_components(batch)
        components.add(batch.filter(pa.array(are_components)))
        document, other = (column(batch, name)[~are_components].astype(np.int64) for name in SCHEMA.names[:2])
        yield document, other


def _are_components(batch: pa.RecordBatch) -> AnyArray:
    return np.asarray(column(batch, "other") > column(batch, "document"))


def _passed_on(links: Sequence[tuple[Int64Array, Int64Array]], ranges: Ranges) -> Iterator[pa.RecordBatch]:
    nothing = (np.empty(0, np.int64),) * 2
    later, earlier = (np.concatenate(documents) for documents in zip(nothing, *links, strict=True))
    none = np.zeros(len(later), np.uint64)
    columns = [later.astype(np.uint64), earlier.astype(np.uint64), none, none, none]
    yield from ranges.parted(pa.record_batch(columns, schema=SCHEMA), later)


@njit(cache=True, nogil=True)
def _link(
    links: AnyArray,
    outer: Int64Array,
    order: UInt64Array,
    preferred: Int64Array,
    segments: Int64Array,
    base: Int,
    document: Int64Array,
    other: Int64Array,
    later: Int64Array,
    earlier: Int64Array,
) -> Int:
    count = 0
    for i in range(len(document)):
        one = first_of(links, document[i] - base)
        outside = other[i]
        if outside >= base:
            two = first_of(links, outside - base)
            if one == two:
                continue
            one, two = min(one, two), max(one, two)
            links[one] += links[two]
            links[two] = one
            if len(order) and _is_before(order[two], preferred[two], order[one], preferred[one], segments):
                order[one], preferred[one] = order[two], preferred[two]
            outside = outer[two] if len(outer) else -1
            if outside < 0:
                continue
        if outer[one] >= 0 and outer[one] != outside:
            later[count], earlier[count] = max(outer[one], outside), min(outer[one], outside)
            count += 1
        outer[one] = min(outer[one], outside) if outer[one] >= 0 else outside
    return count


@njit(cache=True, nogil=True)
def _add(
    links: AnyArray,
    order: UInt64Array,
    preferred: Int64Array,
    segments: Int64Array,
    base: Int,
    document: UInt64Array,
    size: UInt64Array,
    its_order: UInt64Array,
    its_preferred: Int64Array,
) -> None:
    for i in range(len(document)):
        one = first_of(links, np.int64(document[i]) - base)
        links[one] -= np.int64(size[i])
        if len(order) and _is_before(its_order[i], its_preferred[i], order[one], preferred[one], segments):
            order[one], preferred[one] = its_order[i], its_preferred[i]


@njit(cache=True, nogil=True)
def _is_before(order: Int, number: Int, other_order: Int, other_number: Int, segments: Int64Array) -> bool:
    """Whether a document is preferred to another."""
    segment = np.searchsorted(segments, number, side="right")
    other_segment = np.searchsorted(segments, other_number, side="right")
    if segment != other_segment:
        return bool(segment < other_segment)
    return bool(order < other_order or (order == other_order and number < other_number))


@njit(cache=True, nogil=True)
def _firsts(links: AnyArray, place: Int64Array, first: Int64Array) -> None:
    for i in range(len(place)):
        first[i] = first_of(links, place[i])
