"""How the values of an annotation are spread, kept against dropped, from the stored statistics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.annotation import Column
from gneiss.arrays import Float64Array, Int64Array
from gneiss.curate.statistics import ColumnStatistics, bin_edge
from gneiss.errors import InputError, did_you_mean
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.phase import Phase
from gneiss.recipe.rule import expressions

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class Threshold:
    """A number that a rule compares an annotation with: where it stands in the rule's condition, and its value."""

    rule: str
    annotation: str
    value: float
    start: int
    stop: int


def thresholds(phase: Phase, columns: Sequence[Column]) -> list[Threshold]:
    """The numbers that the rules of a phase compare an annotation with, in the order of the rules.

    Parameters: `columns`: the annotations of the recipe (`recipe.columns`).

    >>> from gneiss import Recipe
    >>> recipe = Recipe.load("gneissweb-bytes")
    >>> [(t.rule, t.annotation, t.value) for t in thresholds(recipe.phases[0], recipe.columns)][1:4]
    [('quality', 'dclm', 0.002), ('quality', 'cosmo', 0.03), ('readable', 'eflaw', 30.0)]
    """
    read = expressions(phase.decision, {column.name: column.type for column in columns})
    return [
        Threshold(
            rule,
            phase.aliases.get(threshold.column, threshold.column),
            threshold.value,
            threshold.start,
            threshold.stop,
        )
        for rule, expression in read.items()
        for threshold in expression.thresholds
    ]


def distribution(run: FinishedRun, annotation: str, bins: int = 40) -> pa.Table:
    """Documents by the value of a numeric annotation: `low`, `high` of a bin, `kept`, `dropped`.

    The middle 99 % of the values are cut into bins, of equal ratios where these values are positive and span more than
    a factor of 100; what lies outside is counted in the first and the last bin. Raises InputError.
    """
    edges, everyone, kept = _binned(_column(run, annotation), bins)
    return pa.table({"low": edges[:-1], "high": edges[1:], "kept": kept, "dropped": everyone - kept})


def quantiles(run: FinishedRun) -> pa.Table:
    """A row a numeric annotation: `annotation`, documents that have none (`missing`), and `p1` to `p99`."""
    columns = {name: column for name, column in run.statistics.columns.items() if column.bins}
    found = [
        {
            "annotation": name,
            "missing": column.missing + column.nan,
            **{_named(q): column.quantile(q) for q in _QUANTILES},
        }
        for name, column in columns.items()
    ]
    numbers = [(_named(q), pa.float64()) for q in _QUANTILES]
    return pa.Table.from_pylist(found, pa.schema([("annotation", pa.string()), ("missing", pa.int64()), *numbers]))


def labels(run: FinishedRun, most: int = 8) -> pa.Table:
    """Documents by the values of annotations that are no numbers: `annotation`, `value`, `documents`, `kept`.

    Parameters: `most`: values of an annotation, the most frequent first.
    """
    found = [
        {"annotation": name, "value": value, "documents": count, "kept": column.kept_values[value]}
        for name, column in run.statistics.columns.items()
        for value, count in sorted(column.values.items(), key=lambda item: (-item[1], item[0]))[:most]
    ]
    strings, counts = ("annotation", "value"), ("documents", "kept")
    types = {**dict.fromkeys(strings, pa.string()), **dict.fromkeys(counts, pa.int64())}
    return pa.Table.from_pylist(found, pa.schema(types))


def is_logarithmic(column: ColumnStatistics) -> bool:
    """Whether the middle 99 % of the values are positive and span more than a factor of 100."""
    low, high = column.quantile(0.005), column.quantile(0.995)
    return low is not None and high is not None and low > 0 and high > 100 * low


def shown_range(column: ColumnStatistics) -> tuple[float, float]:
    """What a picture of an annotation shows: the middle 99 % of its values, on a logarithmic axis at most 5 decades."""
    low, high = column.quantile(0.005) or 0.0, column.quantile(0.995) or 0.0
    if low == high:
        return low - 0.5, high + 0.5
    return (max(low, high * 1e-5), high) if is_logarithmic(column) else (low, high)


def _column(run: FinishedRun, annotation: str) -> ColumnStatistics:
    numeric = {name: column for name, column in run.statistics.columns.items() if column.bins or not column.values}
    if annotation not in numeric:
        raise InputError(f"{run.folder}: no numeric annotation {annotation!r}{did_you_mean(annotation, numeric)}")
    return numeric[annotation]


def _binned(column: ColumnStatistics, bins: int) -> tuple[Float64Array, Int64Array, Int64Array]:
    """Edges (bins + 1,), and the documents in each bin, all and kept (bins,); nothing without numbers."""
    if not column.bins:
        return np.zeros(1), np.zeros(0, np.int64), np.zeros(0, np.int64)
    low, high = shown_range(column)
    edges = (np.geomspace if is_logarithmic(column) else np.linspace)(low, high, bins + 1)

    def counted(stored: Mapping[int, int]) -> Int64Array:
        values = np.array([bin_edge(b) for b in stored], np.float64)
        where = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
        counts = np.zeros(bins, np.int64)
        np.add.at(counts, where, np.array(list(stored.values()), np.int64))
        return counts

    return edges, counted(column.bins), counted(column.kept_bins)


def _named(quantile: float) -> str:
    return f"p{round(100 * quantile)}"
