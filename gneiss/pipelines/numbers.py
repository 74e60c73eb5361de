"""The numbers of rules by share in a run: those that its stages found, which its output keeps in its recipe.

They are those of the first run. New shards of a finished output are decided by the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gneiss.errors import RecipeError
from gneiss.input.plan import Plan
from gneiss.output import layout
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.yaml_text import read_yaml
from gneiss.stages.corpus import Corpus, Reader
from gneiss.stages.shares import are_found
from gneiss.store.place import Place


def as_kept(recipe: Recipe, output: Place) -> Recipe:
    """A recipe with the numbers that an output of it keeps, as far as it does."""
    if not recipe.shares:
        return recipe
    try:
        phases = read_yaml((output / layout.RECIPE_FILE).read().decode())["phases"]
        rules = {name: rule for phase in phases for name, rule in phase["rules"].items()}
        return recipe.with_conditions({name: rule for name, rule in rules.items() if isinstance(rule, str)})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecipeError):
        return recipe  # there is none yet, or the output is refused where it is claimed


def once_known(plan: Plan, corpus: Corpus, done: Collection[str]) -> Corpus:
    """A corpus with the numbers of the first run, if all its shards are done: those found now, or those kept."""
    first = [shard.id for shard in plan.input.shards if shard.id not in plan.increments]
    if not corpus.recipe.shares or any(id_ not in done for id_ in first):
        return corpus
    own = replace(corpus, increment=0)
    if are_found(own.exchange, own.recipe):
        return replace(corpus, recipe=Reader(own).decided(len(corpus.recipe.phases)))
    return replace(corpus, recipe=as_kept(corpus.recipe, corpus.output))
