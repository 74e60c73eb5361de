"""`filters:` is `annotate` and `rules` written out: the same recipe, the same digest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gneiss.errors import RecipeError
from gneiss.filters import FastText, FastTextModel, FineWeb, Readability
from gneiss.filters.catalogue import ANNOTATORS, FILTERS, PAGES
from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe
from tests.support import recipe_of

FINEWEB = FILTERS["fineweb"].rules


def of_filters(filters: str, more: str = "") -> Recipe:
    return recipe_of(f"- {{name: only, filters: [{filters}]{more}}}")


def rules_of(recipe: Recipe) -> dict[str, str]:
    return recipe.phases[0].rules


def test_a_filter_is_its_annotator_with_its_published_rules() -> None:
    recipe = of_filters("fineweb, gopher_repetition")
    assert recipe.phases[0].annotate == [{"fineweb": {}}, {"gopher_repetition": {}}]
    assert rules_of(recipe) == {**FINEWEB, **FILTERS["gopher_repetition"].rules}
    assert recipe.phases[0].decision.keep == " AND ".join(rules_of(recipe))
    written = recipe_of(f"- {{name: only, annotate: [fineweb, gopher_repetition], rules: {rules_of(recipe)}}}")
    assert recipe.canonical() == written.canonical()
    assert "filters" not in recipe.canonical()["phases"][0]


def test_parameters_and_other_thresholds_are_given_by_name() -> None:
    recipe = of_filters(
        "fineweb: {short_line_chars: 40, rules: {fineweb_no_list: null, fineweb_long_lines:"
        " fineweb_short_line_fraction <= 0.5}}"
    )
    assert recipe.phases[0].annotators == (FineWeb(short_line_chars=40),)
    kept = {rule: condition for rule, condition in FINEWEB.items() if rule != "fineweb_no_list"}
    assert rules_of(recipe) == {**kept, "fineweb_long_lines": "fineweb_short_line_fraction <= 0.5"}
    assert list(rules_of(recipe)) == list(kept), "in the published order"


def test_what_a_phase_says_itself_comes_first() -> None:
    recipe = of_filters(
        "readability: {rules: {readable: eflaw < 30}}", ", annotate: [tokens], rules: {filled: tokens > 0}"
    )
    assert [list(entry) for entry in recipe.phases[0].annotate] == [["tokens"], ["readability"]]
    assert rules_of(recipe) == {"filled": "tokens > 0", "readable": "eflaw < 30"}


def test_every_page_of_an_annotator_is_a_filter_and_has_one() -> None:
    assert set(FILTERS) == {page.name for page in PAGES if not page.is_edit}
    own_rules = {"fusion", "input_column"}  # what to ask of these, only their user knows
    assert {page.key for page in FILTERS.values()} == set(ANNOTATORS) - own_rules


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ("gopher_qualty", "filters: no filter 'gopher_qualty'; did you mean 'gopher_quality'?"),
        ("fasttext", "filters: no filter 'fasttext'; those of this annotator are quality, category"),
        ("fineweb: {rules: {fineweb_nolist: a > 1}}", "no rule 'fineweb_nolist'; did you mean 'fineweb_no_list'?"),
        ("fineweb: {rules: 3}", "filters: fineweb: rules: expected a mapping, found 3"),
        ("fineweb: {short_lines: 3}", "annotate: fineweb: unknown key 'short_lines'; did you mean 'short_line_chars'?"),
        ("fineweb, fineweb", "the rule 'fineweb_punctuated' is defined twice; to change it, write it under the filter"),
        ("fineweb: 3", "expected NAME or NAME: {parameters}"),
        ("'nowhere:Filter'", "filters: nowhere:Filter: no module 'nowhere'"),
    ],
)
def test_what_is_no_filter_is_refused(filters: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        of_filters(filters)
    assert told in str(caught.value)


def test_a_rule_of_a_filter_has_one_place() -> None:
    with pytest.raises(RecipeError, match="filters: fineweb: the rule 'fineweb_no_list' is defined twice"):
        of_filters("fineweb", ", rules: {fineweb_no_list: fineweb_line_feeds_per_word <= 1}")


def test_filters_that_are_no_list_are_refused() -> None:
    with pytest.raises(RecipeError, match="expected a list of filters"):
        recipe_of("- {name: only, filters: fineweb}")


@pytest.mark.processes
def test_filters_of_others_bring_their_rules(third_party: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(third_party)
    recipe = of_filters("shouting: {rules: {calm: shouting < 2}}")
    assert rules_of(recipe) == {"calm": "shouting < 2", "no_capitals": "NOT capitals"}
    assert recipe.digest() == of_filters("'shouting.filters:Shouting': {rules: {calm: shouting < 2}}").digest()
    for module in ("shouting", "shouting.filters"):
        sys.modules.pop(module)


def test_from_python_a_filter_is_its_annotator() -> None:
    phase = Phase(name="only", filters=[FineWeb(short_line_chars=40), {"readability": {"rules": {"readable": None}}}])
    assert phase.annotators == (FineWeb(short_line_chars=40), Readability())
    assert phase.rules == FINEWEB
    with pytest.raises(RecipeError, match="filters: fasttext belongs to quality and category; name one"):
        Phase(name="only", filters=[FastText({"dclm": FastTextModel("dclm.bin", "hq")})])
