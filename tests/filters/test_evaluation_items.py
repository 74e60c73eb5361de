"""Items of evaluation sets in documents: against a plain oracle, and on planted items."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError, RecipeError
from gneiss.filters import evaluation_items_kernel
from gneiss.filters.evaluation_items import EvaluationItems
from gneiss.filters.evaluation_items_kernel import item_table, matching
from tests.filters.test_contamination import words_of

few_words = st.lists(st.sampled_from(["a", "b", "c", "d", "of", "the"]), max_size=30).map(" ".join)


def slow_matches(
    documents: list[str], texts: list[str], size: int, least: int, share: float
) -> dict[tuple[int, int], float]:
    """Document and text → score over threshold, as defined."""
    words = [words_of(text) for text in texts]
    having = Counter(word for item in words for word in set(item))
    worth = {word: max(1, round(1000 * math.log((1 + len(texts)) / n))) for word, n in having.items()}

    def ngrams(sequence: list[str]) -> set[tuple[str, ...]]:
        return {tuple(sequence[at : at + size]) for at in range(len(sequence) - size + 1)}

    found = {}
    for number, item in enumerate(words):
        own = ngrams(item) if len(item) >= least else set()
        total = sum(worth[word] for ngram in own for word in ngram)
        threshold = share + (1 - share) * min(max((40 - len(item)) / 25, 0), 1)
        for document, text in enumerate(documents):
            if there := own & ngrams(words_of(text)):
                score = sum(worth[word] for ngram in there for word in ngram) / total
                found[document, number] = score / threshold
    return found


@given(
    documents=st.lists(few_words, max_size=6),
    texts=st.lists(few_words, min_size=1, max_size=6),
    size=st.integers(1, 4),
    more=st.integers(0, 3),
    share=st.sampled_from([0.3, 0.8, 1.0]),
    pairs=st.sampled_from([1, 1000]),
)
def test_scores_are_those_of_the_definition(
    documents: list[str], texts: list[str], size: int, more: int, share: float, pairs: int
) -> None:
    table = item_table(TextBatch.of(texts), size, size + more, share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_items_kernel, "_PAIRS", pairs)
        found = matching(TextBatch.of(documents), table)
    places = zip(found.document.tolist(), found.text.tolist(), strict=True)
    expected = slow_matches(documents, texts, size, size + more, share)
    assert dict(zip(places, found.match.tolist(), strict=True)) == pytest.approx(expected)
    assert len(found.match) == len(expected)


QUESTIONS = [
    "A train leaves the station at nine and reaches the coast, 240 kilometres away, at noon; how fast was it?",
    "Which of the following gases makes up most of the air that surrounds our planet at sea level?",
    "Ein Bauer verkauft zwölf Eier am Tag; wie viele Eier verkauft er in zwei Wochen insgesamt?",
    "Name the process by which green plants turn light, water and carbon dioxide into sugar and oxygen.",
]
ANSWERS = [
    "It covered 240 kilometres in three hours, so its average speed was 80 kilometres an hour.",
    "Nitrogen, which makes up about seventy-eight per cent of dry air by volume.",
    "Zwei Wochen sind vierzehn Tage, also verkauft er insgesamt 168 Eier.",
    "42",
]
PASSAGE = (
    "The lighthouse was built in 1872 on the northern cape, and its lamp was first lit in the spring of the next year."
)
PAGE = "Home | News | Contact. Read on below. {} Share this page with your friends! © 2019, all rights reserved."


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    rows = [{"question": q, "answer": a, "context": PASSAGE} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    (folder / "school.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def found_in(sets: Path, texts: list[str]) -> list[tuple[str | None, str | None]]:
    table = annotate(EvaluationItems(folder=str(sets), passage=("context",)), texts)
    return list(zip(*(table[f"evaluation_{name}"].to_pylist() for name in ("item", "part")), strict=True))


PLANTED: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "in capitals": str.upper,
    "with other spaces": lambda text: re.sub(" ", "\u00a0\n  ", text),
    "in a page": PAGE.format,
}


@pytest.mark.parametrize("how", PLANTED)
def test_every_planted_item_is_found(how: str, sets: Path) -> None:
    """Recall 1.0, but for the answer of one word, which is too short to be looked for."""
    expected = [(f"school:{n}", "question") for n in range(4)] + [(f"school:{n}", "answer") for n in range(3)]
    assert found_in(sets, [PLANTED[how](text) for text in (*QUESTIONS, *ANSWERS[:3])]) == expected
    assert found_in(sets, [PLANTED[how](ANSWERS[3])]) == [(None, None)]


FALSE_FRIENDS = {
    "a phrase of a question": "Which of the following gases makes up most of what a balloon holds?",
    "its common words": "Which of the rooms at the end of the hall is the one that we have on the list for the week?",
    "the same subject": "Green plants make sugar and oxygen from light, water and carbon dioxide: photosynthesis.",
    "half of a question": "A train leaves the station at nine and reaches the coast, 240 kilometres away.",
    "an answer of one word": "The answer to everything is 42.",
}


@pytest.mark.parametrize("name", FALSE_FRIENDS)
def test_what_only_looks_like_an_item_is_none(name: str, sets: Path) -> None:
    assert found_in(sets, [FALSE_FRIENDS[name]]) == [(None, None)]


def test_a_passage_is_scored_apart_and_does_not_drop_a_document(sets: Path) -> None:
    (row,) = annotate(EvaluationItems(folder=str(sets), passage=("context",)), [f"{PASSAGE} More."]).to_pylist()
    assert row["evaluation_part"] == "passage"
    assert row["evaluation_passage"] >= 1 > max(row["evaluation_question"], row["evaluation_answer"])


def test_of_a_long_item_most_is_enough_and_of_a_short_one_all_is_needed(tmp_path: Path) -> None:
    long = [f"word{n}" for n in range(60)]
    (tmp_path / "items.txt").write_text(" ".join(long) + "\n" + " ".join(f"short{n}" for n in range(10)))
    changed = [*long[:30], "other", *long[31:]]
    short = " ".join(f"short{n}" if n != 9 else "other" for n in range(10))
    annotator = EvaluationItems(folder=str(tmp_path))
    assert annotate(annotator, [" ".join(changed), short])["evaluation_item"].to_pylist() == ["items:0", None]


def test_what_most_texts_have_counts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluation_items_kernel, "MOST_TEXTS", 3)
    frame = "Choose the one right answer to the question that follows: "
    numbers = [" ".join(f"n{n + 10 * i}" for i in range(6)) for n in range(9)]
    (tmp_path / "quiz.txt").write_text("\n".join(frame + number for number in numbers))
    found = annotate(EvaluationItems(folder=str(tmp_path)), [frame, "to the question that follows: " + numbers[4]])
    assert found["evaluation_question"].to_pylist()[0] == 0
    assert found["evaluation_item"].to_pylist() == [None, "quiz:4"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "expected evaluation sets"),
        ({"folder": "s3://a/b"}, "expected a local folder"),
        ({"folder": "a", "min_words": 4}, "expected ngram_words of at least 1, and min_words from there"),
        ({"folder": "a", "threshold": 0.0}, "expected a share above 0"),
        ({"folder": "a", "answer": ("question",)}, "each for one only"),
        ({"folder": "a", "question": (), "answer": ()}, "expected a field"),
    ],
)
def test_parameters_that_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        EvaluationItems(**options)


def test_sets_that_are_refused(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="passage: expected texts in contxt of some evaluation set, found none"):
        annotate(EvaluationItems(folder=str(sets), passage=("contxt",)), ["a"])
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(ModelError, match="expected a text of at least 8 words, found none"):
        annotate(EvaluationItems(folder=str(tmp_path)), ["a"])
