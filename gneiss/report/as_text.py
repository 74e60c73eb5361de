"""The report of a run as plain text of 80 columns: the counts of the page, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TypeAlias

from gneiss.curate.statistics import KEPT
from gneiss.errors import printable
from gneiss.output.dataset_card import said_by_annotators
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.phase import Phase
from gneiss.report.by_value import breakdown
from gneiss.report.counting import MEASURES, Outcomes, outcomes
from gneiss.report.scores import warnings
from gneiss.report.tables import combinations, marginal, overview, rules, summary
from gneiss.store.place import Address

#: A line: a name, and what stands below each heading.
Line: TypeAlias = tuple[str, list[str]]
_WIDTH, _LEAST_OF_A_NAME = 80, 12
#: Combinations of rules, and values of a column, that have a line of their own.
_MOST = 5


def report_text(run: FinishedRun, *, input: Address | None = None, by: Sequence[str] = ()) -> str:
    """What a run kept and dropped, and by which rules, in lines of at most 80 columns, without control characters.

    Parameters: as for `report_page`. Raises InputError.
    """
    counted = outcomes(run)
    whole = overview(counted).to_pylist()
    measures = [name for name in MEASURES if whole[0][name] is not None]
    kept = next(row[measures[-1]] for row in whole if row["status"] == KEPT)
    lines = wrap(printable(f"{run.recipe.name}: {summary(run)}"), _WIDTH)
    lines += _table("", measures, [(row["status"], [f"{row[name]:,}" for name in measures]) for row in whole])
    for phase in run.recipe.phases:
        if phase.rules:
            lines += _phase(counted, phase, measures, kept)
    if run.counts["dedup_bytes"]:
        lines += [
            "",
            f"{run.counts['dedup_bytes']:,} bytes were cut, {run.counts['orphaned_bytes']:,} of them orphaned.",
        ]
    for paragraph in said_by_annotators(run.recipe, run.statistics):
        lines += ["", *wrap(printable(paragraph), _WIDTH)]
    for reason, documents in sorted(run.statistics.reasons.items(), key=lambda item: (-item[1], item[0])):
        lines += wrap(printable(f"quarantined, {documents:,}: {reason}"), _WIDTH)
    for name in by:
        lines += _by_value(run, name, input)
    for row in warnings(counted).to_pylist():
        lines += ["", *wrap(printable(f"warning: {row['what']}: {row['why']}"), _WIDTH, subsequent_indent="  ")]
    return "\n".join(lines)


def _phase(counted: Outcomes, phase: Phase, measures: Sequence[str], kept: int) -> Iterator[str]:
    """What the rules of a phase do, alone and together; what it would pass on besides without them, of what is kept."""
    effect = measures[-1]
    changes = [row for row in marginal(counted).to_pylist() if row["phase"] == phase.name]
    without = {
        (row["kind"], row["name"]): "–" if row[effect] is None else f"{row[effect] / max(kept, 1):+.1%}"
        for row in changes
    }
    counts, change = ("true", "false", "unknown", "decisive"), f"{effect} without it"
    yield ""
    yield from wrap(printable(f"phase {phase.name}: {phase.decision.keep}"), _WIDTH, subsequent_indent="  ")
    of_rules: list[Line] = [
        (row["rule"], [*(f"{row[name]:,}" for name in counts), without["rule", row["rule"]]])
        for row in rules(counted).to_pylist()
        if row["phase"] == phase.name
    ]
    filters: list[Line] = [(name, [effect]) for (kind, name), effect in without.items() if kind == "filter"]
    failing = [row for row in combinations(counted).to_pylist() if row["phase"] == phase.name and row["failed"]]
    together: list[Line] = [
        (", ".join(row["failed"]) + (" (kept)" if row["kept"] else ""), [f"{row[name]:,}" for name in measures])
        for row in failing[:_MOST]
    ]
    yield from _table("rule", [*counts, change], of_rules)
    yield from _table("filter", [change], filters)
    yield from _table("fail together", measures, together)


def _by_value(run: FinishedRun, name: str, input: Address | None) -> Iterator[str]:
    found: list[Line] = [
        (
            "(missing)" if row["value"] is None else row["value"],
            [f"{row['documents']:,}", f"{row['documents_kept']:,}", f"{row['documents_kept'] / row['documents']:.1%}"],
        )
        for row in breakdown(run, name, input=input, most=2 * _MOST).to_pylist()
    ]
    yield from _table(name, ["documents", "kept", "share"], found)


def _table(name: str, headings: Sequence[str], lines: Sequence[Line]) -> Iterator[str]:
    """An empty line, the headings, and the lines: names as long as there is room, numbers to the right."""
    if not lines:
        return
    rows = [(name, list(headings)), *lines]
    widths = [2 + max(len(cells[at]) for _, cells in rows) for at in range(len(headings))]
    room = max(_WIDTH - sum(widths), _LEAST_OF_A_NAME)
    length = min(room, max(len(printable(row)) for row, _ in rows))
    yield ""
    for row, cells in rows:
        shown = printable(row)
        shown = shown if len(shown) <= length else f"{shown[: length - 1]}…"
        yield (shown.ljust(length) + "".join(map(str.rjust, cells, widths))).rstrip()
