"""C4: every column and the edit against plain Python."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import RecipeError
from gneiss.filters.c4 import C4, PAGES, C4Lines
from tests.filters.heuristics import TEXTS, decide, sentence_ends, written

CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def judged(text: str, annotator: C4) -> list[tuple[str, str]]:
    """The lines that are not blank, without citations, and the column that each counts in."""
    found = []
    for line in map(str.strip, text.splitlines()):
        words, clean = line.split(), CITATION.sub("", line)
        lower = clean.lower()
        ends = clean.endswith((".", "?", "!", '"', "'")) and not clean.endswith("...")
        tests = {
            "c4_long_word_lines": max(map(len, words), default=0) > annotator.max_word_chars,
            "c4_unpunctuated_lines": annotator.terminal_punctuation and not ends,
            "c4_short_lines": len(words) < annotator.min_line_words,
            "c4_lorem_ipsum_lines": "lorem ipsum" in lower,
            "c4_javascript_lines": "javascript" in lower,
            "c4_curly_bracket_lines": "{" in clean,
            "c4_policy_lines": any(phrase in lower for phrase in POLICIES),
            "c4_kept_lines": True,
        }
        if words:
            found.append((clean, next(name for name, fails in tests.items() if fails)))
    return found


def measured(text: str, annotator: C4) -> dict[str, int | None]:
    """The definitions, word for word."""
    lines = judged(text, annotator)
    row = {column.name: sum(name == column.name for _, name in lines) for column in annotator.columns}
    kept = [line for line, name in lines if name == "c4_kept_lines"]
    row["c4_sentences"] = sum(1 + len(sentence_ends(line)) for line in kept)
    return row if written(text) == 0 else dict.fromkeys(row)


def edited(text: str, annotator: C4) -> list[str]:
    """The lines of the text that C4 leaves."""
    if written(text):
        return text.splitlines()
    staying = {"c4_kept_lines", "c4_lorem_ipsum_lines", "c4_curly_bracket_lines"}
    return "\n".join(line for line, name in judged(text, annotator) if name in staying).strip().splitlines()


VARIANTS = st.sampled_from(
    [C4(), C4(terminal_punctuation=False), C4(True, 0, 5), C4(terminal_punctuation=False, min_line_words=1)]
)
#: More lines, and more that are kept, than in TEXTS.
LINES = st.lists(TEXTS | st.just("So it is. And it was."), max_size=5).map("\n".join)


@given(st.lists(LINES, max_size=3), VARIANTS)
@pytest.mark.slow
def test_columns_equal_plain_python(texts: list[str], annotator: C4) -> None:
    assert annotate(annotator, texts).to_pylist() == [measured(text, annotator) for text in texts]


@given(st.lists(LINES, max_size=3), VARIANTS)
def test_edits_equal_plain_python(texts: list[str], annotator: C4) -> None:
    batch = TextBatch.of(texts)
    editor = C4Lines(annotator.terminal_punctuation, annotator.min_line_words, annotator.max_word_chars)
    edits = editor.edit(batch).edits
    assert [text.splitlines() for text in edits.apply(batch).texts()] == [edited(text, annotator) for text in texts]
    assert (edits.end > edits.start).all()


def test_judgements() -> None:
    text = "\n".join(
        [
            "It is so. Is it? It is said (so).  ",
            "It is so ...",
            "home | about",
            "It is.",
            "You must allow JavaScript to go on.",
            "This site uses cookies from others.",
            "It was so[1] until 1900 [citation needed].",
            "a b " + "c" * 1001 + ".",
            "",
        ]
    )
    assert annotate(C4(), [text]).to_pylist()[0] == {
        "c4_kept_lines": 2,
        "c4_long_word_lines": 1,
        "c4_unpunctuated_lines": 2,
        "c4_short_lines": 1,
        "c4_lorem_ipsum_lines": 0,
        "c4_javascript_lines": 1,
        "c4_curly_bracket_lines": 0,
        "c4_policy_lines": 1,
        "c4_sentences": 4,
    }
    batch = TextBatch.of(["", text, "x"])
    assert C4Lines().edit(batch).edits.apply(batch).texts() == [
        "",
        "It is so. Is it? It is said (so).\nIt was so until 1900 .",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It was so. It is so. It is. So it is. It will be so.", True),
        ("It was so. It is so. So it is. It will be so.", False),
        ("It was so. It is so. It is. So it is. It will be so.\nLorem ipsum dolor.", False),
        ("It was so. It is so. It is. So it is. It will be so.\nLorem ipsum dolor", True),
        ("It was so. It is so. It is. So it is. It will {be so.", False),
        ("", False),
    ],
)
def test_rules(text: str, kept: bool) -> None:
    assert decide(C4(), PAGES[0], [text]).tolist() == [kept]


def test_examples_of_the_page() -> None:
    (page,) = PAGES
    assert decide(C4(), page, [page.example_kept, page.example_dropped]).tolist() == [True, False]


@pytest.mark.slow
def test_edits_of_what_is_not_utf8_lie_inside_the_documents() -> None:
    import numpy as np

    data = np.frombuffer(b"So it is \xe2\x80. So it was[1\xf0\n[1] so it is \xff.\xc2", np.uint8)
    batch = TextBatch(data, np.array([0, 10, 25, len(data)], np.int64))
    for variant in (C4Lines(), C4Lines(terminal_punctuation=False, min_line_words=0)):
        edits = variant.edit(batch).edits
        assert len(edits.apply(batch)) == 3  # apply refuses edits that overlap or reach outside


@pytest.mark.parametrize("kind", [C4, C4Lines])
def test_parameters_are_checked(kind: type) -> None:
    with pytest.raises(RecipeError, match="min_line_words"):
        kind(min_line_words=-1)
    with pytest.raises(RecipeError, match="max_word_chars"):
        kind(max_word_chars=0)
