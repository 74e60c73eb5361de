"""One definition of a line for all heuristics: a text measures the same whatever its line ends and blank lines are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import Annotator, annotate
from gneiss.filters import c4, fineweb, gopher
from gneiss.filters.page import Page
from tests.filters.heuristics import TEXTS, decide, with_line_feeds

HEURISTICS: list[tuple[Annotator, Page]] = [
    (gopher.GopherQuality(), gopher.PAGES[0]),
    (gopher.GopherRepetition(), gopher.PAGES[1]),
    (c4.C4(), c4.PAGES[0]),
    (c4.C4(terminal_punctuation=False), c4.PAGES[0]),
    (fineweb.FineWeb(), fineweb.PAGES[0]),
]
SENTENCES = (
    "The harbour was dredged in the first year of the war, and never again.",
    "Ships of the larger kind have to wait for the tide outside of the bar.",
    "A pilot comes aboard there, with his dog and his own chart of the sands.",
    "To this day that chart has not been printed, and none of them will say why.",
    "In fog the bell on the mole is rung by hand, and the keeper counts to nine.",
)
BLANKS = ("", " ", "\N{NO-BREAK SPACE}", " \t\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}", "\N{NO-BREAK SPACE} ")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\N{LINE SEPARATOR}", "\x85", "\x0c"])
@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.slow
def test_prose_is_kept_with_any_line_ends_and_blank_lines(end: str, blank: str) -> None:
    text = f"{end}{blank}{end}".join(SENTENCES)
    for annotator, page in HEURISTICS:
        row, expected = annotate(annotator, [text, "\n\n".join(SENTENCES)]).to_pylist()
        assert row == expected
        assert decide(annotator, page, [text]).all()


@given(st.lists(st.tuples(TEXTS, st.sampled_from(BLANKS)), max_size=6), st.sampled_from(["\r\n", "\r"]))
@pytest.mark.slow
def test_carriage_returns_are_line_feeds(parts: list[tuple[str, str]], end: str) -> None:
    feeds = with_line_feeds("\n".join(f"{text}\n{blank}" for text, blank in parts))
    for annotator, _ in HEURISTICS:
        row, expected = annotate(annotator, [feeds.replace("\n", end), feeds]).to_pylist()
        assert row == expected


@given(TEXTS)
def test_only_the_plain_form_counts_for_repetition_and_fineweb(text: str) -> None:
    for annotator, _ in (HEURISTICS[1], HEURISTICS[4]):
        row, expected = annotate(annotator, [text, with_line_feeds(text)]).to_pylist()
        assert row == expected
