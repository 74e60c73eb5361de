"""Plots of a finished run, from its stored statistics and annotation shards; no text is read again.

For notebooks/statistics.ipynb and the like; needs the extra `notebook` (matplotlib).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from gneiss.arrays import Float64Array
from gneiss.curate.statistics import ColumnStatistics, Statistics, bin_edge
from gneiss.errors import printable
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.phase import Phase
from gneiss.recipe.rule import evaluate, locked_connection
from gneiss.report.distributions import Threshold, is_logarithmic, shown_range, thresholds

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes


__all__ = [
    "Threshold",
    "displayed_bins",
    "html_table",
    "is_logarithmic",
    "kept_shares",
    "patterns_table",
    "plot_histogram",
    "plot_kept_share",
    "plot_rules",
    "shown_range",
    "thresholds",
]

#: Colour-blind safe (Okabe and Ito), one meaning each in all pictures.
ALL, KEPT, LOST, UNKNOWN, MARK = "#c8ccd0", "#0072b2", "#d55e00", "#999999", "#222222"


def kept_shares(annotations: pa.Table, phase: Phase, threshold: Threshold, values: Sequence[float]) -> Float64Array:
    """The share of documents that the phase would keep for each value of a threshold, all else equal, (values,).

    Parameters: `annotations`: stored rows of the documents that reached the phase (`FinishedRun.annotations`).
    """
    if not annotations.num_rows:
        return np.zeros(len(values))
    rules, condition = phase.decision, phase.rules[threshold.rule]
    before, after = condition[: threshold.start], condition[threshold.stop :]
    with locked_connection() as connection:
        moved = (
            replace(rules, conditions={**rules.conditions, threshold.rule: f"{before}({float(value)!r}){after}"})
            for value in values
        )
        return np.array([evaluate(connection, its, annotations).keep.mean() for its in moved], np.float64)


def displayed_bins(column: ColumnStatistics, bins: int = 40) -> tuple[Float64Array, Float64Array, Float64Array]:
    """The stored bins of an annotation, merged into `bins`: edges (bins + 1,), all and kept documents (bins,).

    What lies outside the shown range is counted in the first and the last bin. Without numbers all three are empty.
    """
    if not column.bins:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    low, high = shown_range(column)
    edges = (np.geomspace if is_logarithmic(column) else np.linspace)(low, high, bins + 1)

    def counted(stored: Mapping[int, int]) -> Float64Array:
        values = np.array([bin_edge(b) for b in stored], np.float64)
        where = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
        return np.bincount(where, np.array(list(stored.values()), np.float64), bins).astype(np.float64)

    return edges, counted(column.bins), counted(column.kept_bins)


def plot_histogram(axes: Axes, output: FinishedRun, annotation: str) -> None:
    """Documents by the value of an annotation, all and kept, with the thresholds of the rules that read it."""
    column = output.statistics.columns[annotation]
    edges, everyone, kept = displayed_bins(column)
    axes.stairs(everyone, edges, fill=True, color=ALL, label="all documents")
    axes.stairs(kept, edges, fill=True, color=KEPT, alpha=0.85, label="kept")
    if is_logarithmic(column):
        axes.set_xscale("log")
    _mark_thresholds(axes, output, annotation, edges)
    axes.set(xlabel=annotation, ylabel="documents", xlim=(edges[0], edges[-1]))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _plain(axes)


def plot_rules(axes: Axes, output: FinishedRun, phase: Phase) -> None:
    """A bar a rule: for how many documents of the phase it is true, false, unknown; and how many it alone dropped."""
    rule_counts = output.statistics.rule_counts(phase.name, phase.rules)
    entered = sum(output.statistics.patterns.get(phase.name, {}).values())
    names = list(rule_counts)
    left = np.zeros(len(names))
    for what, colour, label in (("true", KEPT, "true"), ("false", LOST, "false"), ("unknown", UNKNOWN, "unknown")):
        width = np.array([rule_counts[name][what] for name in names], np.float64)
        axes.barh(names, width, left=left, color=colour, height=0.62, label=label)
        left += width
    for place, name in enumerate(names):
        text = f"{rule_counts[name]['decisive']:,} dropped by it alone"
        axes.text(entered * 1.015, place, text, va="center", fontsize=9, color=MARK)
    axes.invert_yaxis()
    axes.set(xlabel=f"documents that reached phase {phase.name}", xlim=(0, max(entered, 1)))
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    _plain(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def plot_kept_share(
    axes: Axes, annotations: pa.Table, phase: Phase, threshold: Threshold, column: ColumnStatistics, points: int = 60
) -> None:
    """The share of documents kept, as a function of one threshold; the recipe's own value is marked."""
    low, high = shown_range(column)
    if is_logarithmic(column) and threshold.value > 0:
        values = np.geomspace(min(low, threshold.value), max(high, threshold.value), points)
        axes.set_xscale("log")
    else:
        values = np.linspace(min(low, threshold.value), max(high, threshold.value), points)
    *shares, here = 100 * kept_shares(annotations, phase, threshold, [*values, threshold.value])
    axes.plot(values, shares, color=KEPT, linewidth=2)
    axes.plot([threshold.value], [here], "o", color=MARK, markersize=6)
    axes.set(xlabel=threshold.annotation, ylabel="% kept", ylim=(0, 100))
    axes.set_title(f"{threshold.rule}: at {threshold.value:g} keeps {here:.1f} %", fontsize=9)
    _plain(axes)


def patterns_table(statistics: Statistics, phase: Phase) -> list[dict[str, Any]]:
    """Which combinations of rules occur, most frequent first: for each rule true, false or unknown, and the count."""
    words = {"1": "true", "0": "false", "?": "unknown", "!": "unknown"}
    counts: Mapping[str, int] = statistics.patterns.get(phase.name, {})
    return [
        {**{rule: words[mark] for rule, mark in zip(phase.rules, pattern, strict=True)}, "documents": count}
        for pattern, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an HTML table; every cell is escaped, so a document's text cannot act in the notebook.

    >>> html_table([{"text": "<script>"}])
    '<table><tr><th>text</th></tr><tr><td style="text-align:left">&lt;script&gt;</td></tr></table>'
    """
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{escape(printable(name))}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(_cell(value) for value in row.values())}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        return f'<td style="text-align:right">{shown}</td>'
    shown = "–" if value is None else printable(value, keep="\n\t")
    return f'<td style="text-align:left">{escape(shown)}</td>'


def _mark_thresholds(axes: Axes, output: FinishedRun, annotation: str, edges: Float64Array) -> None:
    seen: dict[float, list[str]] = {}
    for phase in output.recipe.phases:
        for threshold in thresholds(phase, output.recipe.columns):
            if threshold.annotation == annotation and edges[0] <= threshold.value <= edges[-1]:
                seen.setdefault(threshold.value, []).append(threshold.rule)
    for value, rules in seen.items():
        label = f"{', '.join(dict.fromkeys(rules))}: {value:g}"
        axes.axvline(value, color=MARK, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.text(
            value, 1.02, label, transform=axes.get_xaxis_transform(), rotation=30, fontsize=8, color=MARK, ha="left"
        )


def _plain(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "linear" and max(map(abs, axis.get_view_interval())) >= 1000:
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.set_major_locator(MaxNLocator(5))
