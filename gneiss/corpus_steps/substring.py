"""Exact substring dedup: text repeated for `min_length` units is cut from all but its first copy.

The recipe's key, what is found within a shard, and what the stages found for one (`substring_stages`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from gneiss.annotation import STRICT_KEYS, Column
from gneiss.arrays import BoolArray, Int64Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.corpus_steps.scope import Scope, check_group, group_of, have_no_group_in_common, stretches
from gneiss.corpus_steps.step import (
    CorpusStep,
    PhaseDocuments,
    ShardSize,
    Stage,
    StepCorpus,
    StepResult,
)
from gneiss.corpus_steps.substring_plan import SubstringPlan, buckets_of, scheme_of
from gneiss.corpus_steps.substring_sources import column_of, field_of, stages_after
from gneiss.corpus_steps.substring_stages import CUTS, stages_before
from gneiss.corpus_steps.union import Union

if TYPE_CHECKING:
    from gneiss.dedup.units import Tokenizer

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
EVIDENCE = "dedup_cuts"
_GROUP_MAX_BYTES = 2_000_000_000
_COLUMNS = (
    Column("dedup_bytes", "int64", "bytes that substring dedup cut from the document"),
    Column("dedup_fraction", "float64", "cut bytes over the bytes before the cut; null for an empty text"),
    Column("dedup_repeated_bytes", "int64", "bytes cut elsewhere, in scope, as repeats of this document"),
)
_AGAINST = Column("dedup_against_bytes", "int64", "of the bytes cut, those that repeat other outputs, of `against`")


def _fills_none(share: float) -> bool:
    """Recipes are older than `fill_gaps`, and keep their digests without it."""
    return share == 1


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: object) -> bool:
    return value == ()


@dataclass(frozen=True)
class Dedup(CorpusStep):
    """Exact substring dedup as an edit: what repeats for `min_length` units is cut from all but the first copy.

    unit: bytes of UTF-8, or tokens of `tokenizer` (`builtin:cl100k_base`, a local path or hf://); boundary: where a cut
    may begin and end; fill_gaps: the share of a stretch from which on the gaps between its cuts are cut; first_by: a
    measure in SQL by which documents are ordered, the largest first; scope: `shard`, `file` (all shards of an input
    file), `group` (consecutive shards whose ids have the same value of the pattern `group_by`, its first group if it
    has one, at most `group_max_bytes` of text), or `corpus`; against: outputs of finished runs with an index, whose
    text comes first.
    """

    __pydantic_config__ = STRICT_KEYS
    key: ClassVar[str] = "dedup"
    evidence: ClassVar[tuple[pa.Field, ...]] = (pa.field(EVIDENCE, pa.list_(CUT)),)
    is_stored: ClassVar[bool] = True
    count_names: ClassVar[tuple[str, ...]] = ("dedup_bytes", "orphaned_bytes")
    counted_after: ClassVar[tuple[str, ...]] = ("orphaned_bytes",)

    min_length: Annotated[int, Field(ge=2, lt=2**31)] = 200
    unit: Literal["bytes", "tokens"] = "bytes"
    tokenizer: str | None = None
    policy: Literal["protect", "union", "all"] = "protect"
    engine: Literal["anchors", "suffix-array"] = "anchors"
    scope: Scope = "shard"
    group_by: str | None = None
    group_max_bytes: Annotated[int, Field(ge=1)] = _GROUP_MAX_BYTES
    boundary: Literal["char", "word", "line", "sentence"] = "char"
    fill_gaps: Annotated[float, Field(gt=0, le=1, exclude_if=_fills_none)] = 1.0
    first_by: Annotated[str | None, Field(exclude_if=_is_none)] = None
    against: Annotated[tuple[str, ...], Field(exclude_if=_is_empty)] = ()

    def __post_init__(self) -> None:
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise ValueError("`unit: tokens` goes with a `tokenizer`, and `unit: bytes` without one")
        check_group(self.scope, self.group_by)
        if self.scope != "group" and self.group_max_bytes != _GROUP_MAX_BYTES:
            raise ValueError("`group_max_bytes` goes with `scope: group`")
        if self.scope == "corpus" and self.engine != "anchors":
            raise ValueError("`scope: corpus` needs `engine: anchors`")
        if self.scope != "corpus" and self.against:
            raise ValueError("`against` goes with `scope: corpus`")

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]  # one is there only where it has a meaning
        """See CorpusStep."""
        return (*_COLUMNS, _AGAINST) if self.against else _COLUMNS

    @property
    def index_parameters(self) -> Mapping[str, Any] | None:
        """See CorpusStep: passages have all windows of this many units. A file of a tokenizer is known by its bytes."""
        tokenizer = "a tokenizer.json" if self.model_files else self.tokenizer
        given = {"min_length": self.min_length, "unit": self.unit, "tokenizer": tokenizer}
        return given if self.scope == "corpus" else None

    @property
    def sees_corpus(self) -> bool:
        """See CorpusStep."""
        return self.scope != "shard"

    def are_apart(self, earlier: Sequence[ShardSize], later: Sequence[ShardSize]) -> bool:
        """See CorpusStep: where no group has shards of both."""
        return self.scope != "corpus" and have_no_group_in_common(self._group, earlier, later)

    def scope_of(self, shards: Sequence[ShardSize]) -> Scope | None:
        """See CorpusStep: files of one shard each are seen at shard scope."""
        return "shard" if self.scope == "file" and all(len(group) == 1 for group in self.groups(shards)) else None

    @property
    def explanation(self) -> str:
        """See CorpusStep."""
        hidden = {"group_max_bytes"} if self.scope != "group" else set()
        hidden |= {"fill_gaps"} if _fills_none(self.fill_gaps) else set()
        hidden |= set() if self.against else {"against"}
        given = {name: value for name, value in asdict(self).items() if value is not None and name not in hidden}
        return f"cuts      repeats ({', '.join(f'{name} {value}' for name, value in given.items())})"

    @property
    def measures(self) -> Mapping[str, str | None]:
        """See CorpusStep."""
        return {"first_by": self.first_by}

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
        from gneiss.dedup.preference import order_of

        order = None if self.first_by is None else order_of(documents.measured(self.first_by))
        document, start, end, source, source_start = self._spans(documents.batch, model, order)
        repeated = np.zeros(len(documents.batch), np.int64)
        np.add.at(repeated, source, end - start)
        own, is_foreign = pa.nulls(len(document), pa.string()), np.zeros(len(document), np.bool_)
        rows = documents.rows[source]
        return self._result(documents, document, start, end, own, rows, source_start, is_foreign, repeated)

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]:
        """See CorpusStep."""
        return stages_before(self._plan(corpus), corpus)

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]:
        """See CorpusStep: what a shard has no other to be compared with is found here, without stages."""
        plan, union = self._plan(corpus), Union.of(corpus)

        def found(shard: int, documents: PhaseDocuments) -> StepResult:
            if plan.sees_no_other(shard):
                return self.within_shard(documents, corpus.model)
            return self._found(plan, union, corpus, shard, documents)

        return found

    def _found(
        self, plan: SubstringPlan, union: Union, corpus: StepCorpus, shard: int, documents: PhaseDocuments
    ) -> StepResult:
        cuts = corpus.batch("cuts", *plan.cuts_place(shard))
        answered = corpus.batch("repeated_bytes", *plan.bucket_place(shard))
        row, start, end, source_shard, source_row, source_start = (column_of(cuts, name) for name in CUTS.names)
        numbers, index = np.unique(source_shard, return_inverse=True)
        is_foreign = union.against[source_shard] >= 0
        hidden = (union.against[numbers] >= 0) | (numbers == plan.known + shard)
        named = zip(numbers.tolist(), hidden.tolist(), strict=True)
        ids = pa.array([None if is_hidden else union.ids[n] for n, is_hidden in named], pa.string())
        repeated = np.zeros(len(documents.batch), np.int64)
        repeated[np.searchsorted(documents.rows, column_of(answered, "row"))] = column_of(answered, "amount")
        document = np.searchsorted(documents.rows, row)
        names = ids.take(pa.array(index, pa.int64()))
        return self._result(documents, document, start, end, names, source_row, source_start, is_foreign, repeated)

    def stored(self, annotations: Mapping[str, pa.Array], evidence: Mapping[str, pa.Array]) -> StepResult:
        """See CorpusStep: its edits are the cuts."""
        from gneiss.edit import Edits

        lists = evidence[EVIDENCE]
        cuts, document = lists.flatten(), np.repeat(np.arange(len(lists)), np.diff(np.asarray(lists.offsets)))
        edits = Edits(document, field_of(cuts, "start"), field_of(cuts, "end"))
        return StepResult(annotations, edits, evidence)

    def stages_after(self, corpus: StepCorpus) -> Sequence[Stage]:
        """See CorpusStep."""
        return stages_after(self._plan(corpus), corpus, EVIDENCE)

    def counts(self, rows: Int64Array, result: StepResult, is_kept: BoolArray) -> Mapping[str, int]:
        """Bytes cut; and, at shard scope, bytes cut from kept documents whose source was not kept."""
        lists = result.evidence[EVIDENCE]
        cuts = lists.flatten()
        size = field_of(cuts, "end") - field_of(cuts, "start")
        orphaned = 0
        if self.scope == "shard":
            row = np.repeat(rows, np.diff(np.asarray(lists.offsets)))
            orphaned = int(size[is_kept[row] & ~is_kept[field_of(cuts, "source_row")]].sum())
        return {"dedup_bytes": int(size.sum()), "orphaned_bytes": orphaned}

    def counts_after(self, corpus: StepCorpus) -> Mapping[str, int]:
        """Bytes cut from kept documents whose source was not kept."""
        buckets = range(len(self._plan(corpus).output_buckets))
        found = (
            int(column_of(batch, "amount").sum()) for bucket in buckets for batch in corpus.batches("orphans", bucket)
        )
        return {"orphaned_bytes": sum(found)}

    def _plan(self, corpus: StepCorpus) -> SubstringPlan:
        shards, union = corpus.shards, Union.of(corpus)
        own_bytes, own_rows = sum(shard.text_bytes for shard in shards), sum(union.rows[union.before :])
        text_bytes = own_bytes * sum(union.rows) // max(own_rows, 1)
        scheme = scheme_of(self.min_length, self.unit, text_bytes, corpus.partitions)
        groups = None if self.scope == "corpus" else self.groups(shards)
        buckets = buckets_of(len(shards), scheme.partitions) if groups is None else groups
        return SubstringPlan(
            self.unit,
            self.policy,
            self.boundary,
            self.fill_gaps,
            self.first_by,
            groups,
            buckets,
            scheme,
            union.before,
            int((union.against >= 0).sum()),
            self._spans,
        )

    def shard_memory_bytes(self, shards: Sequence[ShardSize]) -> int:
        """See CorpusStep."""
        largest = max((shard.text_bytes for shard in shards), default=0)
        if self.scope in ("file", "group"):
            largest = max((sum(shards[n].text_bytes for n in group) for group in self.groups(shards)), default=0)
        copied = self.first_by is not None  # the texts, into another order
        return (BYTES_PER_BYTE[self.engine if self.engine == "suffix-array" else self.unit] + copied) * largest

    def groups(self, shards: Sequence[ShardSize]) -> tuple[range, ...]:
        """The shards that see each other, below corpus scope, where they are consecutive.

        Raises RecipeError where a shard's id does not match the pattern.
        """
        return stretches(shards, self._group, self.group_max_bytes if self.scope == "group" else None)

    def _group(self, shard: ShardSize) -> Hashable:
        """The same for shards that see each other, below corpus scope, where they are consecutive."""
        return group_of(self.key, self.group_by, shard.id) if self.scope == "group" else shard.file

    def _spans(
        self, batch: TextBatch, tokenizer: Tokenizer | None, order: UInt64Array | None
    ) -> tuple[Int64Array, ...]:
        """Document, start, end, source and source start of the cuts of a batch, int64 (cuts,)."""
        from gneiss.dedup import find_spans

        spans = find_spans(
            batch,
            min_length=self.min_length,
            unit=self.unit,
            tokenizer=tokenizer,
            engine=self.engine,
            policy=self.policy,
            fill_gaps=self.fill_gaps,
            order=order,
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
        is_foreign: BoolArray,
        repeated: Int64Array,
    ) -> StepResult:
        """The cuts of documents (by position), sorted, as edits, annotations and evidence.

        is_foreign: whether each repeats another output, whose documents are not named.
        """
        from gneiss.edit import Edits

        n, edits = len(documents.batch), Edits(document, start, end)
        size, removed = np.diff(documents.batch.offsets), edits.removed_bytes(n)
        offsets = np.append(0, np.cumsum(np.bincount(document, minlength=n))).astype(np.int32)
        sources = (pa.array(values, mask=is_foreign) for values in (source_row, source_start))
        fields = [pa.array(start), pa.array(end), source_shard, *sources]
        cuts = pa.StructArray.from_arrays(fields, fields=list(CUT))
        annotations = {
            "dedup_bytes": pa.array(removed),
            "dedup_fraction": pa.array(removed / np.maximum(size, 1), mask=size == 0),
            "dedup_repeated_bytes": pa.array(repeated),
        }
        if self.against:
            of_others = np.zeros(n, np.int64)
            np.add.at(of_others, document[is_foreign], (end - start)[is_foreign])
            annotations["dedup_against_bytes"] = pa.array(of_others)
        return StepResult(annotations, edits, {EVIDENCE: pa.ListArray.from_arrays(pa.array(offsets), cuts)})
