"""Gopher's quality and repetition: every column against plain Python, and the rules on texts made to fail them."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.errors import RecipeError
from gneiss.filters.gopher import PAGES, STOP_WORDS, GopherQuality, GopherRepetition
from gneiss.filters.segmentation_characters import ORDINARY, segmentation_classes
from tests.filters.heuristics import TEXTS, decide, with_line_feeds, written

PROSE = (
    "The river rises in the hills to the north and runs for ninety miles before it meets the sea. People have lived "
    "along it since the ice withdrew, and most of what they built was made of its clay. Two mills of the old kind "
    "still work; a third was taken apart in the war, when its wheel was wanted elsewhere."
)


def quality(text: str) -> dict[str, float | None]:
    """The definitions, word for word."""
    words, lines = text.split(), text.splitlines()
    classes = segmentation_classes()
    ordinary = [word for word in words if any(classes[ord(character)] & ORDINARY for character in word)]

    def over(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    row = {
        "gopher_words": len(ordinary),
        "gopher_mean_word_length": over(sum(map(len, ordinary)), len(ordinary)),
        "gopher_hashes_per_word": over(text.count("#"), len(words)),
        "gopher_ellipses_per_word": over(text.count("...") + text.count("…"), len(words)),
        "gopher_bullet_line_fraction": over(sum(line.lstrip().startswith(("-", "•")) for line in lines), len(lines)),
        "gopher_ellipsis_line_fraction": over(sum(line.rstrip().endswith(("...", "…")) for line in lines), len(lines)),
        "gopher_letter_word_fraction": over(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "gopher_distinct_stop_words": len(set(STOP_WORDS) & set(words)),
    }
    return row | {name: None for name in row if "line" not in name and written(text) == 2}


def copies(pieces: list[str]) -> tuple[int, int]:
    """How many pieces were there before, and their code points."""
    again = [piece for at, piece in enumerate(pieces) if piece in pieces[:at]]
    return len(again), sum(map(len, again))


def repetition(text: str) -> dict[str, float | None]:
    """The definitions, word for word."""
    words = text.split()
    row: dict[str, float | None] = {column.name: None for column in GopherRepetition().columns}
    text = with_line_feeds(text)
    if not text:
        return row
    for name, pieces in (
        ("line", re.split("\n+", text)),
        ("paragraph", re.split("\n{2,}", text.strip())),
    ):
        number, characters = copies(pieces)
        row[f"repeated_{name}_fraction"] = number / len(pieces)
        row[f"repeated_{name}_char_fraction"] = characters / len(text)
    for n in (2, 3, 4):
        grams = Counter(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
        top = next((gram for gram in grams if grams[gram] == max(grams.values())), "")
        row[f"top_{n}gram_char_fraction"] = len(top) * grams[top] / len(text)
    for n in range(5, 11):
        seen, at, characters = set(), 0, 0
        while at + n <= len(words):
            joined = "".join(words[at : at + n])
            characters += len(joined) if joined in seen else 0
            at += n if joined in seen else 1
            seen.add(joined)
        row[f"repeated_{n}gram_char_fraction"] = characters / len(text)
    return row | {name: None for name in row if "gram" in name and written(text) == 2}


#: Few words of one letter or two, so that runs of ten repeat, and that joined they are equal where apart they are not.
REPETITIVE = st.lists(
    st.sampled_from(["a", "b", "ab", "ba", "é", "aé", "abab", "babab", "ababababab"]), max_size=80
).flatmap(
    lambda words: st.lists(
        st.sampled_from([" ", " ", " ", "\n", "\n\n"]), min_size=len(words), max_size=len(words)
    ).map(lambda joints: "".join(word + joint for word, joint in zip(words, joints, strict=True)))
)


@given(st.lists(TEXTS, max_size=4))
def test_quality_equals_plain_python(texts: list[str]) -> None:
    assert annotate(GopherQuality(), texts).to_pylist() == list(map(quality, texts))


@example(["  "])
@given(st.lists(REPETITIVE | TEXTS, max_size=4))
def test_repetition_equals_plain_python(texts: list[str]) -> None:
    assert annotate(GopherRepetition(), texts).to_pylist() == list(map(repetition, texts))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ab c d e f", "a bc d e f"),
        ("alpha beta gamma delta epsilon", "alphab etagammad el ta epsilon"),
        ("alpha beta gamma delta epsilon", "a l phabetagammadelta epsil on"),
        ("flüsse und meere und seen", "flüs seu ndmeereu n dseen"),
    ],
)
def test_words_that_are_equal_only_when_joined(left: str, right: str) -> None:
    text = f"{left} / {right}"
    row = annotate(GopherRepetition(), [text]).to_pylist()[0]
    assert row == repetition(text)
    assert row["repeated_5gram_char_fraction"] == len(left.replace(" ", "")) / len(text)


@pytest.mark.slow
def test_long_words_and_long_documents() -> None:
    long = "x" * 5000
    texts = [f"{long} a b c d {long} a b c d", "a b c d e f g " * 3000, " ".join(map(str, range(20_000))), "\n" * 9]
    assert annotate(GopherRepetition(), texts).to_pylist() == list(map(repetition, texts))
    assert annotate(GopherQuality(), texts).to_pylist() == list(map(quality, texts))


def test_a_document_does_not_depend_on_its_neighbours() -> None:
    texts = ["a b c d e f a b c d e f", "a b c d e f", "", "same\nsame", "same"]
    for annotator in (GopherQuality(), GopherRepetition()):
        together = annotate(annotator, texts).to_pylist()
        assert together == [annotate(annotator, [text]).to_pylist()[0] for text in texts]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (PROSE, True),
        (PROSE[:200], False),  # fewer than 50 words
        (f"{PROSE} #######", False),
        (f"{PROSE} ... ... ... ... … … …", False),
        ("\n".join(f"- {sentence}" for sentence in PROSE.split(". ")), False),
        ("...\n".join(PROSE.split(". ")), False),
        (f"{PROSE} {'12 ' * 40}", False),
        (PROSE.upper(), False),  # no stop word is in capitals
        (PROSE.replace(" ", "aaaaaaaa "), False),
        ("", False),
    ],
)
def test_quality_rules(text: str, kept: bool) -> None:
    assert decide(GopherQuality(), PAGES[0], [text]).tolist() == [kept]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (PROSE, True),
        (f"{PROSE}\n{PROSE}", False),
        (f"{PROSE}\n\n{PROSE}", False),
        (PROSE + "\nMenu" * 3, False),
        (PROSE + " buy now" * 20, False),
        (PROSE + PROSE[100:160], False),
        ("", False),
    ],
)
def test_repetition_rules(text: str, kept: bool) -> None:
    assert decide(GopherRepetition(), PAGES[1], [text]).tolist() == [kept]


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_the_pages(page: object) -> None:
    annotator = {"GO01": GopherQuality(), "GO02": GopherRepetition()}[page.code]
    assert decide(annotator, page, [page.example_kept, page.example_dropped]).tolist() == [True, False]


def test_own_stop_words() -> None:
    row = annotate(GopherQuality(("der", "die", "und")), ["die Katze und die Maus"]).to_pylist()[0]
    assert row["gopher_distinct_stop_words"] == 2


@pytest.mark.parametrize("stop_words", [(), ("a", "a"), ("a b",), ("",), tuple(map(str, range(65)))])
def test_unusable_stop_words_are_refused(stop_words: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError, match="stop words"):
        GopherQuality(stop_words)
