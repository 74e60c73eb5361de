"""Exact substring dedup: text repeated for `min_length` units is cut from all but its first copy.

At corpus scope anchors are shuffled, never the corpus. Its stages (map tasks by shard, reduce tasks by partition):
`units` (only of tokens: the ids, so that nothing is tokenized twice), `keys`, `repeated` (which keys occur twice),
`contents` (hashes of the surroundings of those), `wanted` (which texts must be seen), `texts`, `answers` (what repeats
what), and `cuts`; gneiss/dedup/corpus_scope says what the records are. At group scope a task holds a whole group and
finds its cuts in memory. Both end with `cuts` and `repeated_bytes` (how much of each document is cut elsewhere). After
`curate`, `kept_sources` and `orphans` count the cuts whose surviving copy was not kept.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from gneiss.annotation import STRICT_KEYS, Column
from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.corpus_steps.step import (
    MOST_PARTITIONS,
    REDUCER_MEMORY_BYTES,
    Batches,
    CorpusStep,
    PhaseDocuments,
    ShardSize,
    Stage,
    StepCorpus,
    StepResult,
)
from gneiss.errors import RecipeError

if TYPE_CHECKING:
    from gneiss.dedup.corpus_scope import Scheme
    from gneiss.dedup.units import Tokenizer, Units

# Peak memory of a worker beyond libraries and models, bytes per byte of text, measured on 240 MB in one shard.
BYTES_PER_BYTE = {"suffix-array": 14, "tokens": 10, "bytes": 4}

#: A cut: bytes `start` to `end` of a document repeat `source_row` of `source_shard` (null: this one) from a byte on.
CUT = pa.struct(
    [
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field("source_shard", pa.string()),
        pa.field("source_row", pa.int64()),
        pa.field("source_start", pa.int64()),
    ]
)
#: The same as stages exchange it: rows, and shards by index.
CUTS = pa.schema([(name, pa.int64()) for name in ("row", "start", "end", "source_shard", "source_row", "source_start")])
SOURCES = pa.schema([("source_shard", pa.int64()), ("source_row", pa.int64()), ("amount", pa.int64())])
ANSWERED = pa.schema([("row", pa.int64()), ("amount", pa.int64())])
FLAGS = pa.schema([("flag", pa.bool_())])
TEXTS = {
    unit: pa.schema([("text", pa.large_list(type_))]) for unit, type_ in (("bytes", pa.uint8()), ("tokens", pa.int32()))
}
#: Tokens of a document: ids, how many bytes after the one before each starts, and bytes of the whole document.
TOKENS = pa.schema([("ids", pa.large_list(pa.int32())), ("steps", pa.large_list(pa.int32())), ("size", pa.int64())])
EVIDENCE = "dedup_cuts"
_GROUP_MAX_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Dedup(CorpusStep):
    """Exact substring dedup as an edit: what repeats for `min_length` units is cut from all but the first copy.

    unit: bytes of UTF-8, or tokens of `tokenizer` (`builtin:cl100k_base`, a local path or hf://); boundary: where a cut
    may begin and end; scope: `shard`, `group` (consecutive shards whose ids have the same value of the pattern
    `group_by`, its first group if it has one, at most `group_max_bytes` of text), or `corpus`.
    """

    __pydantic_config__ = STRICT_KEYS
    key: ClassVar[str] = "dedup"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("dedup_bytes", "int64", "bytes that substring dedup cut from the document"),
        Column("dedup_fraction", "float64", "cut bytes over the bytes before the cut; null for an empty text"),
        Column("dedup_repeated_bytes", "int64", "bytes cut elsewhere, in scope, as repeats of this document"),
    )
    evidence: ClassVar[tuple[pa.Field, ...]] = (pa.field(EVIDENCE, pa.list_(CUT)),)
    count_names: ClassVar[tuple[str, ...]] = ("dedup_bytes", "orphaned_bytes")
    counted_after: ClassVar[tuple[str, ...]] = ("orphaned_bytes",)

    min_length: Annotated[int, Field(ge=2, lt=2**31)] = 200
    unit: Literal["bytes", "tokens"] = "bytes"
    tokenizer: str | None = None
    policy: Literal["protect", "union", "all"] = "protect"
    engine: Literal["anchors", "suffix-array"] = "anchors"
    scope: Literal["shard", "group", "corpus"] = "shard"
    group_by: str | None = None
    group_max_bytes: Annotated[int, Field(ge=1)] = _GROUP_MAX_BYTES
    boundary: Literal["char", "word", "line"] = "char"

    def __post_init__(self) -> None:
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise ValueError("`unit: tokens` goes with a `tokenizer`, and `unit: bytes` without one")
        if (self.scope == "group") != (self.group_by is not None):
            raise ValueError("`scope: group` goes with a pattern `group_by`, any other scope without one")
        if self.scope != "group" and self.group_max_bytes != _GROUP_MAX_BYTES:
            raise ValueError("`group_max_bytes` goes with `scope: group`")
        try:
            re.compile(self.group_by or "")
        except re.error as error:
            raise ValueError(f"group_by: {self.group_by!r} is no regular expression: {error}") from error
        if self.scope == "corpus" and self.engine != "anchors":
            raise ValueError("`scope: corpus` needs `engine: anchors`")

    @property
    def sees_corpus(self) -> bool:
        """See CorpusStep."""
        return self.scope != "shard"

    @property
    def explanation(self) -> str:
        """See CorpusStep."""
        hidden = () if self.scope == "group" else ("group_max_bytes",)
        given = {name: value for name, value in asdict(self).items() if value is not None and name not in hidden}
        return f"cuts      repeats ({', '.join(f'{name} {value}' for name, value in given.items())})"

    @property
    def model_files(self) -> tuple[str, ...]:
        """The tokenizer's file; none for bytes or a builtin tokenizer."""
        return () if self.tokenizer is None or self.tokenizer.startswith("builtin:") else (self.tokenizer,)

    def load(self, files: Mapping[str, Path]) -> Tokenizer | None:
        """The tokenizer whose tokens are counted; None where bytes are. Raises ModelError."""
        if self.tokenizer is None:
            return None
        from gneiss.filters.tokenizer import load_tokenizer

        return load_tokenizer(self.tokenizer, files)

    def within_shard(self, documents: PhaseDocuments, model: Tokenizer | None) -> StepResult:
        """See CorpusStep."""
        document, start, end, source, source_start = self._spans(documents.batch, model)
        repeated = np.zeros(len(documents.batch), np.int64)
        np.add.at(repeated, source, end - start)
        own = pa.nulls(len(document), pa.string())
        return self._result(documents, document, start, end, own, documents.rows[source], source_start, repeated)

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]:
        """See CorpusStep."""
        plan = _plan(self, corpus)
        shards, buckets = len(corpus.shards), len(plan.buckets)
        tally = (
            Stage("sources", shards, SOURCES, partial(_sources, plan), self.scope == "corpus", buckets),
            Stage("repeated_bytes", buckets, ANSWERED, partial(_repeated_bytes, plan)),
        )
        if self.scope == "group":
            return (Stage("cuts", len(plan.groups), CUTS, partial(_group_cuts, plan)), *tally)
        from gneiss.dedup.corpus_scope import answers, contents, cuts, keys

        partitions = plan.scheme.partitions
        in_tokens = self.unit == "tokens"
        return (
            *([Stage("units", shards, TOKENS, _token_units, True)] if in_tokens else []),
            Stage("keys", shards, keys.SCHEMA, partial(_keys, plan), True, partitions),
            Stage("repeated", partitions, FLAGS, partial(_repeated, plan), receivers=shards),
            Stage("contents", shards, contents.SCHEMA, partial(_contents, plan), receivers=partitions),
            Stage("wanted", partitions, FLAGS, partial(_wanted, plan), receivers=shards, is_read_by_task=True),
            Stage("texts", shards, TEXTS[self.unit], partial(_texts, plan), receivers=partitions),
            Stage("answers", partitions, answers.SCHEMA, partial(_answers, plan), receivers=shards),
            *(
                [
                    Stage("token_cuts", shards, cuts.SCHEMA, partial(_token_cuts, plan)),
                    Stage("asked", shards, SOURCES, partial(_asked, plan), True, buckets),
                    Stage("replied", buckets, ANSWERED, partial(_replied, plan), receivers=shards),
                    Stage("cuts", shards, CUTS, partial(_cuts_in_bytes, plan)),
                ]
                if in_tokens
                else [Stage("cuts", shards, CUTS, partial(_cuts, plan))]
            ),
            *tally,
        )

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]:
        """See CorpusStep."""
        return partial(self._found, _plan(self, corpus), corpus)

    def _found(self, plan: _Plan, corpus: StepCorpus, shard: int, documents: PhaseDocuments) -> StepResult:
        cuts = corpus.batch("cuts", *plan.cuts_place(shard))
        answered = corpus.batch("repeated_bytes", *plan.bucket_place(shard))
        row, start, end, source_shard, source_row, source_start = (_column(cuts, name) for name in CUTS.names)
        numbers, index = np.unique(source_shard, return_inverse=True)
        ids = pa.array([None if n == shard else corpus.shards[n].id for n in numbers.tolist()], pa.string())
        repeated = np.zeros(len(documents.batch), np.int64)
        repeated[np.searchsorted(documents.rows, _column(answered, "row"))] = _column(answered, "amount")
        document = np.searchsorted(documents.rows, row)
        names = ids.take(pa.array(index, pa.int64()))
        return self._result(documents, document, start, end, names, source_row, source_start, repeated)

    def stages_after(self, corpus: StepCorpus) -> Sequence[Stage]:
        """See CorpusStep."""
        plan = _plan(self, corpus)
        shards, buckets = len(corpus.shards), len(plan.buckets)
        return (
            Stage("kept_sources", shards, SOURCES, partial(_kept_sources, plan), receivers=buckets),
            Stage("orphans", buckets, ANSWERED, partial(_orphans, plan)),
        )

    def counts(self, rows: Int64Array, result: StepResult, is_kept: BoolArray) -> Mapping[str, int]:
        """Bytes cut; and, at shard scope, bytes cut from kept documents whose source was not kept."""
        lists = result.evidence[EVIDENCE]
        cuts = lists.flatten()
        size = _field(cuts, "end") - _field(cuts, "start")
        orphaned = 0
        if self.scope == "shard":
            row = np.repeat(rows, np.diff(np.asarray(lists.offsets)))
            orphaned = int(size[is_kept[row] & ~is_kept[_field(cuts, "source_row")]].sum())
        return {"dedup_bytes": int(size.sum()), "orphaned_bytes": orphaned}

    def counts_after(self, corpus: StepCorpus) -> Mapping[str, int]:
        """Bytes cut from kept documents whose source was not kept."""
        buckets = range(len(_plan(self, corpus).buckets))
        found = (int(_column(batch, "amount").sum()) for its in buckets for batch in corpus.batches("orphans", its))
        return {"orphaned_bytes": sum(found)}

    def shard_memory_bytes(self, shards: Sequence[ShardSize]) -> int:
        """See CorpusStep."""
        largest = max((shard.text_bytes for shard in shards), default=0)
        if self.scope == "group":
            largest = max(largest, min(self.group_max_bytes, sum(shard.text_bytes for shard in shards)))
        return BYTES_PER_BYTE[self.engine if self.engine == "suffix-array" else self.unit] * largest

    def groups(self, shards: Sequence[ShardSize]) -> tuple[range, ...]:
        """Consecutive shards with an equal value of `group_by`, cut where a group would exceed `group_max_bytes`.

        Raises RecipeError where a shard's id does not match the pattern.
        """
        groups: list[range] = []
        for _, members in groupby(range(len(shards)), key=lambda index: self._group(shards[index].id)):
            first, size = None, 0
            for index in members:
                if first is None or size + shards[index].text_bytes > self.group_max_bytes:
                    if first is not None:
                        groups.append(range(first, index))
                    first, size = index, 0
                size += shards[index].text_bytes
            if first is not None:
                groups.append(range(first, index + 1))
        return tuple(groups)

    def _group(self, shard_id: str) -> str:
        found = re.search(self.group_by or "", shard_id)
        if found is None:
            raise RecipeError(f"dedup.group_by: {self.group_by!r} does not match the shard {shard_id!r}")
        return found.group(1) if found.re.groups else found.group()

    def _spans(self, batch: TextBatch, tokenizer: Tokenizer | None) -> tuple[Int64Array, ...]:
        """Document, start, end, source and source start of the cuts of a batch, int64 (cuts,)."""
        from gneiss.dedup import find_spans

        spans = find_spans(
            batch,
            min_length=self.min_length,
            unit=self.unit,
            tokenizer=tokenizer,
            engine=self.engine,
            policy=self.policy,
        )
        return tuple(spans.shrink(batch.to_arrow(), self.boundary).arrays())

    def _result(
        self,
        documents: PhaseDocuments,
        document: Int64Array,
        start: Int64Array,
        end: Int64Array,
        source_shard: pa.Array,
        source_row: Int64Array,
        source_start: Int64Array,
        repeated: Int64Array,
    ) -> StepResult:
        """The cuts of documents (by position), sorted, as edits, annotations and evidence."""
        from gneiss.edit import Edits

        n, edits = len(documents.batch), Edits(document, start, end)
        size, removed = np.diff(documents.batch.offsets), edits.removed_bytes(n)
        offsets = np.append(0, np.cumsum(np.bincount(document, minlength=n))).astype(np.int32)
        fields = [pa.array(start), pa.array(end), source_shard, pa.array(source_row), pa.array(source_start)]
        cuts = pa.StructArray.from_arrays(fields, fields=list(CUT))
        annotations = {
            "dedup_bytes": pa.array(removed),
            "dedup_fraction": pa.array(removed / np.maximum(size, 1), mask=size == 0),
            "dedup_repeated_bytes": pa.array(repeated),
        }
        return StepResult(annotations, edits, {EVIDENCE: pa.ListArray.from_arrays(pa.array(offsets), cuts)})


@dataclass(frozen=True)
class _Plan:
    """How the stages of a corpus are laid out.

    groups: for each group the indices of its shards, which are consecutive; corpus scope has one group of all; buckets:
    stretches of shards that one task serves where shards are looked up: a group, or a part of the corpus.
    """

    dedup: Dedup
    groups: tuple[range, ...]
    buckets: tuple[range, ...]
    scheme: Scheme

    def bucket_place(self, shard: int) -> tuple[int, int]:
        """Task and batch of a stage over buckets that belong to a shard."""
        task = bisect_right(self.buckets, shard, key=lambda bucket: bucket.start) - 1
        return task, shard - self.buckets[task].start

    def cuts_place(self, shard: int) -> tuple[int, int]:
        """Task and batch of the stage `cuts` that belong to a shard."""
        return (shard, 0) if self.dedup.scope == "corpus" else self.bucket_place(shard)


def _plan(dedup: Dedup, corpus: StepCorpus) -> _Plan:
    from gneiss.dedup.corpus_scope import Scheme, partitions_for

    shards, partitions = corpus.shards, corpus.partitions
    if partitions is None:
        units = sum(shard.text_bytes for shard in shards) // (1 if dedup.unit == "bytes" else 4)
        partitions = min(partitions_for(units, dedup.min_length, REDUCER_MEMORY_BYTES), MOST_PARTITIONS)
    if dedup.scope == "group":
        groups = buckets = dedup.groups(shards)
    else:
        count = max(1, min(partitions, len(shards)))
        edges = [bucket * len(shards) // count for bucket in range(count + 1)]
        groups, buckets = (range(len(shards)),), tuple(range(low, high) for low, high in pairwise(edges))
    return _Plan(dedup, groups, buckets, Scheme(dedup.min_length, partitions))


def _token_units(corpus: StepCorpus, shard: int) -> Batches:
    """The tokens of a shard, a row for each of its rows."""
    from gneiss.dedup.units import Units

    batch = corpus.texts(shard)
    units = Units.of_tokens(batch, corpus.model.tokens(batch))
    assert units.starts is not None
    steps = np.diff(units.starts, prepend=0)
    firsts = units.bounds[:-1][np.diff(units.bounds) > 0]
    steps[firsts] = units.starts[firsts]
    bounds = pa.array(units.bounds)
    lists = (pa.LargeListArray.from_arrays(bounds, pa.array(v.astype(np.int32))) for v in (units.values, steps))
    return [pa.record_batch([*lists, pa.array(units.sizes)], schema=TOKENS)]


def _units(plan: _Plan, corpus: StepCorpus, shard: int) -> Units:
    """The units of a shard: its bytes, or its tokens as the stage `units` left them."""
    from gneiss.dedup.units import Units, read_only

    if plan.dedup.unit == "bytes":
        return Units.of_bytes(corpus.texts(shard))
    batch = corpus.batch("units", shard)
    ids, steps = batch.column("ids"), batch.column("steps").flatten().to_numpy()
    bounds = np.asarray(ids.offsets, np.int64)
    starts = np.cumsum(steps, dtype=np.int64)
    counts = np.diff(bounds)
    before = np.append(0, starts)[bounds[:-1]]  # steps count from the first byte of each document
    starts -= np.repeat(before, counts)
    return Units(read_only(ids.flatten().to_numpy()), bounds, starts, _column(batch, "size"))


def _to_shard(plan: _Plan, corpus: StepCorpus, stage: str, shard: int) -> list[pa.RecordBatch]:
    """What all partitions sent to a shard."""
    return list(corpus.across(stage, plan.scheme.partitions, shard))


def _passes(sent: Any) -> int:
    from gneiss.dedup.corpus_scope import passes_for

    return passes_for(sum(batch.num_rows for batch in sent), REDUCER_MEMORY_BYTES)


def _keys(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope import shard_keys

    return shard_keys(_units(plan, corpus, shard), plan.scheme)


def _repeated(plan: _Plan, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope import repeated_keys

    sent = corpus.across("keys", len(corpus.shards), partition)
    return repeated_keys(sent, _passes(sent))


def _contents(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope import shard_contents

    repeated = _to_shard(plan, corpus, "repeated", shard)
    return shard_contents(_units(plan, corpus, shard), plan.scheme, repeated)


def _wanted(plan: _Plan, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope import wanted_texts

    sent = corpus.across("contents", len(corpus.shards), partition)
    return wanted_texts(sent, _passes(sent))


def _texts(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope import shard_texts

    sent = (_to_shard(plan, corpus, stage, shard) for stage in ("repeated", "wanted"))
    return shard_texts(_units(plan, corpus, shard), plan.scheme, *sent)


def _answers(plan: _Plan, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope import answer_shards

    shards = len(corpus.shards)
    sent, texts = (corpus.across(stage, shards, partition) for stage in ("contents", "texts"))
    wanted = list(corpus.batches("wanted", partition))
    return answer_shards(sent, wanted, texts, plan.scheme, plan.dedup.policy, _passes(sent))


def _cuts_of(plan: _Plan, corpus: StepCorpus, shard: int, units: Units) -> pa.RecordBatch:
    from gneiss.dedup.corpus_scope import shard_cuts

    answers = _to_shard(plan, corpus, "answers", shard)
    copies = plan.scheme.anchors(units).copies
    return shard_cuts(shard, units, copies, plan.scheme, answers, plan.dedup.policy)


def _cuts(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.units import Units

    batch = corpus.texts(shard)
    return [_shrunk(plan, batch, _cuts_of(plan, corpus, shard, Units.of_bytes(batch)))]


def _token_cuts(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    return [_cuts_of(plan, corpus, shard, _units(plan, corpus, shard))]


def _asked(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    """Where sources start, in tokens, for each bucket of shards: only the shard of a source knows the byte."""
    found = corpus.batch("token_cuts", shard)
    return _by_bucket(plan, *(_column(found, name) for name in ("source_shard", "source_document", "source_start")))


def _replied(plan: _Plan, corpus: StepCorpus, bucket: int) -> Batches:
    """For each shard that asked, the bytes in the order of its questions."""
    sent = corpus.across("asked", len(corpus.shards), bucket)
    asked = [[_column(batch, name) for name in SOURCES.names] for batch in sent]
    starts = [np.zeros(len(source_shard), np.int64) for source_shard, _, _ in asked]
    for shard in plan.buckets[bucket]:
        units = _units(plan, corpus, shard)
        for (source_shard, row, unit), start in zip(asked, starts, strict=True):
            here = source_shard == shard
            start[here] = units.byte_offsets(row[here], unit[here])
    for (_, row, _), start in zip(asked, starts, strict=True):
        yield pa.record_batch([row, start], schema=ANSWERED)


def _cuts_in_bytes(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    found = corpus.batch("token_cuts", shard)
    start = np.zeros(found.num_rows, np.int64)
    source_shard = _column(found, "source_shard")
    replied = corpus.across("replied", len(plan.buckets), shard)
    for bucket, batch in zip(plan.buckets, replied, strict=True):
        start[_within(source_shard, bucket)] = _column(batch, "amount")
    found = found.set_column(found.schema.get_field_index("source_start"), "source_start", pa.array(start))
    return [_shrunk(plan, corpus.texts(shard), found)]


def _group_cuts(plan: _Plan, corpus: StepCorpus, group: int) -> Batches:
    """The cuts of every shard of a group, found in memory."""
    members = plan.groups[group]
    batches = [corpus.texts(shard) for shard in members]
    first_row = np.append(0, np.cumsum([len(batch) for batch in batches]))
    sizes = [np.diff(batch.offsets) for batch in batches]
    data = np.concatenate([batch.data[batch.offsets[0] : batch.offsets[-1]] for batch in batches])
    whole = TextBatch(data, np.append(0, np.cumsum(np.concatenate(sizes))))
    del batches
    document, start, end, source, source_start = plan.dedup._spans(whole, corpus.model)
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
        yield pa.record_batch(columns, schema=CUTS)


def _sources(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    """How many bytes each document is the source of, for each bucket of shards."""
    found = corpus.batch("cuts", *plan.cuts_place(shard))
    amount = _column(found, "end") - _column(found, "start")
    return _by_bucket(plan, *_summed(_column(found, "source_shard"), _column(found, "source_row"), amount))


def _repeated_bytes(plan: _Plan, corpus: StepCorpus, bucket: int) -> Batches:
    """For each shard of a bucket the bytes that are cut anywhere as repeats of its documents."""
    sent = corpus.across("sources", len(corpus.shards), bucket)
    parts = [[_column(batch, name) for name in SOURCES.names] for batch in sent]
    shard, row, amount = _summed(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    for member in plan.buckets[bucket]:
        yield pa.record_batch([row[shard == member], amount[shard == member]], schema=ANSWERED)


def _kept_sources(plan: _Plan, corpus: StepCorpus, shard: int) -> Batches:
    """How many bytes each document is the source of in kept documents, read from the annotations."""
    table = corpus.annotations(shard, ["status", EVIDENCE])
    if table is None:
        nothing = np.empty(0, np.int64)
        return _by_bucket(plan, nothing, nothing, nothing)
    cuts = pc.list_flatten(table.filter(pc.equal(table["status"], "kept"))[EVIDENCE]).combine_chunks()
    names = pc.struct_field(cuts, "source_shard").dictionary_encode()
    known = np.array([*map(corpus.shard_number, names.dictionary.to_pylist()), shard], np.int64)
    source_shard = known[pc.fill_null(names.indices, len(known) - 1).to_numpy(zero_copy_only=False)]
    size = _field(cuts, "end") - _field(cuts, "start")
    return _by_bucket(plan, *_summed(source_shard, _field(cuts, "source_row"), size))


def _orphans(plan: _Plan, corpus: StepCorpus, bucket: int) -> Batches:
    """For each shard of a bucket the bytes cut from kept documents whose source was not kept."""
    sent = corpus.across("kept_sources", len(corpus.shards), bucket)
    parts = [[_column(batch, name) for name in SOURCES.names] for batch in sent]
    shard, row, amount = (np.concatenate(column) for column in zip(*parts, strict=True))
    for member in plan.buckets[bucket]:
        here = shard == member
        orphaned = here.copy()
        table = corpus.annotations(member, ["status"])
        is_kept = np.empty(0, np.bool_) if table is None else pc.equal(table["status"], "kept").to_numpy()
        orphaned[here] = ~np.isin(row[here], np.flatnonzero(is_kept))
        yield pa.record_batch([row[orphaned], amount[orphaned]], schema=ANSWERED)


def _column(batch: pa.RecordBatch, name: str) -> Int64Array:
    return np.asarray(batch.column(name).to_numpy(), np.int64)


def _field(structs: pa.StructArray, name: str) -> Int64Array:
    return np.asarray(pc.struct_field(structs, name).to_numpy(zero_copy_only=False), np.int64)


def _within(shard: Int64Array, bucket: range) -> BoolArray:
    return (shard >= bucket.start) & (shard < bucket.stop)


def _by_bucket(plan: _Plan, shard: Int64Array, row: Int64Array, amount: Int64Array) -> Batches:
    for bucket in plan.buckets:
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


def _shrunk(plan: _Plan, batch: TextBatch, found: pa.RecordBatch) -> pa.RecordBatch:
    """Cuts with their ends moved inwards to a boundary; what becomes empty is gone."""
    from gneiss.dedup.boundaries import shrink_cuts
    from gneiss.dedup.spans import BOUNDARIES

    row, start, end, shard, source_row, source_start = (
        np.asarray(column.to_numpy(), np.int64) for column in found.columns
    )
    boundary = BOUNDARIES.index(plan.dedup.boundary)
    new_start, new_end = shrink_cuts(batch.data, batch.offsets, row, start, end, boundary)
    left = new_start < new_end
    columns = (row, new_start, new_end, shard, source_row, source_start + new_start - start)
    return pa.record_batch([column[left] for column in columns], schema=CUTS)
