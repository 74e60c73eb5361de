"""How the stages of substring dedup are laid out: what sees what, and which task serves which shards."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.corpus_steps.step import MOST_PARTITIONS, REDUCER_MEMORY_BYTES

if TYPE_CHECKING:
    from gneiss.dedup.corpus_scope import Scheme


@dataclass(frozen=True)
class SubstringPlan:
    """How the stages of a corpus are laid out.

    first_by: the measure by which documents are ordered, if any. groups: for each group the indices of its shards,
    which are consecutive; None at corpus scope. buckets: stretches of shards that one task serves where shards are
    looked up: a group, or a part of the corpus. known: shards that come before those of the corpus, known by an index;
    foreign: how many of them are of other outputs, which come first. find_spans: document, start, end, source and
    source start of the cuts within a batch, whose documents may have an order.
    """

    unit: Literal["bytes", "tokens"]
    policy: Literal["protect", "union", "all"]
    boundary: Literal["char", "word", "line", "sentence"]
    fill_gaps: float
    first_by: str | None
    groups: tuple[range, ...] | None
    buckets: tuple[range, ...]
    scheme: Scheme
    known: int
    foreign: int
    find_spans: Callable[[TextBatch, Any, UInt64Array | None], tuple[Int64Array, ...]]

    @property
    def known_buckets(self) -> tuple[range, ...]:
        """The same of the known shards, of each of which little takes part."""
        return buckets_of(self.known, self.scheme.partitions) if self.known else ()

    @property
    def union_buckets(self) -> tuple[range, ...]:
        """The same of all shards of the union."""
        return self._buckets_after(self.known)

    @property
    def output_buckets(self) -> tuple[range, ...]:
        """The same of all shards of this output: those of earlier increments, then those of the corpus."""
        return self._buckets_after(self.known - self.foreign)

    def bucket_place(self, shard: int) -> tuple[int, int]:
        """Task and batch of a stage over buckets that belong to a shard."""
        return _place(self.buckets, shard)

    def known_place(self, number: int) -> tuple[int, int]:
        """Task and batch of the stage `known` that belong to a known shard."""
        return _place(self.known_buckets, number)

    def sees_no_other(self, shard: int) -> bool:
        """Whether it is a group by itself."""
        return self.groups is not None and len(self.groups[self.bucket_place(shard)[0]]) == 1

    def cuts_place(self, shard: int) -> tuple[int, int]:
        """Task and batch of the stage `cuts` that belong to a shard."""
        return (shard, 0) if self.groups is None else self.bucket_place(shard)

    def _buckets_after(self, before: int) -> tuple[range, ...]:
        return buckets_of(before + self.buckets[-1].stop, self.scheme.partitions) if before else self.buckets


def _place(buckets: tuple[range, ...], shard: int) -> tuple[int, int]:
    task = bisect_right(buckets, shard, key=lambda bucket: bucket.start) - 1
    return task, shard - buckets[task].start


def scheme_of(min_length: int, unit: str, text_bytes: int, partitions: int | None) -> Scheme:
    """Anchors and partitions for a corpus; partitions: None to choose by size."""
    from gneiss.dedup.corpus_scope import Scheme, partitions_for

    if partitions is None:
        units = text_bytes // (1 if unit == "bytes" else 4)
        partitions = min(partitions_for(units, min_length, REDUCER_MEMORY_BYTES), MOST_PARTITIONS)
    return Scheme(min_length, partitions)


def buckets_of(shards: int, partitions: int) -> tuple[range, ...]:
    """Consecutive shards, in as many even stretches as there are partitions, or shards."""
    count = max(1, min(partitions, shards))
    edges = [bucket * shards // count for bucket in range(count + 1)]
    return tuple(range(low, high) for low, high in pairwise(edges))
