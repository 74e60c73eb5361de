"""FineWeb's own rules: every column against plain Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.errors import RecipeError
from gneiss.filters.fineweb import PAGES, FineWeb
from gneiss.filters.segmentation_characters import TERMINAL, segmentation_classes
from tests.filters.heuristics import TEXTS, decide, with_line_feeds, written

SENTENCE = "The council met twice that winter, and nothing was decided."


def measured(text: str, short_line_chars: int = 30) -> dict[str, float | None]:
    """The definitions, word for word."""
    text = with_line_feeds(text)
    lines = [line for line in text.split("\n") if line]
    if not lines:
        return {column.name: None for column in FineWeb().columns}
    classes = segmentation_classes()
    again = [line for at, line in enumerate(lines) if line in lines[:at]]
    return {
        "fineweb_punctuated_line_fraction": sum(bool(classes[ord(line[-1])] & TERMINAL) for line in lines) / len(lines),
        "fineweb_short_line_fraction": sum(len(line) <= short_line_chars for line in lines) / len(lines),
        "fineweb_repeated_line_char_fraction": sum(map(len, again)) / len(text.replace("\n", "")),
        "fineweb_line_feeds_per_word": text.count("\n") / len(text.split()) if written(text) != 2 else None,
    }


@given(st.lists(TEXTS, max_size=4), st.sampled_from([0, 3, 30]))
def test_columns_equal_plain_python(texts: list[str], short_line_chars: int) -> None:
    rows = annotate(FineWeb(short_line_chars), texts).to_pylist()
    assert rows == [measured(text, short_line_chars) for text in texts]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (SENTENCE, True),
        (SENTENCE[:-1], False),
        (f"{SENTENCE}\nHome.\nProducts.\nPrices.", False),
        (f"{SENTENCE}\n{SENTENCE}", False),
        (f"{SENTENCE}\n\n\n\n\n\n", False),
        ("", False),
        (" \n ", False),
    ],
)
def test_rules(text: str, kept: bool) -> None:
    assert decide(FineWeb(), PAGES[0], [text]).tolist() == [kept]


def test_examples_of_the_page() -> None:
    (page,) = PAGES
    assert decide(FineWeb(), page, [page.example_kept, page.example_dropped]).tolist() == [True, False]


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(RecipeError, match="short_line_chars"):
        FineWeb(-1)
