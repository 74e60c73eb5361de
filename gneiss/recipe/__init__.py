"""Recipes: their parts, rules, and settings of corpus-wide steps."""
