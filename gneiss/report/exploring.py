"""Exploring the thresholds of a run: its decisions in memory, counted again whenever a rule is another one."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array
from gneiss.errors import GneissError, first_line
from gneiss.input.columns import find_path
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.sources import Sources, sources
from gneiss.recipe.recipe import Recipe
from gneiss.report.by_value import DOMAIN, values_of_rows
from gneiss.report.decisions import FATES, Batch, Decided, Reading, Setting, conditions_of, decided, fates, reading
from gneiss.report.sweeping import Knob, threshold_values

#: Positions of a slider.
_POSITIONS = 201


@dataclass(frozen=True)
class Session:
    """What a person explores: a run, rules to begin with, where texts are, and what it can be grouped by.

    note: of what is not there, for that person.
    """

    run: FinishedRun
    recipe: Recipe
    sources: Sources
    groups: tuple[str, ...]
    by: str | None
    note: str = ""

    def edited(self, conditions: Mapping[str, str]) -> Recipe:
        """The rules with other conditions, by `<phase>.rules.<rule>` or `<phase>.keep`. Raises RecipeError."""
        return self.recipe.changed({f"phases.{name}": condition for name, condition in conditions.items()})


def open_session(arguments: Mapping[str, Any]) -> Session:
    """Open what the command line names: `output`, and where given `recipe`, `input`, `by`. Raises GneissError."""
    run = open_run(str(arguments["output"]))
    recipe = Recipe.load(str(arguments["recipe"])) if "recipe" in arguments else run.recipe
    note, given = "", arguments.get("input", run.input)
    try:
        documents = sources(run, given)
    except GneissError as error:
        if "input" in arguments:
            raise
        note = f"Dropped documents have no text here, because the input cannot be read: {first_line(error)}"
        documents = sources(run)
    strings = [column.name for column in recipe.columns if column.type in ("string", "bool")]
    schema = documents.schema(run.shards[0]) if run.shards else pa.schema([])
    groups = (*strings, "shard", *([DOMAIN] if find_path(schema, run.recipe.input.url) else []))
    by = str(arguments.get("by", groups[0]))
    return Session(run, recipe, documents, tuple(dict.fromkeys((*groups, by))), by, note)


@dataclass(frozen=True)
class ChangedRow:
    """A row whose document came to another end, and what of it the rules read."""

    shard: str
    row: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """Documents that came to another end: from which to which (see FATES), how many, and the first of them."""

    before: str
    after: str
    documents: int
    first: tuple[ChangedRow, ...]


@dataclass(frozen=True, eq=False)
class Exploration:
    """The rows of a run, as far as the rules of a recipe read them; before: what the run's own rules keep."""

    reading: Reading
    batches: Sequence[Batch]
    own: Setting
    before: Decided

    @classmethod
    def of(
        cls, run: FinishedRun, recipe: Recipe, *, by: str | None = None, sources: Sources | None = None
    ) -> Exploration:
        """Read a run.

        Parameters: `by`: what documents are grouped by, see `reading`; or, with `sources`, a column of these, or
        `domain`. Raises InputError, RecipeError.
        """
        known = {name for shard in run.shards[:1] for name in run.columns(shard, tuple(recipe.layers))}
        stored = by if sources is None or by in {"shard", *known} else None
        own, other = (reading(run, rules, by=stored) for rules in (run.recipe, recipe))
        both = replace(other, columns={**own.columns, **other.columns})
        batches, setting = list(both.batches()), both.setting(run.recipe)
        if by is not None and stored is None and sources is not None:
            batches = list(_grouped(batches, values_of_rows(sources, by)))
        return cls(both, batches, setting, decided(batches, [setting])[0])

    def after(self, recipe: Recipe) -> Decided:
        """What other rules keep, counted exactly; they read what is read already. Raises RecipeError."""
        setting = self.reading.setting(recipe)
        self._forget_all_but(setting)
        return decided(self.batches, [setting])[0]

    def changes(self, recipe: Recipe, most: int = 10) -> list[Change]:
        """Documents that other rules decide otherwise than the run; of each kind of change the first ones are named."""
        settings = [self.own, self.reading.setting(recipe)]
        counts: Counter[tuple[int, int]] = Counter()
        named: dict[tuple[int, int], list[ChangedRow]] = {}
        first = 0
        for batch, (before, after) in zip(self.batches, fates(self.batches, settings), strict=True):
            for pair in sorted({*zip(before[before != after].tolist(), after[before != after].tolist(), strict=True)}):
                rows = np.flatnonzero((before == pair[0]) & (after == pair[1]))
                counts[pair] += len(rows)
                documents = named.setdefault(pair, [])
                documents.extend(self._named(batch, first, rows[: most - len(documents)]))
            first += batch.table.num_rows
        return [
            Change(FATES[before], FATES[after], counts[before, after], tuple(first))
            for (before, after), first in sorted(named.items())
        ]

    def _named(self, batch: Batch, first: int, rows: Int64Array) -> Iterator[ChangedRow]:
        """Some rows of a batch, which begins at a row of the run."""
        shards = self.reading.run.shards
        ends = list(accumulate(shard.rows for shard in shards))
        for row, values in zip(rows.tolist(), _taken(batch.table, self.reading.columns, rows), strict=True):
            at = bisect_right(ends, first + row)
            yield ChangedRow(shards[at].id, first + row - (ends[at] - shards[at].rows), values)

    def _forget_all_but(self, setting: Setting) -> None:
        """Drop what is known of conditions that neither the run nor a setting has."""
        wanted = {*conditions_of(self.own), *conditions_of(setting)}
        for batch in self.batches:
            for condition in batch.states.keys() - wanted:
                del batch.states[condition]


def _grouped(batches: Iterable[Batch], values: pa.ChunkedArray) -> Iterator[Batch]:
    first = 0
    for batch in batches:
        yield batch.grouped(values.slice(first, batch.table.num_rows))
        first += batch.table.num_rows


def _taken(table: pa.Table, names: Iterable[str], rows: Int64Array) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = table.select(list(names)).take(pa.array(rows)).to_pylist()
    return taken


def positions(run: FinishedRun, knob: Knob) -> list[float]:
    """Values for a slider: quantiles of the annotation in the run, rounded, and the value that the threshold has."""
    quantiles = filter(math.isfinite, threshold_values(run, knob, _POSITIONS))
    return sorted({knob.value, *(float(f"{quantile:.4g}") for quantile in quantiles)})


def moved_recipe(recipe: Recipe, known: Mapping[str, Knob], values: Mapping[str, float]) -> Recipe:
    """A recipe with other values of some thresholds, by name. Raises RecipeError."""
    changed: dict[str, str] = {}
    for name in sorted(values, key=lambda name: -known[name].start):  # the last in a condition first
        knob = known[name]
        if values[name] != knob.value:
            path = f"phases.{recipe.phases[knob.phase].name}.rules.{knob.rule}"
            condition = changed.get(path, recipe.phases[knob.phase].rules[knob.rule])
            changed[path] = f"{condition[: knob.start]}{_sql(values[name])}{condition[knob.stop :]}"
    return recipe.changed(changed) if changed else recipe


def _sql(value: float) -> str:
    """A number, so that a sign before it stays one."""
    return repr(value) if value >= 0 else f"({value!r})"
