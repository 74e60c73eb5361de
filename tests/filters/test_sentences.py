"""Sentences of a line: against a plain oracle, and as NLTK's punkt counts them in prose without capitals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.filters.segmentation_characters import segmentation_classes
from gneiss.filters.sentences import around_ends, count_sentences
from tests.filters.heuristics import TEXTS, sentence_ends

PROSE = [
    line.split("\t")
    for line in Path(__file__).with_name("lower_case_prose.tsv").read_text("utf-8").splitlines()
    if not line.startswith("#")
]


def counted(line: str) -> int:
    return int(count_sentences(np.frombuffer(line.encode(), np.uint8), segmentation_classes(), around_ends()))


@pytest.mark.parametrize(("sentences", "line"), PROSE)
@pytest.mark.slow
def test_prose_without_capitals_counts_as_with_punkt(sentences: str, line: str) -> None:
    assert counted(line) == int(sentences)


@given(TEXTS | st.text(st.sampled_from("aAb19 .!?…\"')]»”’(“,-é\u00a0IT")))
@pytest.mark.slow
def test_counts_equal_plain_python(text: str) -> None:
    for line in filter(str.strip, text.splitlines()):
        assert counted(line) == 1 + len(sentence_ends(line))


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("She left the U.S. in May. It was cold.", 2),
        ("She left the U.S. However, she came back.", 2),
        ("J. R. Dale wrote it. He was ten.", 2),
        ("Wait... what? No... Then no.", 2),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}. brown wrote it. yes.", 2),
        ("it ended (in 1999.) nobody was there.", 1),
        ("so it was.\N{NO-BREAK SPACE}so it is.", 2),
        ("x", 1),
    ],
)
def test_full_stops_that_end_nothing(line: str, sentences: int) -> None:
    assert counted(line) == 1 + len(sentence_ends(line)) == sentences


def test_time_is_linear_in_a_line_of_full_stops() -> None:
    line = "a." * 500_000 + " b"
    assert counted(line) == 2
