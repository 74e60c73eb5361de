"""Sweeps: how much an output would keep under other thresholds, along one of them or over a grid of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from gneiss.curate.statistics import ColumnStatistics
from gneiss.errors import RecipeError, did_you_mean
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import expressions
from gneiss.report.counting import MEASURES
from gneiss.report.decisions import Decided, Reading, Setting, decided, reading, total

#: What a target is a share of.
Unit: TypeAlias = Literal["documents", "text_bytes", "tokens"]
#: Values of a curve for which none are given: quantiles of the annotation in the run.
_VALUES_OF_A_CURVE = 11
#: Values of a round of the search for a target, and rounds.
_VALUES, _ROUNDS = 32, 3


@dataclass(frozen=True)
class Knob:
    """A threshold of a recipe: in which phase and rule, of which annotation, its value, and where it stands there.

    name: `RULE.ANNOTATION`, with `.1`, `.2`, … where a rule compares the annotation with several numbers.
    """

    name: str
    phase: int
    rule: str
    column: str
    value: float
    start: int
    stop: int


@dataclass(frozen=True)
class Swept:
    """What one setting keeps: the values of its knobs by name, and what they decide."""

    values: Mapping[str, float]
    decided: Decided


def knobs(recipe: Recipe) -> dict[str, Knob]:
    """The thresholds of a recipe by name: numbers that its rules compare an annotation with.

    >>> [(knob.name, knob.value) for knob in knobs(Recipe.load("gneissweb-bytes")).values()][1:4]
    [('quality.dclm', 0.002), ('quality.cosmo', 0.03), ('readable.eflaw.1', 30.0)]
    """
    found: dict[str, Knob] = {}
    for index, phase in enumerate(recipe.phases):
        for rule, expression in expressions(phase.decision, recipe.readable(index)).items():
            columns = [phase.aliases.get(threshold.column, threshold.column) for threshold in expression.thresholds]
            for number, (threshold, column) in enumerate(zip(expression.thresholds, columns, strict=True)):
                count = columns.count(column)
                name = f"{rule}.{column}" + (f".{1 + columns[:number].count(column)}" if count > 1 else "")
                found[name] = Knob(name, index, rule, column, threshold.value, threshold.start, threshold.stop)
    return found


def sweep(
    run: FinishedRun,
    recipe: Recipe | None = None,
    vary: Mapping[str, Sequence[float]] | None = None,
    *,
    tokens: str | None = None,
    by: str | None = None,
) -> list[Swept]:
    """Count exactly what a run would keep for every combination of threshold values, from its stored annotations.

    Parameters: `recipe`: rules over the run's annotations, by default its own; `vary`: name of a threshold (see
    `knobs`) → values; without it each threshold by itself, over quantiles of its annotation; `tokens`, `by`: as for
    `reading`. Raises RecipeError and InputError.

    >>> for point in sweep(gneiss.open_run("curated"), vary={"quality.dclm": [0.01, 0.1]}):  # doctest: +SKIP
    ...     print(point.values, total(its.decided.kept).documents)
    """
    recipe = recipe or run.recipe
    known = knobs(recipe)
    if vary is None:
        every = [[{name: value} for value in threshold_values(run, knob)] for name, knob in known.items()]
        chosen = [setting for values in every for setting in values]
    else:
        if unknown := [name for name in vary if name not in known]:
            raise RecipeError(f"no threshold {unknown[0]!r} in the rules{did_you_mean(unknown[0], known)}")
        chosen = [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]
    return _swept(reading(run, recipe, tokens=tokens, by=by), recipe, known, chosen)


def curve(swept: Sequence[Swept]) -> pa.Table:
    """A row a setting: the value of each threshold by its name, what is kept, and its share of what could be used.

    Columns: the thresholds, null where one has its value in the recipe; `documents`, `bytes`, `tokens`;
    `documents_share`, `bytes_share`, `tokens_share`, null where there are none; `unknown`, documents (see `Decided`).
    """
    names = list(dict.fromkeys(name for one in swept for name in one.values))
    values = {name: pa.array([one.values.get(name) for one in swept], pa.float64()) for name in names}
    kept, whole = [total(one.decided.kept) for one in swept], [one.decided.all for one in swept]
    amounts, shares = {}, {}
    for measure, field in zip(MEASURES, ("documents", "text_bytes", "tokens"), strict=True):
        parts, wholes = ([getattr(of, field) for of in totals] for totals in (kept, whole))
        found = [part / of if of else None for part, of in zip(parts, wholes, strict=True)]
        amounts[measure] = pa.array(parts, pa.int64())
        shares[f"{measure}_share"] = pa.array(found, pa.float64())
    unknown = pa.array([total(one.decided.unknown).documents for one in swept], pa.int64())
    return pa.table({**values, **amounts, **shares, "unknown": unknown})


def pick(
    run: FinishedRun,
    recipe: Recipe | None,
    name: str,
    share: float,
    unit: Unit = "tokens",
    *,
    tokens: str | None = None,
    by: str | None = None,
) -> Swept:
    """The value of a threshold with which a run keeps a share of its documents, bytes or tokens, or little more.

    Raises RecipeError and InputError; see `sweep`.
    """
    recipe = recipe or run.recipe
    known = knobs(recipe)
    if name not in known:
        raise RecipeError(f"no threshold {name!r} in the rules{did_you_mean(name, known)}")
    read = reading(run, recipe, tokens=tokens, by=by)
    if unit == "tokens" and read.tokens is None:
        raise RecipeError("no annotation counts tokens; name one (tokens), or give the share of text_bytes")

    def kept(swept: Swept) -> float:
        amounts: list[int] = [getattr(of, unit) for of in (total(swept.decided.kept), swept.decided.all)]
        return amounts[0] / max(amounts[1], 1)

    values = threshold_values(run, known[name], _VALUES)
    for _ in range(_ROUNDS):
        found = sorted(
            _swept(read, recipe, known, [{name: value} for value in values]), key=lambda swept: swept.values[name]
        )
        enough = [at for at, swept in enumerate(found) if kept(swept) >= share]
        if not enough:
            most = max(map(kept, found))
            raise RecipeError(f"{name}: no value keeps {share:.1%} of {unit}; at most {most:.1%} are kept")
        best = min(enough, key=lambda at: kept(found[at]))
        near = [found[at].values[name] for at in (best - 1, best, best + 1) if 0 <= at < len(found)]
        values = sorted({*np.linspace(near[0], near[-1], _VALUES).tolist(), found[best].values[name]})
    return found[best]


def assumed(run: FinishedRun, recipe: Recipe) -> list[str]:
    """The corpus-wide steps that would see other documents, since a rule before them is another one."""
    earlier = run.recipe
    pairs = zip(recipe.phases, earlier.phases, strict=True)
    changed = next((at for at, (mine, pair) in enumerate(pairs) if mine.decision != pair.decision), len(recipe.phases))
    return [step.key for phase in recipe.phases[changed + 1 :] for step in phase.steps]


def threshold_values(run: FinishedRun, knob: Knob, count: int = _VALUES_OF_A_CURVE) -> list[float]:
    """Values of a threshold: quantiles of its annotation in the run, and the value that it has."""
    statistics = run.statistics.columns.get(knob.column, ColumnStatistics())
    quantiles = (statistics.quantile(share) for share in np.linspace(0, 1, count))
    return sorted({knob.value, *(quantile for quantile in quantiles if quantile is not None)})


def _swept(
    read: Reading, recipe: Recipe, known: Mapping[str, Knob], chosen: Sequence[Mapping[str, float]]
) -> list[Swept]:
    setting = read.setting(recipe)
    settings = [moved(setting, {known[name]: value for name, value in values.items()}) for values in chosen]
    found = decided(read.batches(), settings)
    return [Swept(values, of) for values, of in zip(chosen, found, strict=True)]


def moved(setting: Setting, values: Mapping[Knob, float]) -> Setting:
    """A setting with other values of some thresholds."""
    phases = list(setting)
    for knob, value in sorted(values.items(), key=lambda item: -item[0].start):  # the last in a condition first
        rules = phases[knob.phase]
        condition = rules.conditions[knob.rule]
        moved = f"{condition[: knob.start]}({float(value)!r}){condition[knob.stop :]}"
        phases[knob.phase] = replace(rules, conditions={**rules.conditions, knob.rule: moved})
    return tuple(phases)
