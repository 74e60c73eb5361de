"""What a report shows, as Arrow tables: the same in a notebook, on a page and on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray
from gneiss.curate.statistics import DROPPED, KEPT, QUARANTINED
from gneiss.filters.catalogue import PAGES
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import reads
from gneiss.report.counting import MEASURES, Outcomes, truth_of
from gneiss.report.keeping import Keeping

#: The end of the funnel, beside KEPT and QUARANTINED.
INPUT = "input"
_SUMS = [pa.field(name, pa.int64()) for name in MEASURES]


def summary(run: FinishedRun) -> str:
    """In a sentence how much of a run is kept."""
    counts, shards = run.counts, len(run.shards)
    state = "" if run.is_finished else ", so far: the run is not finished, and counted are the shards that are there"
    return (
        f"{counts[KEPT]:,} of {counts['rows']:,} documents are kept"
        f" ({counts[KEPT] / max(counts['rows'], 1):.1%}), from {shards:,} shard{'s' * (shards != 1)}{state}."
    )


def overview(outcomes: Outcomes) -> pa.Table:
    """Documents, bytes and tokens by status, and of all: `status`, and the three sums."""
    rows = outcomes.table
    masks = {status: pc.equal(rows["status"], status) for status in (KEPT, DROPPED, QUARANTINED)}
    found = [{"status": status, **_summed(rows.filter(mask))} for status, mask in masks.items()]
    return _table(["status"], [{"status": INPUT, **_summed(rows)}, *found])


def funnel(outcomes: Outcomes) -> pa.Table:
    """The way of the documents phase by phase: `source`, `target`, and the three sums of what goes from one to other.

    Sources are `input` and the phases; what a phase drops goes to `dropped in <phase>`.
    """
    rows, phases = outcomes.table, outcomes.recipe.phases
    is_quarantined = pc.equal(rows["status"], QUARANTINED)
    found = [
        {"source": INPUT, "target": QUARANTINED, **_summed(rows.filter(is_quarantined))},
        {"source": INPUT, "target": phases[0].name, **_summed(rows.filter(pc.invert(is_quarantined)))},
    ]
    for phase, next_ in zip(phases, [*(of.name for of in phases[1:]), KEPT], strict=True):
        reached = outcomes.reached(phase)
        dropped = pc.fill_null(pc.equal(reached["dropped_in"], phase.name), False)
        found.append({"source": phase.name, "target": f"dropped in {phase.name}", **_summed(reached.filter(dropped))})
        found.append({"source": phase.name, "target": next_, **_summed(reached.filter(pc.invert(dropped)))})
    return _table(["source", "target"], found)


def rules(outcomes: Outcomes) -> pa.Table:
    """A row a rule: `phase`, `rule`, `condition`; of the documents that reached its phase `true`, `false`, `unknown`.

    `decisive`: how many it alone dropped; `documents`, `bytes`, `tokens`: of those for which it is not true.
    """
    found = []
    for phase in outcomes.recipe.phases:
        rows = outcomes.reached(phase)
        truth = truth_of(rows, phase)
        for rule, counts in outcomes.statistics.rule_counts(phase.name, phase.rules).items():
            counted = {name: counts[name] for name in ("true", "false", "unknown", "decisive")}
            failing = _summed(rows.filter(pa.array(~truth[rule])))
            condition = phase.rules[rule]
            found.append({"phase": phase.name, "rule": rule, "condition": condition, **counted, **failing})
    return _table(["phase", "rule", "condition"], found, ["true", "false", "unknown", "decisive"])


def combinations(outcomes: Outcomes, most: int | None = None) -> pa.Table:
    """Which rules fail together: `phase`, `failed` (a list), `kept` (by the phase), and the three sums; largest first.

    Parameters: `most`: rows of a phase; all others are then one row, whose `failed` is null.
    """
    found: list[dict[str, Any]] = []
    for phase in outcomes.recipe.phases:
        rows = outcomes.reached(phase)
        is_dropped = pc.fill_null(pc.equal(rows["dropped_in"], phase.name), False).to_pylist()
        together: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        for row, (failed, dropped) in enumerate(zip(rows["failed"].to_pylist(), is_dropped, strict=True)):
            together.setdefault((tuple(name for name in failed if name in phase.rules), not dropped), []).append(row)
        sets: list[dict[str, Any]] = [
            {"phase": phase.name, "failed": list(failed), "kept": kept, **_summed(rows.take(where))}
            for (failed, kept), where in together.items()
        ]
        sets.sort(key=lambda row: (-row["documents"], row["failed"]))
        found += sets[:most]
        if rest := sets[len(sets) if most is None else most :]:
            found.append({"phase": phase.name, "failed": None, "kept": None, **_added(rest)})
    return pa.Table.from_pylist(
        found, pa.schema([("phase", pa.string()), ("failed", pa.list_(pa.string())), ("kept", pa.bool_()), *_SUMS])
    )


def marginal(outcomes: Outcomes) -> pa.Table:
    """What a phase would pass on in addition without a rule, or without all rules of a filter.

    One row each: `phase`, `kind` (`rule` or `filter`), `name`, the omitted `rules`, and the differences of the three
    sums (negative for an alternative in `keep`). Null if `keep` has operators other than AND and OR. What later phases
    would drop is unknown.
    """
    found = []
    for phase in outcomes.recipe.phases:
        keeping, rows = Keeping.of(phase.decision), outcomes.reached(phase)
        truth = truth_of(rows, phase)
        left_out = [("rule", rule, [rule]) for rule in phase.rules]
        left_out += [("filter", name, of_filter) for name, of_filter in rules_by_filter(outcomes.recipe, phase).items()]
        for kind, name, without in left_out:
            changes: dict[str, Any] = dict.fromkeys(MEASURES)
            if keeping.tree is not None:
                now, then = keeping.keeps(truth), keeping.keeps(truth, without)
                changes = _changes(rows, now, then)
            found.append({"phase": phase.name, "kind": kind, "name": name, "rules": without, **changes})
    names = [(name, pa.string()) for name in ("phase", "kind", "name")]
    return pa.Table.from_pylist(found, pa.schema([*names, ("rules", pa.list_(pa.string())), *_SUMS]))


def rules_by_filter(recipe: Recipe, phase: Phase) -> dict[str, list[str]]:
    """Key of an annotator of a phase → its rules: those published for it, else all that read it."""
    read = reads(phase.decision, {column.name: column.type for column in recipe.columns})
    found: dict[str, list[str]] = {}
    for annotator in phase.annotators:
        key = annotator.key or type(annotator).__name__
        own = {column.name for column in annotator.columns}
        published = {rule for page in PAGES if page.key == key for rule in page.rules}
        of_filter = [rule for rule in phase.rules if read[rule] & own and rule in published]
        if own_rules := of_filter or [rule for rule in phase.rules if read[rule] & own]:
            found.setdefault(key, []).extend(rule for rule in own_rules if rule not in found.get(key, []))
    return found


def _changes(rows: pa.Table, now: BoolArray, then: BoolArray) -> dict[str, Any]:
    gained, lost = _summed(rows.filter(pa.array(then & ~now))), _summed(rows.filter(pa.array(now & ~then)))
    return {name: None if gained[name] is None else gained[name] - lost[name] for name in MEASURES}


def _summed(rows: pa.Table) -> dict[str, Any]:
    """The three sums over rows; no tokens where none are counted."""
    return {name: _sum(rows[name]) for name in MEASURES}


def _sum(column: pa.ChunkedArray) -> int | None:
    return None if pa.types.is_null(column.type) else pc.sum(column).as_py() or 0


def _added(rows: Sequence[dict[str, Any]]) -> dict[str, int | None]:
    return {
        name: None if any(row[name] is None for row in rows) else sum(row[name] for row in rows) for name in MEASURES
    }


def _table(names: Sequence[str], rows: Sequence[dict[str, Any]], counts: Collection[str] = ()) -> pa.Table:
    fields = [*((name, pa.string()) for name in names), *((name, pa.int64()) for name in counts), *_SUMS]
    return pa.Table.from_pylist(list(rows), pa.schema(fields))
