"""Recipes, the steps of a run, and the job that runs them."""
