"""One phase over the documents that reach it: edits, then annotations of the edited text, then rules and `keep`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import Annotate, Annotator, Column, annotate_present, input_of
from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.clusters import ShardClusters
from gneiss.curate.loaded_models import PhaseModels
from gneiss.curate.phase_result import Annotations, PhaseResult
from gneiss.curate.quarantine import isolated
from gneiss.curate.spans import OWN_SHARD, ShardSpans
from gneiss.edit import Edited, Editor, Edits
from gneiss.recipe.duplicates import Dedup
from gneiss.recipe.recipe import BASE_COLUMNS, Phase
from gneiss.recipe.rule import ARROW_TYPES, Verdicts, evaluate

if TYPE_CHECKING:
    import duckdb

    from gneiss.dedup.minhash.criteria import Criterion
    from gneiss.filters.tokenizer import Tokenizer

BATCH_BYTES = 16_000_000


@dataclass(frozen=True, eq=False)
class PhaseInput:
    """The documents of a shard that reach a phase: their rows, texts, whether edited before, annotations so far.

    inputs: what annotators read beside the text, by what it means (`id`, `url`).
    """

    shard_id: str
    rows: Int64Array
    inputs: Annotations
    batch: TextBatch
    edited: BoolArray
    annotations: Annotations

    def where(self, stay: BoolArray) -> PhaseInput:
        """Those documents alone for which `stay` is true."""
        if stay.all():
            return self
        chosen = pa.array(stay)
        return PhaseInput(
            self.shard_id,
            self.rows[stay],
            {name: column.filter(chosen) for name, column in self.inputs.items()},
            TextBatch.of(self.batch.to_arrow().filter(chosen)),
            self.edited[stay],
            {name: column.filter(chosen) for name, column in self.annotations.items()},
        )


@dataclass(frozen=True, eq=False)
class PhaseOutput:
    """What a phase made of its documents: these with all annotations, the verdicts on them, and failures by row."""

    documents: PhaseInput
    verdicts: Verdicts
    failures: dict[int, str]
    spans: ShardSpans | None

    @property
    def staying(self) -> PhaseInput:
        """The documents that the phase keeps."""
        return self.documents.where(self.verdicts.keep)


@dataclass(frozen=True, eq=False)
class CorpusResults:
    """What corpus-wide steps have found of a shard; what they have not is found within the shard.

    exact, near: its documents that have duplicates; spans: to cut, for the phase with dedup; computed: of phases (by
    name) that were computed for a later step.
    """

    exact: ShardClusters | None = None
    near: ShardClusters | None = None
    spans: ShardSpans | None = None
    computed: Mapping[str, PhaseResult] = field(default_factory=dict)


def compute_phase(phase: Phase, tools: PhaseModels, entering: PhaseInput, found: CorpusResults) -> PhaseResult:
    """The edits of a phase and the annotations of the edited texts. Raises ModelError."""
    edits, spans = Edits.none(), None
    annotations = _duplicates(phase, entering, found)
    if phase.dedup is not None:
        spans = found.spans or _own_spans(phase.dedup, tools.tokenizer, entering)
        edits, said = _cuts(entering, spans)
        annotations |= said
    edited, failures = _edit(entering.batch, phase.editors)
    edits = edits.then(edited.edits)
    batch = edits.apply(entering.batch)
    of_text = [(annotator, compute) for annotator, compute in tools.annotators if input_of(annotator) == "text"]
    computed, failed = _annotate(batch, of_text)
    for annotator, compute in tools.annotators:
        if input_of(annotator) != "text":
            computed |= annotate_present(annotator, compute, entering.inputs[input_of(annotator)])
    return PhaseResult(edits, {**annotations, **edited.annotations, **computed}, {**failed, **failures}, spans, batch)


def decide_phase(
    phase: Phase, connection: duckdb.DuckDBPyConnection, entering: PhaseInput, computed: PhaseResult
) -> PhaseOutput:
    """What the rules of a phase make of its documents. Raises RecipeError."""
    touched = np.zeros(len(entering.rows), np.bool_)
    touched[computed.edits.document] = True
    documents = replace(
        entering,
        batch=computed.edits.apply(entering.batch) if computed.edited is None else computed.edited,
        edited=entering.edited | touched,
        annotations={**entering.annotations, **computed.annotations},
    )
    if computed.failures:
        documents = documents.where(~np.isin(np.arange(len(documents.rows)), list(computed.failures)))
    verdicts = evaluate(connection, phase.decision, pa.table(documents.annotations))
    failures = {int(entering.rows[position]): why for position, why in computed.failures.items()}
    return PhaseOutput(documents, verdicts, failures, computed.spans)


def _duplicates(phase: Phase, entering: PhaseInput, found: CorpusResults) -> Annotations:
    """Which documents have duplicates: in the corpus where that is known, else among those of the shard."""
    annotations: Annotations = {}
    rows = entering.rows
    if phase.exact_duplicates is not None:
        exact = found.exact or _own_clusters(entering, phase.exact_duplicates)
        annotations |= {"exact_copies": exact.sizes(rows), "exact_first": exact.are_first(rows, entering.shard_id)}
    if phase.near_duplicates is not None:
        near = found.near or _own_clusters(entering, phase.near_duplicates)
        annotations |= {
            "near_cluster": near.names(rows),
            "near_cluster_size": near.sizes(rows),
            "near_first": near.are_first(rows, entering.shard_id),
        }
    return annotations


def _own_clusters(entering: PhaseInput, criterion: Criterion) -> ShardClusters:
    """The duplicates at shard scope: among the documents that reach the phase."""
    from gneiss.dedup.minhash.clusters import clusters
    from gneiss.dedup.minhash.keys import shard_keys
    from gneiss.dedup.minhash.matching import matched

    rows = int(entering.rows[-1]) + 1 if len(entering.rows) else 0
    keys = shard_keys(entering.batch.placed(entering.rows, rows), criterion)
    (members,) = clusters(matched(keys), [rows])
    return ShardClusters.of_batch(members, [entering.shard_id])


def _cuts(entering: PhaseInput, spans: ShardSpans) -> tuple[Edits, Annotations]:
    """Duplicate spans as edits, and what dedup says of the documents."""
    edits = Edits(np.searchsorted(entering.rows, spans.row), spans.start, spans.end)
    size, removed = np.diff(entering.batch.offsets), edits.removed_bytes(len(entering.batch))
    repeated = np.zeros(len(entering.batch), np.int64)
    repeated[np.searchsorted(entering.rows, spans.repeated_row)] = spans.repeated_bytes
    return edits, {
        "dedup_bytes": pa.array(removed),
        "dedup_fraction": pa.array(removed / np.maximum(size, 1), mask=size == 0),
        "dedup_repeated_bytes": pa.array(repeated),
    }


def _own_spans(dedup: Dedup, tokenizer: Tokenizer | None, entering: PhaseInput) -> ShardSpans:
    """The duplicate spans at shard scope: among the documents that reach the phase."""
    from gneiss.dedup import find_spans

    batch, rows = entering.batch, entering.rows
    found = find_spans(
        batch,
        min_length=dedup.min_length,
        unit=dedup.unit,
        tokenizer=tokenizer,
        engine=dedup.engine,
        policy=dedup.policy,
    ).shrink(batch.to_arrow(), dedup.boundary)
    document, start, end, source, source_start = found.arrays()
    repeated = np.zeros(len(batch), np.int64)
    np.add.at(repeated, source, end - start)
    own = np.full(len(document), OWN_SHARD)
    return ShardSpans(rows[document], start, end, own, rows[source], source_start, (), rows, repeated)


def _edit(batch: TextBatch, editors: Sequence[Editor]) -> tuple[Edited, dict[int, str]]:
    """What all editors do to a batch, at once, and position → reason of documents that an editor failed on."""
    if not editors:
        return Edited(Edits.none()), {}
    parts: list[Edits] = []
    annotations = _Columns(column for editor in editors for column in editor.columns)
    failures: dict[int, str] = {}
    for start, stop in _slices(batch):
        part, together = batch.slice(start, stop), Edits.none()
        for editor in editors:
            results, failed = isolated(part, _name(editor), partial(_edited, editor))
            annotations.add(
                editor.columns, [(size, edited.annotations if edited else None) for size, edited in results]
            )
            firsts = np.cumsum([0, *(size for size, _ in results[:-1])]).tolist()
            edits = [edited.edits.shifted(first) for first, (_, edited) in zip(firsts, results, strict=True) if edited]
            together = together.then(Edits.concatenated(edits))
            failures |= {start + position: why for position, why in failed.items()}
        parts.append(together.shifted(start))
    return Edited(Edits.concatenated(parts), annotations.arrays()), failures


def _annotate(batch: TextBatch, annotators: Sequence[tuple[Annotator, Annotate]]) -> tuple[Annotations, dict[int, str]]:
    """All annotations of a batch, slice by slice, and position → reason of documents that an annotator failed on."""
    annotations = _Columns([*BASE_COLUMNS, *(column for annotator, _ in annotators for column in annotator.columns)])
    failures: dict[int, str] = {}
    for start, stop in _slices(batch):
        part = batch.slice(start, stop)
        sizes = {"text_bytes": pa.array(np.diff(part.offsets)), "text_chars": pc.utf8_length(part.to_arrow())}
        annotations.add(BASE_COLUMNS, [(len(part), sizes)])
        for annotator, compute in annotators:
            results, failed = isolated(part, _name(annotator), partial(_annotated, annotator, compute))
            annotations.add(annotator.columns, results)
            failures |= {start + position: why for position, why in failed.items()}
    return annotations.arrays(), failures


def _slices(batch: TextBatch) -> Iterator[tuple[int, int]]:
    """Consecutive runs of documents of at most BATCH_BYTES; a longer document stands alone."""
    start = 0
    while start < len(batch):
        stop = int(np.searchsorted(batch.offsets, batch.offsets[start] + BATCH_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), len(batch))
        yield start, stop
        start = stop


def _name(part: Annotator | Editor) -> str:
    return type(part).__name__.lower()


def _edited(editor: Editor, batch: TextBatch) -> Edited:
    edited = editor.edit(batch)
    edited.edits.check(batch)
    _check_lengths(editor.columns, edited.annotations, len(batch))
    return edited


def _annotated(annotator: Annotator, compute: Annotate, batch: TextBatch) -> Mapping[str, pa.Array]:
    computed = compute(batch)
    _check_lengths(annotator.columns, computed, len(batch))
    return computed


def _check_lengths(columns: Sequence[Column], computed: Mapping[str, pa.Array], documents: int) -> None:
    for column in columns:
        if len(computed[column.name]) != documents:
            raise ValueError(f"{column.name}: expected {documents} values, found {len(computed[column.name])}")


class _Columns:
    """Annotations that come piece by piece; nulls where a document failed."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self._parts: dict[str, list[pa.Array]] = {}
        self._types = {column.name: ARROW_TYPES[column.type] for column in columns}
        for name in self._types:
            self._parts[name] = []

    def add(self, columns: Sequence[Column], pieces: Iterable[tuple[int, Mapping[str, pa.Array] | None]]) -> None:
        """Add (documents, values by name) of some columns, in order."""
        for size, values in pieces:
            for column in columns:
                type_ = self._types[column.name]
                found = pa.nulls(size, type_) if values is None else values[column.name].cast(type_)
                self._parts[column.name].append(found)

    def arrays(self) -> Annotations:
        """The whole columns."""
        empty = {name: [pa.array([], type_)] for name, type_ in self._types.items()}
        return {name: pa.concat_arrays(parts or empty[name]) for name, parts in self._parts.items()}
