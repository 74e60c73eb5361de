"""Measuring: from a decided shard to its statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Int64Array
from gneiss.corpus_steps import STEPS
from gneiss.curate.phase import PhaseInput, PhaseOutput
from gneiss.curate.reading import Documents, kind_of
from gneiss.curate.statistics import DROPPED, KEPT, QUARANTINED, ColumnStatistics, Statistics, bins_of
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import FAILED, NOT_TRUE, TRUE, UNKNOWN

#: Fewer keys are counted faster in Python.
_FEW = 1000


def measure(
    recipe: Recipe,
    documents: Documents,
    outputs: list[PhaseOutput],
    kept: PhaseInput,
    annotations: pa.Table,
    columns: Mapping[str, Measurable],
) -> Statistics:
    """Count a shard; `kept`: the documents that are left after the last phase; `columns`: the recipe's annotations."""
    is_kept = np.zeros(documents.rows, np.bool_)
    is_kept[kept.rows] = True
    ids = documents.ids.drop_null()
    status = annotations["status"].to_pylist()
    statistics = Statistics(
        counts=Counter(
            {
                "rows": documents.rows,
                **{fate: status.count(fate) for fate in (KEPT, DROPPED, QUARANTINED)},
                "repeated_ids": len(ids) - len(ids.unique()),
                "input_text_bytes": documents.input_text_bytes,
                "kept_text_bytes": pc.sum(kept.annotations["text_bytes"]).as_py() or 0,
                **_step_counts(recipe, outputs, is_kept),
            }
        ),
        reasons=Counter(map(kind_of, annotations["reason"].drop_null().to_pylist())),
        columns={name: column.measured(is_kept) for name, column in columns.items()},
    )
    marks = {NOT_TRUE: "0", TRUE: "1", UNKNOWN: "?", FAILED: "!"}
    for phase, output in zip(recipe.phases, outputs, strict=True):
        statistics.dropped_in[phase.name] = int((~output.verdicts.keep).sum())
        patterns = Counter(map(tuple, output.verdicts.truth.tolist()))
        statistics.patterns[phase.name] = Counter(
            {"".join(marks[t] for t in pattern): n for pattern, n in patterns.items()}
        )
        statistics.decisive.update(dict(zip(phase.rules, output.verdicts.decisive.sum(axis=0).tolist(), strict=True)))
    return statistics


def _step_counts(recipe: Recipe, outputs: list[PhaseOutput], is_kept: BoolArray) -> dict[str, int]:
    """The counts of the corpus-wide steps, 0 for steps that are not in the recipe."""
    counts = dict.fromkeys((name for step in STEPS for name in step.count_names), 0)
    for phase, output in zip(recipe.phases, outputs, strict=True):
        for step in phase.steps:
            counts |= step.counts(output.entered, output.found, is_kept)
    return counts


@dataclass(frozen=True, eq=False)
class Measurable:
    """An annotation as it is counted. there, real: bool (documents,), whether there is a value, and one that is no NaN.

    keys: (documents,), where they are real the bins of numbers, or else numbers of `values`.
    """

    there: BoolArray
    real: BoolArray
    keys: Int64Array
    values: Sequence[str] | None = None

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Measurable:
        """The annotation of some documents."""
        there = column.is_valid().to_numpy()
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            numbers = pc.fill_null(column.cast(pa.float64(), safe=False), 0.0).to_numpy()
            return cls(there, there & ~np.isnan(numbers), bins_of(numbers))
        encoded = column.combine_chunks().dictionary_encode()
        numbers = pc.fill_null(encoded.indices, 0).to_numpy().astype(np.int64)
        return cls(there, there, numbers, list(map(str, encoded.dictionary.to_pylist())))

    def of_rows(self, rows: slice) -> Measurable:
        """The same for some consecutive documents."""
        return Measurable(self.there[rows], self.real[rows], self.keys[rows], self.values)

    def measured(self, kept: BoolArray) -> ColumnStatistics:
        """The counts; kept: bool (documents,)."""
        there, real = int(np.count_nonzero(self.there)), int(np.count_nonzero(self.real))
        missing, nan = len(self.there) - there, there - real
        bins, kept_bins = _count(self.keys[self.real]), _count(self.keys[self.real & kept])
        if self.values is None:
            return ColumnStatistics(missing, nan, bins, kept_bins)
        values, kept_values = (
            Counter({self.values[number]: n for number, n in counts.items()}) for counts in (bins, kept_bins)
        )
        measured = ColumnStatistics(missing, nan, values=values, kept_values=kept_values)
        measured.count_rest_together()
        return measured


def _count(keys: Int64Array) -> Counter[int]:
    if len(keys) < _FEW:
        return Counter(keys.tolist())
    found, counts = np.unique(keys, return_counts=True)
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))
