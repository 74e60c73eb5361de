"""Thresholds by share, as a finished run has them: the numbers that it found, or that its documents give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray
from gneiss.mixture.buckets import amounts_of, check_columns
from gneiss.output.annotation_tables import usable_mask
from gneiss.output.finished_run import FinishedRun
from gneiss.quantiles import Sketch
from gneiss.recipe.limits import Counted, counted, limits_of
from gneiss.recipe.quantile_rule import QuantileRule
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import Rules, evaluate, locked_connection, reads


def resolved(recipe: Recipe, run: FinishedRun) -> Recipe:
    """A recipe with numbers for its rules by share: those of the run, if it is by this recipe; else see `conditions`.

    Raises what `conditions` raises.
    """
    if recipe.digest() == run.identity["recipe"]:
        return recipe.with_conditions(run.recipe.conditions)
    for index in range(len(recipe.phases)):
        recipe = recipe.with_conditions(conditions(recipe, index, run))
    return recipe


def conditions(recipe: Recipe, index: int, run: FinishedRun) -> dict[str, str]:
    """The conditions of a phase's rules by share, over the documents of a run that earlier phases keep.

    Their rules have numbers. Documents that the run dropped before it computed the score have none. Up to 4 million
    distinct scores the numbers are exact. Raises RecipeError, InputError for columns that the run lacks.
    """
    phase, earlier = recipe.phases[index], [one.decision for one in recipe.phases[:index]]
    read = {
        column
        for at, rules in enumerate(earlier)
        for columns in reads(rules, recipe.readable(at)).values()
        for column in columns
    }
    found = {}
    for name, rule in phase.shares.items():
        sketch = sketch_of(run, rule.named(phase.aliases), sorted(read), earlier)
        found[name] = rule.condition(limits_of(rule, sketch), sketch.relative_error)
    return found


def sketch_of(run: FinishedRun, rule: QuantileRule, read: Sequence[str] = (), earlier: Sequence[Rules] = ()) -> Sketch:
    """The tokens of a run by category and score, of the documents that rules keep, which read these columns.

    Raises InputError for columns that the run lacks, RecipeError for too many categories.
    """
    return Sketch.of_all(_counted(run, rule, read, earlier))


def _counted(run: FinishedRun, rule: QuantileRule, read: Sequence[str], earlier: Sequence[Rules]) -> Iterator[Counted]:
    tokens = check_columns(run, [rule.score], rule.by, None, ())
    for shard in run.shards:
        for _, table in run.batches(shard, list(dict.fromkeys([tokens, *rule.reads, *read]))):
            own = table.filter(pa.array(usable_mask(table)))
            own = own.filter(pa.array(_kept(own, earlier)))
            scored = own.filter(own[rule.score].is_valid())
            yield counted(rule, scored, amounts_of(run, scored, tokens)[:, 0])


def _kept(table: pa.Table, earlier: Sequence[Rules]) -> BoolArray:
    kept = np.ones(table.num_rows, np.bool_)
    with locked_connection() as connection:
        for rules in earlier:
            kept &= evaluate(connection, rules, table).keep
    return kept
