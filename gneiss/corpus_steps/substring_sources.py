"""What cuts repeat: how many bytes are cut as repeats of each document, and of how many the source was not kept.

Each shard sends what its cuts name to the buckets of their sources, which add it up. Before `curate` these are all
cuts; after it, those of kept documents, as the annotations have them. A source in a shard of an earlier increment is
looked up in the annotations that the output has of it; who cut what of it is not told there any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Int64Array
from gneiss.corpus_steps.step import Batches, Stage, StepCorpus
from gneiss.corpus_steps.substring_plan import SubstringPlan
from gneiss.corpus_steps.union import Union

SOURCES = pa.schema([("source_shard", pa.int64()), ("source_row", pa.int64()), ("amount", pa.int64())])
ANSWERED = pa.schema([("row", pa.int64()), ("amount", pa.int64())])


def stages_after(plan: SubstringPlan, corpus: StepCorpus, evidence: str) -> Sequence[Stage]:
    """The stages that count cuts whose surviving copy was not kept; evidence: the column of the cuts."""
    shards, buckets = len(corpus.shards), len(plan.output_buckets)
    return (
        Stage("kept_sources", shards, SOURCES, partial(_kept_sources, plan, evidence), receivers=buckets),
        Stage("orphans", buckets, ANSWERED, partial(_orphans, plan)),
    )


def sources(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    """How many bytes each document of the corpus is the source of, for each bucket of shards."""
    number, row, amount = _summed(*_amounts(corpus.batch("cuts", shard)))
    return by_bucket(plan.buckets, number - plan.known, row, amount)


def repeated_in_group(plan: SubstringPlan, corpus: StepCorpus, group: int) -> Batches:
    """For each shard of a group the bytes that are cut in it as repeats of its documents."""
    parts = [_amounts(batch) for batch in corpus.batches("cuts", group)]
    return _answered(plan.buckets[group], *(np.concatenate(column) for column in zip(*parts, strict=True)))


def repeated_bytes(plan: SubstringPlan, corpus: StepCorpus, bucket: int) -> Batches:
    """For each shard of a bucket the bytes that are cut anywhere as repeats of its documents."""
    return _answered(plan.buckets[bucket], *_sent(corpus, "sources", bucket))


def _kept_sources(plan: SubstringPlan, evidence: str, corpus: StepCorpus, shard: int) -> Batches:
    """How many bytes each document of the output is the source of in kept documents, read from the annotations."""
    ids = Union.of(corpus).ids[plan.foreign :]
    own = plan.known - plan.foreign + shard
    table = corpus.annotations(ids[own], ["status", evidence])
    if table is None:
        nothing = np.empty(0, np.int64)
        return by_bucket(plan.output_buckets, nothing, nothing, nothing)
    cuts = pc.list_flatten(table.filter(pc.equal(table["status"], "kept"))[evidence]).combine_chunks()
    cuts = cuts.filter(pc.is_valid(pc.struct_field(cuts, "source_row")))  # not of another output
    names = pc.struct_field(cuts, "source_shard").dictionary_encode()
    numbers = {id_: number for number, id_ in enumerate(ids)}
    known = np.array([*(numbers[name] for name in names.dictionary.to_pylist()), own], np.int64)
    source_shard = known[pc.fill_null(names.indices, len(known) - 1).to_numpy(zero_copy_only=False)]
    size = field_of(cuts, "end") - field_of(cuts, "start")
    return by_bucket(plan.output_buckets, *_summed(source_shard, field_of(cuts, "source_row"), size))


def _orphans(plan: SubstringPlan, corpus: StepCorpus, bucket: int) -> Batches:
    """For each shard of a bucket the bytes cut from kept documents whose source was not kept."""
    ids = Union.of(corpus).ids[plan.foreign :]
    shard, row, amount = _sent(corpus, "kept_sources", bucket)
    for member in plan.output_buckets[bucket]:
        here = shard == member
        orphaned = here.copy()
        table = corpus.annotations(ids[member], ["status"]) if here.any() else None
        is_kept = np.empty(0, np.bool_) if table is None else pc.equal(table["status"], "kept").to_numpy()
        orphaned[here] = ~np.isin(row[here], np.flatnonzero(is_kept))
        yield pa.record_batch([row[orphaned], amount[orphaned]], schema=ANSWERED)


def column_of(batch: pa.RecordBatch, name: str) -> Int64Array:
    """A column of numbers."""
    return np.asarray(batch.column(name).to_numpy(), np.int64)


def field_of(structs: pa.StructArray, name: str) -> Int64Array:
    """A field of numbers."""
    return np.asarray(pc.struct_field(structs, name).to_numpy(zero_copy_only=False), np.int64)


def within(shard: Int64Array, bucket: range) -> BoolArray:
    return (shard >= bucket.start) & (shard < bucket.stop)


def by_bucket(buckets: tuple[range, ...], shard: Int64Array, row: Int64Array, amount: Int64Array) -> Batches:
    for bucket in buckets:
        here = within(shard, bucket)
        yield pa.record_batch([shard[here], row[here], amount[here]], schema=SOURCES)


def _amounts(cuts: pa.RecordBatch) -> tuple[Int64Array, Int64Array, Int64Array]:
    """For each cut the shard and row of its source, and its bytes."""
    amount = column_of(cuts, "end") - column_of(cuts, "start")
    return column_of(cuts, "source_shard"), column_of(cuts, "source_row"), amount


def _sent(corpus: StepCorpus, stage: str, bucket: int) -> list[Int64Array]:
    """What all shards of the corpus sent to a bucket: the columns of `SOURCES`."""
    table = pa.Table.from_batches(corpus.across(stage, len(corpus.shards), bucket), SOURCES)
    return [table[name].to_numpy() for name in SOURCES.names]


def _answered(members: range, shard: Int64Array, row: Int64Array, amount: Int64Array) -> Batches:
    """A batch for each of some shards: the sums of the amounts of its rows."""
    shard, row, amount = _summed(shard, row, amount)
    for member in members:
        yield pa.record_batch([row[shard == member], amount[shard == member]], schema=ANSWERED)


def _summed(shard: Int64Array, row: Int64Array, amount: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """One entry for each shard and row, with the sum of its amounts, sorted."""
    if len(shard) == 0:
        return shard, row, amount
    order = np.lexsort((row, shard))
    shard, row, amount = shard[order], row[order], amount[order]
    opens = np.flatnonzero(np.append(True, (shard[1:] != shard[:-1]) | (row[1:] != row[:-1])))
    return shard[opens], row[opens], np.add.reduceat(amount, opens)
