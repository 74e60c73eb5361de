"""A recipe made of values is the recipe that its YAML text is."""

from __future__ import annotations

import pickle

import pytest

import gneiss
from gneiss.corpus_steps import Dedup, NearDuplicates
from gneiss.errors import RecipeError
from gneiss.filters import C4Lines, FastText, FastTextModel, FineWeb, Readability, Tokens
from gneiss.recipe import Phase, Recipe

TEXT = """
name: both
description: as a text
input: {id: null}
phases:
  - name: first
    dedup: {min_length: 100, policy: union}
    edit: [c4_lines: {terminal_punctuation: false}]
    annotate:
      - fasttext: {models: {prose: {source: prose.bin, label: hq}}}
      - readability
      - tokens: {column: gpt}
    rules: {good: prose > 0.5}
  - name: second
    near_duplicates: {bands: 10, scope: shard}
    filters: [fineweb: {short_line_chars: 20}]
"""
VALUES = Recipe(
    name="both",
    description="as a text",
    input={"id": None},
    phases=[
        Phase(
            name="first",
            dedup=Dedup(min_length=100, policy="union"),
            edit=[C4Lines(terminal_punctuation=False)],
            annotate=[FastText({"prose": FastTextModel("prose.bin", "hq")}), "readability", Tokens(column="gpt")],
            rules={"good": "prose > 0.5"},
        ),
        Phase(
            name="second",
            near_duplicates=NearDuplicates(bands=10, scope="shard"),
            filters=[FineWeb(short_line_chars=20)],
        ),
    ],
)


def test_values_and_text_are_the_same_recipe() -> None:
    read = Recipe.parse(TEXT)
    assert VALUES.canonical() == read.canonical()
    assert VALUES.digest() == read.digest() == Recipe.parse(VALUES.to_yaml()).digest()
    assert VALUES.phases[0].annotators == read.phases[0].annotators
    assert pickle.loads(pickle.dumps(VALUES)).digest() == read.digest()  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ruls": {}}, "Phase: unknown key 'ruls'; did you mean 'rules'?"),
        ({"name": "Only"}, "Phase: name: String should match pattern"),
        ({"annotate": [3]}, r"Phase: annotate\.0: expected NAME or NAME: \{parameters\}, found 3"),
        ({"dedup": 3}, "dedup: expected a mapping, found 3"),
    ],
)
def test_a_wrong_value_is_a_recipe_error(given: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Phase(**{"name": "only", **given})


def test_what_only_the_whole_recipe_knows_is_a_recipe_error_too() -> None:
    phase = Phase(name="only", annotate=[Readability()], rules={"plain": "eflow < 30"})
    with pytest.raises(RecipeError, match=r"rule 'plain': no annotation 'eflow'; did you mean 'eflaw'\?"):
        gneiss.Recipe(name="wrong", phases=[phase])
    with pytest.raises(RecipeError, match="Recipe: phases: "):
        gneiss.Recipe(name="none", phases=[])
    with pytest.raises(RecipeError, match="unknown key 'ruls'"):
        gneiss.Recipe(name="nested", phases=[{"name": "only", "ruls": {}}])
