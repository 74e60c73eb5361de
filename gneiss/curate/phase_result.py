"""Results and decisions of a phase for a shard, and their form in exchange files for later stages.

Corpus-wide steps see the documents that earlier phases keep. The results of those phases, for which models run, are
written once as an exchange file, and read by every stage that needs texts, and by `curate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import arrow_type
from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.edit import Edits
from gneiss.recipe.columns import BASE_COLUMNS
from gneiss.recipe.phase import Phase
from gneiss.recipe.rule import Verdicts

Annotations: TypeAlias = dict[str, pa.Array]

_EDIT = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("replacement", pa.large_string())])
# Annotation names cannot contain blanks.
_FAILURE, _EDITS, _KEEP = "failure of the document", "edits of the document", "is the document kept"
_TRUTH, _DECISIVE = "truth of the rules", "decisive rules"


@dataclass(frozen=True, eq=False)
class PhaseResult:
    """A phase's result: edits of the texts that reached it, and annotations (documents,) of the edited texts.

    failures: position → reason of documents that an editor or annotator failed on; evidence: further columns of steps,
    (documents,); edited: the edited texts, where they are at hand; verdicts: on the documents without failures, where
    they are decided: not in an exchange file where the phase has rules by share.
    """

    edits: Edits
    annotations: Annotations
    failures: dict[int, str]
    evidence: Annotations
    edited: TextBatch | None = None
    verdicts: Verdicts | None = None

    def decided(self, verdicts: Verdicts) -> PhaseResult:
        """The same with verdicts, and without the edited texts."""
        return replace(self, verdicts=verdicts, edited=None)

    def undecided(self) -> PhaseResult:
        """The same without the edited texts."""
        return replace(self, edited=None)


def phases_schema(phases: Sequence[Phase]) -> pa.Schema:
    """The schema of `to_batch` for consecutive phases."""
    fields = ((i, field) for i, phase in enumerate(phases) for field in _fields(phase))
    return pa.schema([field.with_name(_name(i, field.name)) for i, field in fields])


def to_batch(phases: Sequence[Phase], rows: Sequence[Int64Array], results: Sequence[PhaseResult]) -> pa.RecordBatch:
    """Results of consecutive phases, a row for each document that reached the first; null past its last phase.

    All are decided, but the last one where it has rules by share.

    Parameters: `rows`: for each phase the rows in the shard that reached it, int64 (documents,).
    """
    columns: list[pa.Array] = []
    for phase, own, result in zip(phases, rows, results, strict=True):
        positions = np.searchsorted(own, rows[0])
        there = np.isin(rows[0], own)
        chosen = pa.array(np.where(there, positions, 0), mask=~there)
        columns += [column.take(chosen) for column in _columns(phase, result, len(own))]
    return pa.record_batch(columns, schema=phases_schema(phases))


def of_batch(phases: Sequence[Phase], batch: pa.RecordBatch) -> Iterator[PhaseResult]:
    """The inverse of `to_batch`, phase by phase."""
    reached = np.ones(batch.num_rows, np.bool_)
    for i, phase in enumerate(phases):
        here = pa.array(reached)
        yield _result(phase, {field.name: batch.column(_name(i, field.name)).filter(here) for field in _fields(phase)})
        reached = reached & np.asarray(batch.column(_name(i, _KEEP)).fill_null(False))


def only_edits(phases: Sequence[Phase]) -> list[str]:
    """The columns of `to_batch` that `edits_of_batch` reads."""
    return [_name(i, name) for i in range(len(phases)) for name in (_EDITS, _KEEP)]


def edits_of_batch(phases: Sequence[Phase], batch: pa.RecordBatch) -> Iterator[tuple[Edits, BoolArray]]:
    """For each phase the edits of the documents that reached it, and which of them stay, bool (documents,)."""
    reached = np.ones(batch.num_rows, np.bool_)
    for i in range(len(phases)):
        keep = np.asarray(batch.column(_name(i, _KEEP)).fill_null(False))
        yield _edits(batch.column(_name(i, _EDITS)).filter(pa.array(reached))), keep[reached]
        reached = reached & keep


def _name(phase: int, name: str) -> str:
    return f"{phase}: {name}"


def _fields(phase: Phase) -> list[pa.Field]:
    return [
        *(pa.field(column.name, arrow_type(column.type)) for column in (*BASE_COLUMNS, *phase.columns)),
        *phase.evidence,
        pa.field(_FAILURE, pa.string()),
        pa.field(_EDITS, pa.list_(_EDIT)),
        pa.field(_KEEP, pa.bool_()),
        pa.field(_TRUTH, pa.list_(pa.int8())),
        pa.field(_DECISIVE, pa.list_(pa.bool_())),
    ]


def _columns(phase: Phase, result: PhaseResult, documents: int) -> Iterator[pa.Array]:
    """The columns of `_fields`, (documents,)."""
    for field in _fields(phase)[:-5]:
        yield (result.evidence if field.name in result.evidence else result.annotations)[field.name]
    yield pa.array([result.failures.get(position) for position in range(documents)], pa.string())
    edits = result.edits
    replacement = pa.nulls(len(edits), pa.large_string()) if edits.replacement is None else edits.replacement.to_arrow()
    values = pa.StructArray.from_arrays([edits.start, edits.end, replacement], fields=list(_EDIT))
    offsets = np.append(0, np.cumsum(np.bincount(edits.document, minlength=documents))).astype(np.int32)
    yield pa.ListArray.from_arrays(pa.array(offsets), values)
    if result.verdicts is None:
        yield from (pa.nulls(documents, field.type) for field in _fields(phase)[-3:])
        return
    decided = np.ones(documents, np.bool_)
    decided[list(result.failures)] = False
    place = pa.array(np.cumsum(decided) - 1, mask=~decided)
    yield pa.array(result.verdicts.keep).take(place)
    for flags in (result.verdicts.truth, result.verdicts.decisive):
        bounds = np.arange(len(flags) + 1, dtype=np.int32) * flags.shape[1]
        yield pa.ListArray.from_arrays(pa.array(bounds), pa.array(flags.ravel())).take(place)


def _result(phase: Phase, columns: Mapping[str, pa.Array]) -> PhaseResult:
    failures = {i: why for i, why in enumerate(columns[_FAILURE].to_pylist()) if why is not None}
    evidence = {field.name: columns[field.name] for field in phase.evidence}
    annotations = {column.name: columns[column.name] for column in (*BASE_COLUMNS, *phase.columns)}
    found = PhaseResult(_edits(columns[_EDITS]), annotations, failures, evidence)
    if phase.shares:
        return found
    decided = columns[_KEEP].is_valid()
    keep = np.asarray(columns[_KEEP].filter(decided))
    shape = len(keep), len(phase.rules)
    truth = np.asarray(columns[_TRUTH].filter(decided).flatten().to_numpy(zero_copy_only=False), np.int8)
    decisive = np.asarray(columns[_DECISIVE].filter(decided).flatten().to_numpy(zero_copy_only=False), np.bool_)
    return found.decided(Verdicts(truth.reshape(shape), keep, decisive.reshape(shape)))


def _edits(lists: pa.ListArray) -> Edits:
    values = lists.flatten()
    start, end, replacement = (pc.struct_field(values, field.name) for field in _EDIT)
    document = np.repeat(np.arange(len(lists)), np.asarray(pc.list_value_length(lists).fill_null(0)))
    texts = None if replacement.null_count else TextBatch.of(replacement)
    starts, ends = (np.asarray(column.to_numpy(zero_copy_only=False), np.int64) for column in (start, end))
    return Edits(document, starts, ends, texts)
