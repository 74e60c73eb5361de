"""YAML: the scalars of YAML 1.2, and texts of limited size, by what a recipe says and by what is written out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.cli.options import load_recipe
from gneiss.errors import RecipeError
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.yaml_text import MOST_BYTES, MOST_DEPTH, MOST_VALUES, read_yaml, write_yaml


def refusal_of(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Examples 10.3 and 10.9 of the specification, and what YAML 1.1 reads as something else.
        ("0200", 200),
        ("0o14", 12),
        ("0x3A", 58),
        ("-19", -19),
        ("+12e03", 12000.0),
        ("12e03", 12000.0),
        ("0.", 0.0),
        ("-0.0", 0.0),
        (".5", 0.5),
        ("-2E+05", -200_000.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("1:20", "1:20"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("+.NAN", "+.NAN"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("TRUE", True),
        ("false", False),
        ("tRUE", "tRUE"),
        ("2024-11-28", "2024-11-28"),
        ("=", "="),
        ("~", None),
        ("", None),
        ("nUll", "nUll"),
        ("'0200'", "0200"),
        ("!!str 0200", "0200"),
        ("!!int '0200'", 200),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = read_yaml(f"key: {text}\n")["key"]
    assert (found, type(found)) == (value, type(value))


def test_not_a_number_is_read() -> None:
    assert math.isnan(read_yaml("[.nan]")[0])


@pytest.mark.parametrize("text", ["!!int many", "!!bool yes", "!!int 1:20", "!!float 1_0.5", "!!null none"])
def test_a_tag_takes_only_what_the_core_schema_has(text: str) -> None:
    assert "is no " in refusal_of(text)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["0200", "1e3", "0o17", "1:20", "yes", "null", "~", "<<", "=", ".inf", "2024-11-28", "+1", "1."]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text("abc1.e~", max_size=4), children),
    max_leaves=8,
)


@given(values)
@settings(max_examples=200)
@pytest.mark.slow
def test_what_is_written_is_read_as_the_same_value_also_by_yaml_1_1(value: Any) -> None:
    text = write_yaml(value)
    assert read_yaml(text) == value
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    "changed",
    [
        "dedup: {min_length: 0200}",
        "dedup: {min_length: 200}",
    ],
)
def test_a_number_with_a_leading_zero_is_decimal(changed: str) -> None:
    recipe = Recipe.parse(f"name: x\nphases: [{{name: one, {changed}}}]\n")
    assert recipe.canonical()["phases"][0]["dedup"]["min_length"] == 200


def test_changes_on_the_command_line_are_of_the_same_yaml(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\nphases: [{name: one, dedup: {}}]\n")
    changed = load_recipe(str(tmp_path / "x.yaml"), ["phases.one.dedup.min_length=0100"])
    assert changed.canonical()["phases"][0]["dedup"]["min_length"] == 100
    with pytest.raises(RecipeError, match="min_length: Input should be a valid integer"):
        load_recipe(str(tmp_path / "x.yaml"), ["phases.one.dedup.min_length=1:20"])
    with pytest.raises(RecipeError, match=r"^--set description=\[: the value is no valid YAML"):
        load_recipe(str(tmp_path / "x.yaml"), ["description=["])


# Size.


def test_merges_are_refused() -> None:
    assert "merges (<<) are not read" in refusal_of("a: &a {b: 1}\nc: {<<: *a}")
    assert read_yaml("{'<<': 1}") == {"<<": 1}
    bomb = "a0: &a0 {k0: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 50)}]}}\n" for i in range(1, 8)
    )
    refusal_of(bomb)


def test_aliases_are_read_and_counted_wherever_they_stand() -> None:
    assert read_yaml("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    levels = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
    )
    assert f"more than {MOST_VALUES:,} values" in refusal_of(levels)
    for text in ("&a [*a]", "a: &a {b: [c, *a]}"):
        assert "an alias of what it stands in" in refusal_of(text)


@pytest.mark.slow
def test_a_text_is_limited_in_bytes_values_and_depth(tmp_path: Path) -> None:
    assert "larger than 250,000 bytes" in refusal_of("# " + "x" * MOST_BYTES)
    assert "larger than" in refusal_of("# " + "é" * (MOST_BYTES // 2))
    assert f"more than {MOST_VALUES:,} values" in refusal_of("[" + "1," * (MOST_VALUES + 1) + "]")
    for depth in (MOST_DEPTH + 1, 200, 100_000):
        assert f"more than {MOST_DEPTH} lists" in refusal_of("[" * depth + "1" + "]" * depth)
    assert read_yaml("[" * 40 + "1" + "]" * 40)
    (tmp_path / "large.yaml").write_text("# " + "x" * (3 * MOST_BYTES) + "\nname: x\n")
    with pytest.raises(RecipeError, match=r"large\.yaml: larger than 250,000 bytes"):
        Recipe.load(tmp_path / "large.yaml")


def test_a_recipe_is_limited_in_phases() -> None:
    phases = ", ".join(f"{{name: p{i}}}" for i in range(101))
    with pytest.raises(RecipeError, match="phases: List should have at most 100 items"):
        Recipe.parse(f"name: x\nphases: [{phases}]\n")


# A falsy value is refused like a true one, and a string is no number.


@pytest.mark.parametrize("value", ["false", "0", "''", "[]", "true", "1", "0.0"])
@pytest.mark.parametrize(
    "phase",
    [
        "edit: [{{pii: {}}}]",
        "edit: [{{c4_lines: {}}}]",
        "annotate: [{{readability: {}}}]",
        "filters: [{{fineweb: {}}}]",
        "filters: [{{fineweb: {{rules: {}}}}}]",
        "exact_duplicates: {}",
        "near_duplicates: {}",
        "dedup: {}",
        "aliases: {}",
        "filters: [fineweb], rules: {}",
        "keep: {}",
    ],
)
def test_a_falsy_value_is_refused_like_a_true_one(phase: str, value: str) -> None:
    if phase.startswith("keep") and value == "[]":
        value = "{}"
    with pytest.raises(RecipeError, match=r"expected|Input should be"):
        Recipe.parse(f"name: x\nphases: [{{name: one, {phase.format(value)}}}]\n")


@pytest.mark.parametrize("value", ["false", "0", "''", "{}", "3"])
@pytest.mark.parametrize("key", ["filters", "edit", "annotate"])
def test_a_list_is_no_other_falsy_value(key: str, value: str) -> None:
    with pytest.raises(RecipeError, match=r"expected|Input should be"):
        Recipe.parse(f"name: x\nphases: [{{name: one, {key}: {value}}}]\n")


@pytest.mark.parametrize(
    ("phase", "where"),
    [
        ("near_duplicates: {bands: '3'}", "bands"),
        ("near_duplicates: {bands: 3.0}", "bands"),
        ("near_duplicates: {rows: true}", "rows"),
        ("dedup: {min_length: '100'}", "min_length"),
        ("dedup: {min_length: 2147483648}", "min_length"),
        ("edit: [pii: {email: 1}]", "email"),
        ("edit: [pii: {email: 'yes'}]", "email"),
        ("filters: [fineweb: {short_line_chars: '30'}]", "short_line_chars"),
        ("filters: [gopher_quality: {stop_words: the}]", "stop_words"),
        ("filters: [language: {max_chars: '1000'}]", "max_chars"),
        ("annotate: [tokens: {tokenizer: 3}]", "tokenizer"),
    ],
)
def test_a_value_of_another_type_is_refused_not_converted(phase: str, where: str) -> None:
    with pytest.raises(RecipeError, match=rf"{where}: Input should be"):
        Recipe.parse(f"name: x\nphases: [{{name: one, {phase}}}]\n")
