"""Dedup beyond a shard, round by round: what each task reads, computes and writes.

At corpus scope anchors travel, never the corpus: keys, which of them repeat, hashes of their surroundings, which texts
must be seen, those texts, what repeats what, and at last what to cut from each shard; gneiss/dedup/corpus_scope says
what the records are. At group scope one task holds a whole group and finds its spans in memory. Both end with
`pieces` (what to cut) and `repeated_bytes` (how much of each document is cut elsewhere), which `curate` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.loaded_models import dedup_tokenizer
from gneiss.curate.spans import SCHEMA as PIECES
from gneiss.curate.spans import ShardSpans
from gneiss.dedup.boundaries import shrink_cuts
from gneiss.dedup.corpus_scope import answers, contents, cuts, keys, texts
from gneiss.dedup.corpus_scope.scheme import passes_for
from gneiss.dedup.spans import BOUNDARIES
from gneiss.dedup.substring import find_spans
from gneiss.dedup.units import Tokenizer, Units
from gneiss.output.annotation_shard import kept_cuts, kept_rows
from gneiss.stages.corpus import REDUCER_MEMORY_BYTES, Batches, Reader, Round
from gneiss.stages.exchange import Across
from gneiss.stages.substring_job import DedupJob

FLAGS = pa.schema([("flag", pa.bool_())])
TEXTS = {
    unit: pa.schema([("text", pa.large_list(type_))]) for unit, type_ in (("bytes", pa.uint8()), ("tokens", pa.int32()))
}
SOURCES = pa.schema([("source_shard", pa.int64()), ("source_row", pa.int64()), ("amount", pa.int64())])
ANSWERED = pa.schema([("row", pa.int64()), ("amount", pa.int64())])


@dataclass(frozen=True, eq=False)
class Opened:
    """A job in a worker, with the tokenizer of its unit."""

    job: DedupJob
    reader: Reader
    tokenizer: Tokenizer | None

    def text(self, shard: int) -> TextBatch:
        """The texts of a shard that reach the phase, one for each row; empty where a row, or the shard, does not."""
        return self.reader.text(self.job.phase, shard)

    def units(self, shard: int) -> Units:
        """The same as windows see it."""
        batch = self.text(shard)
        return Units.of_bytes(batch) if self.tokenizer is None else Units.of_tokens(batch, self.tokenizer.tokens(batch))

    def told(self, round_name: str, shard: int) -> list[pa.RecordBatch]:
        """What all partitions say to a shard."""
        partitions = range(self.job.scheme.partitions)
        return [self.job.exchange.batch(round_name, partition, shard) for partition in partitions]

    def sent(self, round_name: str, number: int) -> Across:
        """What all shards say to a partition or bucket."""
        return self.job.exchange.across(round_name, len(self.job.shards), number)


def rounds_before(job: DedupJob) -> tuple[Round, ...]:
    """The rounds before `curate`, in order."""
    shards, partitions, buckets = len(job.shards), job.scheme.partitions, len(job.buckets)
    tally = (
        _round(job, "sources", shards, SOURCES, _sources),
        _round(job, "repeated_bytes", buckets, ANSWERED, _repeated_bytes),
    )
    if job.dedup.scope == "group":
        return (_round(job, "pieces", len(job.groups), PIECES, _group_pieces), *tally)
    in_bytes = (_round(job, "pieces", shards, PIECES, _pieces),)
    in_tokens = (
        _round(job, "token_pieces", shards, cuts.SCHEMA, _token_pieces),
        _round(job, "asked", shards, SOURCES, _asked),
        _round(job, "replied", buckets, ANSWERED, _replied),
        _round(job, "pieces", shards, PIECES, _pieces_in_bytes),
    )
    return (
        _round(job, "keys", shards, keys.SCHEMA, _keys),
        _round(job, "repeated", partitions, FLAGS, _repeated),
        _round(job, "contents", shards, contents.SCHEMA, _contents),
        _round(job, "wanted", partitions, FLAGS, _wanted),
        _round(job, "texts", shards, TEXTS[job.dedup.unit], _texts),
        _round(job, "answers", partitions, answers.SCHEMA, _answers),
        *(in_bytes if job.dedup.unit == "bytes" else in_tokens),
        *tally,
    )


def rounds_after(job: DedupJob) -> tuple[Round, ...]:
    """The rounds after `curate`: which cuts have lost their surviving copy."""
    return (
        _round(job, "kept_sources", len(job.shards), SOURCES, _kept_sources),
        _round(job, "orphans", len(job.buckets), ANSWERED, _orphans),
    )


def _round(job: DedupJob, name: str, tasks: int, schema: pa.Schema, work: Callable[[Opened, int], Batches]) -> Round:
    def open_() -> Callable[[int], Batches]:
        tokenizer = dedup_tokenizer(job.dedup, job.corpus.recipe)
        return partial(work, Opened(job, Reader.of(job.corpus), tokenizer))

    return Round(f"dedup_{name}", tasks, schema, open_)


def _keys(opened: Opened, shard: int) -> Batches:
    return keys.shard_keys(opened.units(shard), opened.job.scheme)


def _repeated(opened: Opened, partition: int) -> Batches:
    sent = opened.sent("dedup_keys", partition)
    return keys.repeated_keys(sent, _passes(sent))


def _contents(opened: Opened, shard: int) -> Batches:
    return contents.shard_contents(opened.units(shard), opened.job.scheme, opened.told("dedup_repeated", shard))


def _wanted(opened: Opened, partition: int) -> Batches:
    sent = opened.sent("dedup_contents", partition)
    return contents.wanted_texts(sent, _passes(sent))


def _texts(opened: Opened, shard: int) -> Batches:
    told = opened.told("dedup_repeated", shard), opened.told("dedup_wanted", shard)
    return texts.shard_texts(opened.units(shard), opened.job.scheme, *told)


def _answers(opened: Opened, partition: int) -> Batches:
    job, sent = opened.job, opened.sent("dedup_contents", partition)
    wanted = [job.exchange.batch("dedup_wanted", partition, shard) for shard in range(len(job.shards))]
    return answers.answer_shards(
        sent, wanted, opened.sent("dedup_texts", partition), job.scheme, job.dedup.policy, _passes(sent)
    )


def _passes(sent: Across) -> int:
    return passes_for(sum(batch.num_rows for batch in sent), REDUCER_MEMORY_BYTES)


def _cuts(opened: Opened, shard: int, units: Units) -> pa.RecordBatch:
    job = opened.job
    told: list[pa.RecordBatch] = []
    for partition in range(job.scheme.partitions):  # a batch for each shard, pass by pass
        numbers = range(shard, job.exchange.batches("dedup_answers", partition), len(job.shards))
        told += [job.exchange.batch("dedup_answers", partition, number) for number in numbers]
    copies = job.scheme.anchors(units).copies
    return cuts.shard_pieces(shard, units, copies, job.scheme, told, job.dedup.policy)


def _pieces(opened: Opened, shard: int) -> Batches:
    batch = opened.text(shard)
    return [_shrunk(opened, batch, _cuts(opened, shard, Units.of_bytes(batch)))]


def _token_pieces(opened: Opened, shard: int) -> Batches:
    return [_cuts(opened, shard, opened.units(shard))]


def _asked(opened: Opened, shard: int) -> Batches:
    """Where sources start, in tokens, for each bucket of shards: only the shard of a source knows the byte."""
    found = opened.job.exchange.batch("dedup_token_pieces", shard, 0)
    return _by_bucket(
        opened.job, *(_column(found, name) for name in ("source_shard", "source_document", "source_start"))
    )


def _replied(opened: Opened, bucket: int) -> Batches:
    """For each shard that asked, the bytes in the order of its questions."""
    asked = [[_column(batch, name) for name in SOURCES.names] for batch in opened.sent("dedup_asked", bucket)]
    starts = [np.zeros(len(source_shard), np.int64) for source_shard, _, _ in asked]
    for shard in opened.job.buckets[bucket]:
        units = opened.units(shard)
        for (source_shard, row, unit), start in zip(asked, starts, strict=True):
            here = source_shard == shard
            start[here] = units.byte_offsets(row[here], unit[here])
    for (_, row, _), start in zip(asked, starts, strict=True):
        yield pa.record_batch([row, start], schema=ANSWERED)


def _pieces_in_bytes(opened: Opened, shard: int) -> Batches:
    job = opened.job
    found = job.exchange.batch("dedup_token_pieces", shard, 0)
    start = np.zeros(found.num_rows, np.int64)
    source_shard = _column(found, "source_shard")
    for number, bucket in enumerate(job.buckets):
        start[_within(source_shard, bucket)] = _column(job.exchange.batch("dedup_replied", number, shard), "amount")
    found = found.set_column(found.schema.get_field_index("source_start"), "source_start", pa.array(start))
    return [_shrunk(opened, opened.text(shard), found)]


def _group_pieces(opened: Opened, group: int) -> Batches:
    """The pieces of every shard of a group, found in memory."""
    job, members = opened.job, opened.job.groups[group]
    batches = [opened.text(shard) for shard in members]
    first_row = np.append(0, np.cumsum([len(batch) for batch in batches]))
    sizes = [np.diff(batch.offsets) for batch in batches]
    data = np.concatenate([batch.data[batch.offsets[0] : batch.offsets[-1]] for batch in batches])
    whole = TextBatch(data, np.append(0, np.cumsum(np.concatenate(sizes))))
    del batches
    d = job.dedup
    spans = find_spans(
        whole, min_length=d.min_length, unit=d.unit, tokenizer=opened.tokenizer, engine=d.engine, policy=d.policy
    ).shrink(whole.to_arrow(), d.boundary)
    document, start, end, source, source_start = spans.arrays()
    source_member = np.searchsorted(first_row, source, side="right") - 1
    for member in range(len(members)):
        low, high = np.searchsorted(document, first_row[member : member + 2])
        mine = slice(low, high)
        columns = [
            document[mine] - first_row[member],
            start[mine],
            end[mine],
            source_member[mine] + members.start,
            (source - first_row[source_member])[mine],
            source_start[mine],
        ]
        yield pa.record_batch(columns, schema=PIECES)


def _sources(opened: Opened, shard: int) -> Batches:
    """How many bytes each document is the source of, for each bucket of shards."""
    job = opened.job
    found = job.exchange.batch("dedup_pieces", *pieces_place(job, shard))
    amount = _column(found, "end") - _column(found, "start")
    return _by_bucket(job, *_summed(_column(found, "source_shard"), _column(found, "source_row"), amount))


def _repeated_bytes(opened: Opened, bucket: int) -> Batches:
    """For each shard of a bucket the bytes that are cut anywhere as repeats of its documents."""
    parts = [[_column(batch, name) for name in SOURCES.names] for batch in opened.sent("dedup_sources", bucket)]
    shard, row, amount = _summed(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    for member in opened.job.buckets[bucket]:
        yield pa.record_batch([row[shard == member], amount[shard == member]], schema=ANSWERED)


def _kept_sources(opened: Opened, shard: int) -> Batches:
    """The same for the cuts of kept documents alone, read from the annotations."""
    found = kept_cuts(opened.job.corpus.output, opened.job.corpus.shard_ids, shard)
    return _by_bucket(opened.job, *_summed(*found))


def _orphans(opened: Opened, bucket: int) -> Batches:
    """For each shard of a bucket the bytes cut from kept documents whose source was not kept."""
    parts = [[_column(batch, name) for name in SOURCES.names] for batch in opened.sent("dedup_kept_sources", bucket)]
    shard, row, amount = (np.concatenate(column) for column in zip(*parts, strict=True))
    for member in opened.job.buckets[bucket]:
        here = shard == member
        orphaned = here.copy()
        orphaned[here] = ~np.isin(row[here], kept_rows(opened.job.corpus.output, opened.job.shards[member].id))
        yield pa.record_batch([row[orphaned], amount[orphaned]], schema=ANSWERED)


def pieces_place(job: DedupJob, shard: int) -> tuple[int, int]:
    """Task and batch of the round `pieces` that belong to a shard."""
    return (shard, 0) if job.dedup.scope == "corpus" else _bucket_place(job, shard)


def shard_spans(job: DedupJob, shard: int) -> ShardSpans:
    """What the rounds found for a shard."""
    pieces = job.exchange.batch("dedup_pieces", *pieces_place(job, shard))
    repeated = job.exchange.batch("dedup_repeated_bytes", *_bucket_place(job, shard))
    return ShardSpans.of_batches(pieces, repeated, job.corpus.shard_ids)


def orphaned_bytes(job: DedupJob) -> int:
    """Bytes cut from kept documents whose source was not kept, after the last round."""
    task_batches = ((task, len(bucket)) for task, bucket in enumerate(job.buckets))
    return sum(
        int(_column(job.exchange.batch("dedup_orphans", task, number), "amount").sum())
        for task, batches in task_batches
        for number in range(batches)
    )


def _bucket_place(job: DedupJob, shard: int) -> tuple[int, int]:
    task = next(task for task, bucket in enumerate(job.buckets) if shard in bucket)
    return task, shard - job.buckets[task].start


def _column(batch: pa.RecordBatch, name: str) -> Int64Array:
    return np.asarray(batch.column(name).to_numpy(), np.int64)


def _within(shard: Int64Array, bucket: range) -> BoolArray:
    return (shard >= bucket.start) & (shard < bucket.stop)


def _by_bucket(job: DedupJob, shard: Int64Array, row: Int64Array, amount: Int64Array) -> Batches:
    for bucket in job.buckets:
        here = _within(shard, bucket)
        yield pa.record_batch([shard[here], row[here], amount[here]], schema=SOURCES)


def _summed(shard: Int64Array, row: Int64Array, amount: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """One entry for each shard and row, with the sum of its amounts, sorted."""
    if len(shard) == 0:
        return shard, row, amount
    order = np.lexsort((row, shard))
    shard, row, amount = shard[order], row[order], amount[order]
    opens = np.flatnonzero(np.append(True, (shard[1:] != shard[:-1]) | (row[1:] != row[:-1])))
    return shard[opens], row[opens], np.add.reduceat(amount, opens)


def _shrunk(opened: Opened, batch: TextBatch, found: pa.RecordBatch) -> pa.RecordBatch:
    """Pieces with every cut moved inwards to a boundary; what becomes empty is gone."""
    row, start, end, shard, source_row, source_start = (_column(found, name) for name in cuts.SCHEMA.names)
    boundary = BOUNDARIES.index(opened.job.dedup.boundary)
    new_start, new_end = shrink_cuts(batch.data, batch.offsets, row, start, end, boundary)
    left = new_start < new_end
    columns = (row, new_start, new_end, shard, source_row, source_start + new_start - start)
    return pa.record_batch([column[left] for column in columns], schema=PIECES)
