"""One phase over the documents that reach it: edits, then annotations of the edited text, then rules and `keep`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import Annotate, Annotator, Column, arrow_type, checked
from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.corpus_steps import CorpusStep, PhaseDocuments, StepResult
from gneiss.curate.known import Known, KnownValues, Nothing
from gneiss.curate.loaded_models import PhaseModels
from gneiss.curate.phase_result import Annotations, PhaseResult
from gneiss.curate.quarantine import Unwatched, Watch, Watched, isolated
from gneiss.edit import Edited, Editor, Edits
from gneiss.recipe.phase import Phase
from gneiss.recipe.rule import Verdicts, evaluate, measured

if TYPE_CHECKING:
    import duckdb

BATCH_BYTES = 16_000_000


@dataclass(frozen=True, eq=False)
class ShardRows:
    """Shards whose rows are counted through: their ids, and the first row of each; bounds: int64 (shards + 1,)."""

    ids: Sequence[str]
    bounds: Int64Array

    @classmethod
    def of(cls, ids: Sequence[str], rows: Sequence[int]) -> ShardRows:
        """Shards of these numbers of rows."""
        return cls(ids, np.cumsum([0, *rows]))

    @property
    def name(self) -> str:
        """What messages call them."""
        return self.ids[0] + (f" and {len(self.ids) - 1} more" if len(self.ids) > 1 else "")

    def of_rows(self, rows: Int64Array) -> Int64Array:
        """The number of the shard of each row."""
        found: Int64Array = np.searchsorted(self.bounds, rows, side="right") - 1
        return found

    def range_of(self, number: int, rows: Int64Array) -> slice:
        """Where the rows of a shard are among some rows of all, which rise."""
        start, stop = np.searchsorted(rows, self.bounds[number : number + 2]).tolist()
        return slice(start, stop)


@dataclass(frozen=True, eq=False)
class PhaseInput:
    """The documents of shards that reach a phase: their rows, texts, whether edited before, annotations so far.

    inputs: further inputs of annotators, by role (`id`, `url`).
    """

    shards: ShardRows
    rows: Int64Array
    inputs: Annotations
    batch: TextBatch
    edited: BoolArray
    annotations: Annotations

    def where(self, stay: BoolArray) -> PhaseInput:
        """Only the documents for which `stay` is true."""
        if stay.all():
            return self
        chosen = pa.array(stay)
        return PhaseInput(
            self.shards,
            self.rows[stay],
            {name: column.filter(chosen) for name, column in self.inputs.items()},
            TextBatch.of(self.batch.to_arrow().filter(chosen)),
            self.edited[stay],
            {name: column.filter(chosen) for name, column in self.annotations.items()},
        )

    def measured(self, measure: str) -> pa.Array:
        """See PhaseDocuments: over the annotations of earlier phases, and the sizes of the texts."""
        sizes = {
            "text_bytes": pa.array(np.diff(self.batch.offsets)),
            "text_chars": pc.utf8_length(self.batch.to_arrow()),
        }
        return measured(measure, pa.table({**self.annotations, **sizes}))

    @property
    def shard_id(self) -> str:
        """The shard."""
        return self.shards.name

    def of_shard(self, number: int) -> PhaseInput:
        """Only the documents of one of the shards."""
        if len(self.shards.ids) == 1:
            return self
        here = self.shards.range_of(number, self.rows)
        return PhaseInput(
            ShardRows([self.shards.ids[number]], self.shards.bounds[number : number + 2] - self.shards.bounds[number]),
            self.rows[here] - self.shards.bounds[number],
            _sliced(self.inputs, here),
            self.batch.slice(here.start, here.stop),
            self.edited[here],
            _sliced(self.annotations, here),
        )


@dataclass(frozen=True, eq=False)
class PhaseOutput:
    """The documents of a phase with all annotations, and the verdicts on them; failures are by row.

    entered: the rows that reached the phase; found: what its steps found for them.
    """

    documents: PhaseInput
    verdicts: Verdicts
    failures: dict[int, str]
    entered: Int64Array
    found: StepResult

    @property
    def staying(self) -> PhaseInput:
        """The documents kept by the phase."""
        return self.documents.where(self.verdicts.keep)

    def of_shard(self, number: int) -> PhaseOutput:
        """The same for one of the shards."""
        shards = self.documents.shards
        if len(shards.ids) == 1:
            return self
        here, entered = shards.range_of(number, self.documents.rows), shards.range_of(number, self.entered)
        first, end = shards.bounds[number : number + 2].tolist()
        return PhaseOutput(
            self.documents.of_shard(number),
            Verdicts(self.verdicts.truth[here], self.verdicts.keep[here], self.verdicts.decisive[here]),
            {row - first: why for row, why in self.failures.items() if first <= row < end},
            self.entered[entered] - first,
            StepResult(_sliced(self.found.annotations, entered), evidence=_sliced(self.found.evidence, entered)),
        )


#: The results of a step's stages for a shard: a function of the documents that enter its phase.
FoundByStages: TypeAlias = Callable[[PhaseDocuments], StepResult]


@dataclass(frozen=True, eq=False)
class CorpusResults:
    """Results for a shard of the stages before `curate`.

    steps: by key, those that see more than the shard, or were stored; phases: by name, those that were computed and
    decided already; known: annotations that need not be computed.
    """

    steps: Mapping[str, FoundByStages] = field(default_factory=dict)
    phases: Mapping[str, PhaseResult] = field(default_factory=dict)
    known: Known = field(default_factory=Nothing)


def compute_phase(
    phase: Phase,
    models: PhaseModels,
    entering: PhaseInput,
    results: CorpusResults,
    watch: Watch = Unwatched(),  # noqa: B008
) -> PhaseResult:
    """The edits of a phase and the annotations of the edited texts. Raises ModelError and DefectError."""
    edits = Edits.none()
    annotations: Annotations = {}
    evidence: Annotations = {}
    for step, model in models.steps:
        by_stages = results.steps.get(step.key)
        found = by_stages(entering) if by_stages else _within_shards(step, model, entering)
        edits = edits if found.edits is None else edits.then(found.edits)
        annotations |= found.annotations
        evidence |= found.evidence
    parts: list[Annotator | Editor] = [*phase.editors, *phase.annotators]
    watched = [
        Watched(_name(part), f"shard {entering.shard_id}, phase {phase.name}, filter {n} ({_name(part)})", watch)
        for n, part in enumerate(parts, 1)
    ]
    edited, failures = _edit(entering.batch, entering.rows, list(zip(watched, phase.editors, strict=False)))
    edits = edits.then(edited.edits)
    batch = edits.apply(entering.batch)
    annotations |= {**edited.annotations, "text_bytes": pa.array(np.diff(batch.offsets))}
    annotations["text_chars"] = pc.utf8_length(batch.to_arrow())
    of_annotators = [
        _Its(watched, pair, results.known.values(phase.name, number, entering.rows, batch))
        for number, (watched, pair) in enumerate(zip(watched[len(phase.editors) :], models.annotators, strict=True))
    ]
    first = [of_annotator for of_annotator in of_annotators if not of_annotator.annotator[0].reads_annotations]
    computed, failed = _annotate_rest(batch, entering, first)
    for number in phase.annotation_order[len(first) :]:
        there = {**entering.annotations, **annotations, **computed}
        read = {name: there[name] for name in phase.annotators[number].reads_annotations}
        more, failed_too = _annotate_rest(batch.annotated(read), entering, [of_annotators[number]])
        computed, failed = computed | more, failed_too | failed
    return PhaseResult(edits, annotations | computed, {**failed, **failures}, evidence, batch)


def decide_phase(
    phase: Phase, connection: duckdb.DuckDBPyConnection, entering: PhaseInput, result: PhaseResult
) -> PhaseOutput:
    """The verdicts of a phase's rules on its documents, unless already decided."""
    documents = annotated(entering, result)
    verdicts = result.verdicts
    if verdicts is None:
        verdicts = evaluate(connection, phase.decision, pa.table(documents.annotations))
    failures = {int(entering.rows[position]): why for position, why in result.failures.items()}
    found = StepResult(result.annotations, evidence=result.evidence)
    return PhaseOutput(documents, verdicts, failures, entering.rows, found)


def annotated(entering: PhaseInput, result: PhaseResult) -> PhaseInput:
    """The documents of a phase without failures, with their edited texts and the phase's annotations."""
    touched = np.zeros(len(entering.rows), np.bool_)
    touched[result.edits.document] = True
    documents = replace(
        entering,
        batch=result.edits.apply(entering.batch) if result.edited is None else result.edited,
        edited=entering.edited | touched,
        annotations={**entering.annotations, **result.annotations},
    )
    return documents.where(~np.isin(np.arange(len(touched)), list(result.failures)))


def _within_shards(step: CorpusStep, model: Any, entering: PhaseInput) -> StepResult:
    """What a step finds in each of the shards, none of which it sees together with another."""
    each = [entering.of_shard(number) for number in range(len(entering.shards.ids))]
    found = [step.within_shard(documents, model) for documents in each]
    if len(found) == 1:
        return found[0]
    firsts = np.cumsum([0, *(len(documents.rows) for documents in each)]).tolist()
    edits = [
        result.edits.shifted(first) for result, first in zip(found, firsts, strict=False) if result.edits is not None
    ]
    return StepResult(
        _concatenated([result.annotations for result in found]),
        Edits.concatenated(edits) if edits else None,
        _concatenated([result.evidence for result in found]),
    )


def _concatenated(parts: Sequence[Mapping[str, pa.Array]]) -> Annotations:
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def _sliced(columns: Mapping[str, pa.Array], part: slice) -> Annotations:
    return {name: column.slice(part.start, part.stop - part.start) for name, column in columns.items()}


def _edit(
    batch: TextBatch, rows: Int64Array, editors: Sequence[tuple[Watched, Editor]]
) -> tuple[Edited, dict[int, str]]:
    """All editors' edits of a batch, and position → reason of documents on which an editor failed."""
    if not editors:
        return Edited(Edits.none()), {}
    parts: list[Edits] = []
    annotations = _Columns(column for _, editor in editors for column in editor.columns)
    failures: dict[int, str] = {}
    for start, stop in _slices(batch):
        part, together = batch.slice(start, stop), Edits.none()
        for kind, editor in editors:
            results, failed = isolated(part, kind, partial(_edited, editor), rows[start:stop])
            annotations.add(
                editor.columns, [(size, edited.annotations if edited else None) for size, edited in results]
            )
            firsts = np.cumsum([0, *(size for size, _ in results[:-1])]).tolist()
            edits = [edited.edits.shifted(first) for first, (_, edited) in zip(firsts, results, strict=True) if edited]
            together = together.then(Edits.concatenated(edits))
            failures |= {start + position: why for position, why in failed.items()}
        parts.append(together.shifted(start))
    return Edited(Edits.concatenated(parts), annotations.arrays()), failures


@dataclass(frozen=True, eq=False)
class _Its:
    """An annotator under watch, and its values that are known already."""

    watched: Watched
    annotator: tuple[Annotator, Annotate]
    known: KnownValues

    @property
    def reads(self) -> str:
        return self.annotator[0].reads


def _annotate_rest(
    batch: TextBatch, entering: PhaseInput, annotators: Sequence[_Its]
) -> tuple[Annotations, dict[int, str]]:
    """All annotations of a batch, and failures; computed is what is not known, for like documents at once."""
    together: dict[tuple[str, bytes], list[_Its]] = {}
    for annotator in annotators:
        together.setdefault((annotator.reads, annotator.known.there.tobytes()), []).append(annotator)
    annotations: Annotations = {}
    failures: dict[int, str] = {}
    for (reads, _), group in sorted(together.items(), key=lambda item: item[0][0] != "text"):
        left = np.flatnonzero(~group[0].known.there)
        found: Annotations = {}
        if len(left) or not len(batch):
            rows, pairs = entering.rows[left], [(entry.watched, entry.annotator) for entry in group]
            if reads == "text":
                found, failed = _annotate(batch.taken(left), rows, pairs)
            else:
                found, failed = _annotate_input(entering.inputs[reads].take(pa.array(left)), rows, pairs)
            failures = {int(left[position]): why for position, why in failed.items()} | failures
        for annotator in group:
            own = {column.name: found[column.name] for column in annotator.annotator[0].columns if column.name in found}
            annotations |= annotator.known.completed(own)
    return annotations, failures


def _annotate(
    batch: TextBatch, rows: Int64Array, annotators: Sequence[tuple[Watched, tuple[Annotator, Annotate]]]
) -> tuple[Annotations, dict[int, str]]:
    """All annotations of a batch, slice by slice, and position → reason of documents on which an annotator failed."""
    annotations = _Columns(column for _, (annotator, _) in annotators for column in annotator.columns)
    failures: dict[int, str] = {}
    for start, stop in _slices(batch):
        part = batch.slice(start, stop)
        for watched, (annotator, compute) in annotators:
            results, failed = isolated(part, watched, partial(_annotated, annotator, compute), rows[start:stop])
            annotations.add(annotator.columns, results)
            failures |= {start + position: why for position, why in failed.items()}
    return annotations.arrays(), failures


def _annotate_input(
    values: pa.Array, rows: Int64Array, annotators: Sequence[tuple[Watched, tuple[Annotator, Annotate]]]
) -> tuple[Annotations, dict[int, str]]:
    """The same for annotators of another column than the text, which may have nulls: these have null annotations."""
    there = np.flatnonzero(values.is_valid())
    found, failed = _annotate(TextBatch.of(values.drop_null()), rows[there], annotators)
    places = np.full(len(values), -1)
    places[there] = np.arange(len(there))
    chosen = pa.array(places, mask=places < 0)
    return {name: array.take(chosen) for name, array in found.items()}, {
        int(there[at]): why for at, why in failed.items()
    }


def _slices(batch: TextBatch) -> Iterator[tuple[int, int]]:
    """Consecutive runs of documents of at most BATCH_BYTES; a longer document is a run by itself."""
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
    return replace(edited, annotations=checked(editor.columns, edited.annotations, len(batch)))


def _annotated(annotator: Annotator, compute: Annotate, batch: TextBatch) -> Mapping[str, pa.Array]:
    return checked(annotator.columns, compute(batch), len(batch))


class _Columns:
    """Annotations, collected batch by batch; null for documents that failed."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self._parts: dict[str, list[pa.Array]] = {}
        self._types = {column.name: arrow_type(column.type) for column in columns}
        for name in self._types:
            self._parts[name] = []

    def add(self, columns: Sequence[Column], pieces: Iterable[tuple[int, Mapping[str, pa.Array] | None]]) -> None:
        """Add (documents, values by name) of some columns, in order."""
        for size, values in pieces:
            for column in columns:
                type_ = self._types[column.name]
                self._parts[column.name].append(pa.nulls(size, type_) if values is None else values[column.name])

    def arrays(self) -> Annotations:
        """The whole columns."""
        empty = {name: [pa.array([], type_)] for name, type_ in self._types.items()}
        return {name: pa.concat_arrays(parts or empty[name]) for name, parts in self._parts.items()}
