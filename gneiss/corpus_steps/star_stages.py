"""Clusters of verified pairs across shards: a stage for each range of documents in order of preference, one task each.

| stage | over | sends |
| --- | --- | --- |
| `accepted` | verifiers | to each range: pairs with an earlier document in it that are similar enough |
| `stars_N` | range N | to each share of the clusters: the documents that join one |
| `passed_N` | range N | to later ranges: the pairs that they have with documents that can be joined |
| `clusters` | shares of the clusters | to each shard: the documents in clusters |

Documents that are known by an index are in ranges before all others; their clusters stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Int64Array
from gneiss.corpus_steps.indexed_sets import copies_in
from gneiss.corpus_steps.step import REDUCER_MEMORY_BYTES, Batches, Segment, Stage, StepCorpus
from gneiss.corpus_steps.union import Union

if TYPE_CHECKING:
    from gneiss.dedup.preference import Cuts

#: What an index keeps: each document in a cluster that is not its first, with that one.
KEPT = pa.schema(
    [
        ("row", pa.uint32()),
        ("first_shard", pa.uint32()),
        ("first_row", pa.uint32()),
        ("similarity", pa.float64()),
        ("is_copy", pa.bool_()),
    ]
)
_CUTS = pa.schema([("order", pa.uint64()), ("number", pa.int64())])
_SAMPLES_PER_RANGE = 4096


def cut_stages(keep: str | None, corpus: StepCorpus) -> Sequence[Stage]:
    """Where `keep` decides which documents come first: the stage that says where ranges of them begin."""
    if keep is None or _own_parts(keep, Union.of(corpus)) == 1:
        return ()
    return (Stage("cuts", 1, _CUTS, partial(_cut, keep)),)


def star_stages(keep: str | None, complete: bool, verifiers: int, corpus: StepCorpus) -> Sequence[Stage]:
    """The stages after `verified`, the first of them local; `complete`: see `passed_on`; `verifiers`: of `verified`."""
    from gneiss.dedup.minhash import stars

    count, shards = _ranges(keep, corpus), len(corpus.shards)
    of_ranges: list[Stage] = []
    for index in range(count):
        work = partial(_stars, keep, complete, verifiers, index)
        of_ranges.append(Stage(f"stars_{index}", 1, stars.MEMBERS, work, receivers=count, is_read_by_task=True))
        if index + 1 < count:
            passed = partial(_passed, keep, complete, verifiers, index)
            of_ranges.append(Stage(f"passed_{index}", 1, stars.PASSED, passed, is_local=True, receivers=count))
    return (
        Stage("accepted", verifiers, stars.PAIRS, partial(_accepted, keep), is_local=True, receivers=count),
        *of_ranges,
        Stage("clusters", count, stars.SCHEMA, partial(_clusters, count), is_local=count == 1, receivers=shards),
    )


def clusters_of(keep: str | None, corpus: StepCorpus, shard: int) -> pa.RecordBatch:
    """The documents of a shard that are in clusters, in order of rows (`stars.SCHEMA`), when all stages are done."""
    from gneiss.dedup.minhash.stars import of_shard

    return of_shard(corpus.across("clusters", _ranges(keep, corpus), shard))


def kept_star_stage(keep: str | None, verifiers: int, corpus: StepCorpus) -> Stage:
    """What an index keeps of clusters (`KEPT`)."""
    return Stage("kept_stars", len(corpus.shards), KEPT, partial(_kept_stars, keep, verifiers), is_kept=True)


def _most_documents() -> int:
    """Of a range."""
    from gneiss.dedup.minhash.stars import BYTES_PER_DOCUMENT

    return REDUCER_MEMORY_BYTES // BYTES_PER_DOCUMENT


def _first_shards(keep: str | None, union: Union) -> Int64Array:
    """The first shards of ranges: where `keep` makes more than one, of known shards, and of all others."""
    from gneiss.dedup.minhash.joining import Ranges

    if _own_parts(keep, union) == 1:
        return Ranges.of(union.rows, _most_documents()).shards[:-1]
    known = Ranges.of(union.rows[: union.before], _most_documents()).shards[:-1]
    return np.union1d(known, union.before)


def _own_parts(keep: str | None, union: Union) -> int:
    """How many ranges in another order than that of shards the last of these consists of."""
    if keep is None or union.starts[-1] <= _most_documents():
        return 1
    return 1 + int(union.starts[-1] - union.starts[union.before]) // _most_documents()


def _ranges(keep: str | None, corpus: StepCorpus) -> int:
    union = Union.of(corpus)
    return len(_first_shards(keep, union)) + _own_parts(keep, union) - 1


def _cuts(keep: str | None, corpus: StepCorpus) -> Cuts:
    """Between ranges."""
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.preference import Cuts

    union = Union.of(corpus)
    number = union.starts[_first_shards(keep, union)[1:]]
    order = np.zeros(len(number), np.uint64)
    if _own_parts(keep, union) > 1:
        found = corpus.batch("cuts", 0)
        order, number = np.append(order, column(found, "order")), np.append(number, column(found, "number"))
    return Cuts(order, number, int(union.starts[union.before]))


def _cut(keep: str, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.preference import Cuts

    union = Union.of(corpus)
    parts, starts = _own_parts(keep, union), union.starts[union.before :]
    orders = corpus.across("order", len(corpus.shards), 0)
    number = np.arange(starts[0], starts[-1], -(-_most_documents() // _SAMPLES_PER_RANGE))
    places = np.searchsorted(number, starts)
    order = [
        column(batch, "order")[number[low:high] - start]
        for batch, start, (low, high) in zip(orders, starts.tolist(), pairwise(places.tolist()), strict=False)
    ]
    cuts = Cuts.evenly(np.concatenate(order), number, parts)
    return [pa.record_batch([cuts.order, cuts.number], schema=_CUTS)]


def _accepted(keep: str | None, corpus: StepCorpus, verifier: int) -> Batches:
    from gneiss.dedup.minhash.stars import accepted

    return accepted(corpus.batches("verified", verifier), Union.of(corpus).starts, _cuts(keep, corpus))


def _stars(keep: str | None, complete: bool, verifiers: int, index: int, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import by_receiver, column
    from gneiss.dedup.minhash.stars import stars

    union, count = Union.of(corpus), _ranges(keep, corpus)
    shards = np.append(_first_shards(keep, union), union.end)[index : index + 2].clip(max=union.before).tolist()

    def before() -> Batches:
        return chain.from_iterable(corpus.batches(f"stars_{earlier}", 0) for earlier in range(index))

    found = stars(
        corpus.across("accepted", verifiers, index),
        [corpus.across(f"passed_{earlier}", 1, index) for earlier in range(index)],
        _cuts(keep, corpus), index, union.segments,
        _known_members(corpus.segments, union, range(*shards)) if len(shards) == 2 else (),
        before if complete else None,
    )  # fmt: skip
    for batch in found:
        yield from by_receiver(batch, column(batch, "first") * count // union.starts[-1], count)


def _passed(keep: str | None, complete: bool, verifiers: int, index: int, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.minhash.stars import passed_on

    pairs, members = corpus.across("accepted", verifiers, index), corpus.batches(f"stars_{index}", 0)
    return passed_on(pairs, members, _cuts(keep, corpus), index, complete)


def _clusters(count: int, corpus: StepCorpus, share: int) -> Batches:
    from gneiss.dedup.minhash.stars import sized

    union = Union.of(corpus)
    return sized([corpus.across(f"stars_{index}", 1, share) for index in range(count)], union.starts, union.before)


def _known_members(segments: Sequence[Segment], union: Union, shards: range) -> Iterator[pa.RecordBatch]:
    """The documents in clusters (`stars.MEMBERS`) of some shards, by their numbers in the union.

    One whose first is of an output that this run is not made against stands for itself.
    """
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.minhash.clusters import numbers_of
    from gneiss.dedup.minhash.stars import MEMBERS

    own_first = 0  # the number of the first shard of the output
    first = 0  # and of the segment
    against: int | None = -1
    for segment in segments:
        if segment.against != against:
            against, own_first = segment.against, first
        for shard in range(max(shards.start - first, 0), min(shards.stop - first, len(segment.shards))):
            for batch in segment.batches("kept_stars", shard):
                if against is not None:
                    batch = batch.filter(pc.greater_equal(batch.column("first_shard"), segment.before))
                    moved = column(batch, "first_shard") - np.uint32(segment.before) + np.uint32(own_first)
                    batch = batch.set_column(1, KEPT.field("first_shard"), pa.array(moved))
                number = union.starts[first + shard] + column(batch, "row")
                columns = [number, numbers_of(batch, "first_", union.starts), *batch.columns[3:]]
                yield pa.record_batch(columns, schema=MEMBERS)
        first += len(segment.shards)


def _kept_stars(keep: str | None, verifiers: int, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import column

    found = clusters_of(keep, corpus, shard)
    members = found.filter(found.column("similarity").is_valid())
    is_copy = copies_in(shard, verifiers, corpus)[column(members, "row")]
    return [pa.record_batch([*members.drop_columns(["size"]).columns, is_copy], schema=KEPT)]
