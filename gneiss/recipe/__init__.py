"""Recipes: their parts, rules, and settings of corpus-wide steps."""

from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import Rules, evaluate, locked_connection

__all__ = ["Phase", "Recipe", "Rules", "evaluate", "locked_connection"]
