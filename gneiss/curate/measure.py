"""Measuring: from a decided shard to its statistics."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Int64Array
from gneiss.corpus_steps import STEPS, StepResult
from gneiss.curate.phase import PhaseInput, PhaseOutput
from gneiss.curate.reading import Documents, kind_of
from gneiss.curate.statistics import DROPPED, KEPT, QUARANTINED, ColumnStatistics, Statistics, bins_of
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import FAILED, NOT_TRUE, TRUE, UNKNOWN


def measure(
    recipe: Recipe, documents: Documents, outputs: list[PhaseOutput], kept: PhaseInput, annotations: pa.Table
) -> Statistics:
    """Count a shard; `kept`: the documents that are left after the last phase."""
    is_kept = np.zeros(documents.rows, np.bool_)
    is_kept[kept.rows] = True
    ids = documents.ids.drop_null()
    status = annotations["status"]
    statistics = Statistics(
        counts=Counter(
            {
                "rows": documents.rows,
                **{name: pc.sum(pc.equal(status, name)).as_py() or 0 for name in (KEPT, DROPPED, QUARANTINED)},
                "repeated_ids": len(ids) - len(ids.unique()),
                "input_text_bytes": documents.input_text_bytes,
                "kept_text_bytes": kept.batch.size_bytes,
                **_step_counts(recipe, outputs, is_kept),
            }
        ),
        reasons=Counter(map(kind_of, annotations["reason"].drop_null().to_pylist())),
        columns={column.name: measure_column(annotations[column.name], is_kept) for column in recipe.columns},
    )
    marks = {NOT_TRUE: "0", TRUE: "1", UNKNOWN: "?", FAILED: "!"}
    for phase, output in zip(recipe.phases, outputs, strict=True):
        statistics.dropped_in[phase.name] = int((~output.verdicts.keep).sum())
        patterns, counts = np.unique(output.verdicts.truth, axis=0, return_counts=True)
        statistics.patterns[phase.name] = Counter(
            {"".join(marks[int(t)] for t in pattern): int(n) for pattern, n in zip(patterns, counts, strict=True)}
        )
        statistics.decisive.update(dict(zip(phase.rules, output.verdicts.decisive.sum(axis=0).tolist(), strict=True)))
    return statistics


def _step_counts(recipe: Recipe, outputs: list[PhaseOutput], is_kept: BoolArray) -> dict[str, int]:
    """The counts of the corpus-wide steps, 0 for steps that are not in the recipe."""
    counts = dict.fromkeys((name for step in STEPS for name in step.count_names), 0)
    for phase, output in zip(recipe.phases, outputs, strict=True):
        found = StepResult(output.result.annotations, evidence=output.result.evidence)
        for step in phase.steps:
            counts |= step.counts(output.entered, found, is_kept)
    return counts


def measure_column(column: pa.ChunkedArray, kept: BoolArray) -> ColumnStatistics:
    """Count one annotation, (documents,); kept: bool (documents,)."""
    valid = column.is_valid().to_numpy()
    measured = ColumnStatistics(missing=int((~valid).sum()))
    present, kept_present = column.drop_null(), kept[valid]
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = present.cast(pa.float64(), safe=False).to_numpy()
        real = ~np.isnan(numbers)
        measured.nan = int((~real).sum())
        measured.bins = _count(bins_of(numbers[real]))
        measured.kept_bins = _count(bins_of(numbers[real & kept_present]))
    else:
        measured.values = _value_counts(present)
        measured.kept_values = _value_counts(present.filter(pa.array(kept_present)))
        measured.count_rest_together()
    return measured


def _count(bins: Int64Array) -> Counter[int]:
    found, counts = np.unique(bins, return_counts=True)
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def _value_counts(values: pa.ChunkedArray) -> Counter[str]:
    return Counter({str(row["values"]): row["counts"] for row in values.value_counts().to_pylist()})
