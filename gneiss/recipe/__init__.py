"""Recipes: their parts, rules, and settings of corpus-wide steps."""

from gneiss.recipe.recipe import Phase, Recipe
from gneiss.recipe.rule import Rules, evaluate, locked_connection

__all__ = ["Phase", "Recipe", "Rules", "evaluate", "locked_connection"]
