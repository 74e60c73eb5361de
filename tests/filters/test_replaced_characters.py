"""Lost characters are counted, and a document that lost more than one in a hundred is dropped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.filters.replaced_characters import PAGES, ReplacedCharacters
from gneiss.recipe.recipe import Recipe
from tests.filters.heuristics import decide


@given(st.lists(st.none() | st.text(st.sampled_from("a\ufffd\ufffcö視\0")), max_size=8))
def test_every_replacement_character_counts(texts: list[str | None]) -> None:
    found = annotate(ReplacedCharacters(), texts)["replaced_characters"].to_pylist()
    assert found == [None if text is None else text.count("\ufffd") for text in texts]


def test_one_in_a_hundred_may_be_lost() -> None:
    (page,) = PAGES
    texts = ["ö" * 99 + "\ufffd", "ö" * 98 + "\ufffd", "no damage", "\ufffd", page.example_kept, page.example_dropped]
    assert decide(ReplacedCharacters(), page, texts).tolist() == [True, False, True, False, True, False]


def test_the_crawl_recipe_drops_what_was_lost() -> None:
    heuristics = Recipe.load("commoncrawl-to-gneissweb").phases[0]
    assert heuristics.rules["decoded"] == PAGES[0].rules["decoded"]
    assert heuristics.keep is None  # so that each of its rules is needed
