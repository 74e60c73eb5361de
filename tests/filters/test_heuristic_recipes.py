"""The packaged recipes of the heuristics have the rules of the filters' pages, and no others."""

from __future__ import annotations

import pytest

from gneiss.filters.catalogue import PAGES
from gneiss.recipe.recipe import Recipe


@pytest.mark.parametrize(
    ("name", "codes"),
    [("gopher", ["GO01", "GO02"]), ("c4", ["C401"]), ("fineweb", ["LI01", "GO01", "GO02", "C401", "FW01"])],
)
def test_rules_are_those_of_the_pages(name: str, codes: list[str]) -> None:
    in_recipe = {rule: condition for phase in Recipe.load(name).phases for rule, condition in phase.rules.items()}
    in_recipe.pop("first_of_its_kind", None)  # of near-duplicates, which have no page
    on_pages = {rule: condition for page in PAGES if page.code in codes for rule, condition in page.rules.items()}
    assert in_recipe == on_pages
