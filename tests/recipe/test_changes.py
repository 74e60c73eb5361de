"""Changes by dotted path: what is named is changed and nothing else; what is not there is met with the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gneiss.errors import RecipeError
from gneiss.recipe.recipe import Recipe

TEXT = """
name: two
phases:
  - name: first
    edit: [pii]
    filters: [readability: {rules: {readable: eflaw < 30}}, fineweb]
  - name: second
    annotate: [tokens]
    rules: {short: text_chars < 1000}
"""


def recipe() -> Recipe:
    return Recipe.parse(TEXT)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every value in a written-out recipe, by the path that names it."""
    if isinstance(value, dict) and value:
        return {k: v for key, part in value.items() for k, v in leaves(part, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        named = [(part["name"], part) if "name" in part else next(iter(part.items())) for part in value]
        return {k: v for name, part in named for k, v in leaves(part, f"{path}.{name}").items()}
    return {path: value}


@pytest.mark.slow
def test_every_value_of_every_packaged_recipe_can_be_named() -> None:
    """And setting it to what it is changes nothing."""
    for name in ("commoncrawl-to-gneissweb", "fineweb"):
        loaded = Recipe.load(name)
        found = leaves(loaded.canonical())
        assert len(found) > 50
        assert loaded.changed(found).digest() == loaded.digest()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("shard_max_bytes", 1000),
        ("budgets.documents", 0.5),
        ("input.id", None),
        ("phases.first.rules.fineweb_no_list", "fineweb_line_feeds_per_word <= 0.4"),
        ("phases.first.annotate.fineweb.short_line_chars", 20),
        ("phases.first.edit.pii.ip", False),
        ("phases.second.keep", "NOT short"),
    ],
)
@pytest.mark.slow
def test_a_change_changes_one_value(path: str, value: object) -> None:
    before, after = leaves(recipe().canonical()), leaves(recipe().changed({path: value}).canonical())
    assert after == {**before, path: value}
    assert before[path] != value


def test_new_keys_and_whole_parts_can_be_set() -> None:
    changed = recipe().changed(
        {
            "phases.second.rules.long": "text_chars > 10",
            "phases.second.dedup.min_length": 50,
            "input.derived_from_text": {"token.count": "tokens"},
            "phases.first.annotate": ["readability"],
            "phases.first.rules": {"readable": "eflaw < 3"},
            "phases.first.filters": ["gopher_quality"],
        }
    )
    assert changed.phases[1].rules == {"short": "text_chars < 1000", "long": "text_chars > 10"}
    assert changed.phases[1].steps[0].min_length == 50
    assert [list(entry) for entry in changed.phases[0].annotate] == [["readability"], ["gopher_quality"]]
    assert list(changed.phases[0].rules)[:2] == ["readable", "gopher_length"]
    assert changed.changed({"input.derived_from_text.token.count": None}).input.derived_from_text == {
        "token.count": None
    }


def test_the_recipe_itself_and_its_folder_stay() -> None:
    first = Recipe.parse(TEXT, folder=Path("here"))
    changed = first.changed({"phases.second.rules.short": "text_chars < 5"})
    assert first.phases[1].rules == {"short": "text_chars < 1000"}
    assert changed.folder == Path("here")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("phases.frist.rules.x", "true", "phases.frist.rules.x: no 'frist' in phases; did you mean 'first'?"),
        ("phases.first.ruls.x", "true", "no 'ruls' in phases.first; did you mean 'rules'?"),
        ("phases.first.ruls", {}, "unknown key 'phases.0.ruls'; did you mean 'rules'?"),
        ("phases.first.annotate.finweb.x", 1, "no 'finweb' in phases.first.annotate; did you mean 'fineweb'?"),
        ("phases.first.annotate.fineweb.short_line_char", 1, "unknown key 'short_line_char'; did you mean"),
        ("phases.first.annotate.tokens", {}, "no 'tokens' in phases.first.annotate"),
        ("phases.second.rules.short.value", 1, "phases.second.rules.short is 'text_chars < 1000', which has no keys"),
        (
            "phases.second.rules.short",
            3,
            "with phases.second.rules.short: phases.1.rules.short: Input should be a",
        ),
        ("phases.second.rules.short", "text_char < 3", "no annotation 'text_char'; did you mean 'text_chars'?"),
        ("budget", {}, "unknown key 'budget'; did you mean 'budgets'?"),
        ("budget.shards", 3, "no 'budget' in the recipe; did you mean 'budgets'?"),
        ("", 3, "no '' in the recipe"),
    ],
)
@pytest.mark.slow
def test_what_is_not_there_is_met_with_the_nearest_name(path: str, value: object, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe().changed({path: value})
    assert told in str(caught.value)
