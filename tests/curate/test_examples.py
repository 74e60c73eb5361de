"""Examples: a few real documents per rule, the decisive ones first, the same whatever the order of shards."""

from __future__ import annotations

import random
from functools import reduce
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gneiss.curate.curate import curate
from gneiss.curate.examples import EXCERPT_CHARS, PER_RULE, Examples, merge_examples
from gneiss.curate.loaded_models import load_models
from tests.support import recipe_of, shard_of

RULES = "- {name: only, rules: {long: text_chars > 5, plain: text_bytes = text_chars}}"


def examples_of(path: Path, texts: list[str | None], rules: str = RULES) -> Examples:
    recipe = recipe_of(rules)
    return curate(shard_of(path, texts), recipe, load_models(recipe)).examples


def test_documents_that_a_rule_alone_dropped_come_first(tmp_path: Path) -> None:
    texts = ["é", "long enough", "ok", "é2", "long and é", None, "ü"]
    examples = examples_of(tmp_path / "a.parquet", texts)
    assert [example["row"] for example in examples["plain"] if example["decisive"]] == [4]
    assert [example["row"] for example in examples["long"] if example["decisive"]] == [2]
    assert all(len(examples) == PER_RULE for examples in examples.values())
    first = examples["plain"][0]
    assert (first["id"], first["shard"], first["row"], first["excerpt"]) == ("doc-4", "a", 4, "long and é")
    assert first["annotations"] == {"text_bytes": 11, "text_chars": 10}


def test_a_text_that_repeats_is_shown_once(tmp_path: Path) -> None:
    examples = examples_of(tmp_path / "a.parquet", ["no", "no", "no", "ja"])
    assert sorted(example["excerpt"] for example in examples["long"]) == ["ja", "no"]
    assert [example["row"] for example in examples["long"] if example["excerpt"] == "no"] == [0]


def test_a_rule_that_nothing_fails_has_no_examples(tmp_path: Path) -> None:
    assert examples_of(tmp_path / "a.parquet", ["long enough"]) == {"long": [], "plain": []}


def test_an_excerpt_is_the_beginning_of_the_text_in_whole_characters(tmp_path: Path) -> None:
    text = "€é" * 400
    examples = examples_of(tmp_path / "a.parquet", [text, "x€" * 10])
    by_row = {example["row"]: example["excerpt"] for example in examples["plain"]}
    assert by_row == {0: text[:EXCERPT_CHARS], 1: "x€" * 10}


def test_an_excerpt_shows_the_text_that_the_rule_saw(tmp_path: Path) -> None:
    passage = "this passage is in both of the documents"
    rules = "- {name: only, dedup: {min_length: 20}, rules: {long: text_chars > 10}}"
    examples = examples_of(tmp_path / "a.parquet", [passage, f"rest{passage}"], rules)
    assert [example["excerpt"] for example in examples["long"]] == ["rest"]


def example_of(number: int) -> dict[str, Any]:
    pick = random.Random(number)
    return {
        "id": f"doc-{number}",
        "shard": pick.choice(["a", "b"]),
        "row": number,
        "decisive": pick.random() < 0.5,
        "content_hash": pick.choice("abcd"),
        "excerpt": "",
        "annotations": {},
    }


@given(st.lists(st.lists(st.integers(0, 50), max_size=3, unique=True), max_size=4), st.randoms(use_true_random=False))
def test_merged_examples_do_not_depend_on_the_order_of_shards(shards: list[list[int]], shuffler: random.Random) -> None:
    parts: list[Examples] = [{"rule": [example_of(number) for number in numbers]} for numbers in shards]
    merged = reduce(merge_examples, parts, {})
    shuffled = list(parts)
    shuffler.shuffle(shuffled)
    assert reduce(merge_examples, shuffled, {}) == merged
    at = shuffler.randrange(len(parts) + 1)
    halves = (reduce(merge_examples, half, {}) for half in (shuffled[:at], shuffled[at:]))
    assert merge_examples(*halves) == merged
    if parts:
        everything = [example for part in parts for example in part["rule"]]
        shown = merged["rule"]
        hashes = {example["content_hash"] for example in everything}
        assert len(shown) == min(PER_RULE, len(hashes)) == len({example["content_hash"] for example in shown})
        if any(example["decisive"] for example in everything):
            assert shown[0]["decisive"]
