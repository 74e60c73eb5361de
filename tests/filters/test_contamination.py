"""Contamination: n-grams against sets of tuples of strings, and the files of evaluation sets."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.contamination import PAGES, Contamination
from gneiss.filters.contamination_kernel import folded_words, ngram_table, overlap
from gneiss.filters.evaluation_sets import read_texts, set_name
from tests.filters.heuristics import TEXTS, decide

ALONE = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def words_of(text: str) -> list[str]:
    """The definition, word for word."""
    spaced = ALONE.sub(r" \1 ", "".join(c for c in text if c.isspace() or re.match(r"[^\W_]", c)))
    return ["".join(c.lower() if len(c.lower()) == 1 else c for c in word) for word in spaced.split()]


def ngrams_of(text: str, lengths: Iterable[int]) -> dict[tuple[str, ...], list[int]]:
    """The n-grams of a text, with where they begin."""
    found: dict[tuple[str, ...], list[int]] = {}
    words = words_of(text)
    for length in lengths:
        for first in range(len(words) - length + 1):
            found.setdefault(tuple(words[first : first + length]), []).append(first)
    return found


def ngrams_of_set(texts: list[str], ngram_words: int, min_words: int) -> set[tuple[str, ...]]:
    sizes = [(text, len(words_of(text))) for text in texts]
    return {n for text, size in sizes if size >= min_words for n in ngrams_of(text, [min(size, ngram_words)])}


def measured(text: str, sets: list[set[tuple[str, ...]]]) -> tuple[int, int, int, int]:
    """Words, words in n-grams of a set, distinct n-grams, and the set that has most of them or -1."""
    own = ngrams_of(text, {len(ngram) for ngrams in sets for ngram in ngrams})
    shared = {ngram for ngrams in sets for ngram in ngrams & set(own)}
    covered = {first + i for ngram in shared for first in own[ngram] for i in range(len(ngram))}
    by_set = Counter({index: len(ngrams & shared) for index, ngrams in enumerate(sets)})
    nearest = by_set.most_common(1)[0][0] if shared else -1
    return len(words_of(text)), len(covered), len(shared), nearest


#: Few different words, so that n-grams meet.
PHRASES = st.lists(
    st.sampled_from(["a", "b", "A", "B!", "a-b", "_", "Ä", "ä", "日本", "a日b", "–", "1,000", "İ", "ǅ", "\u0301", "ก"]),
    max_size=14,
).map(" ".join)
SETS = st.lists(st.lists(PHRASES | TEXTS, max_size=4), max_size=4)


@given(st.lists(PHRASES | TEXTS, max_size=4), SETS, st.sampled_from([(1, 1), (2, 1), (3, 2), (4, 4), (13, 8)]))
def test_overlap_equals_plain_python(texts: list[str], sets: list[list[str]], sizes: tuple[int, int]) -> None:
    table = ngram_table([TextBatch.of(of_set) for of_set in sets], *sizes)
    expected = [ngrams_of_set(of_set, *sizes) for of_set in sets]
    assert table.sizes.tolist() == [len(ngrams) for ngrams in expected]
    assert len(table.hashes) == len(set().union(*expected))
    shared = overlap(TextBatch.of(["x", *texts]).slice(1, len(texts) + 1), table)
    rows = np.stack([shared.words, shared.covered, shared.ngrams, shared.nearest_set], axis=1)
    assert [tuple(row) for row in rows.tolist()] == [measured(text, expected) for text in texts]


@given(st.lists(TEXTS | st.text(max_size=20), max_size=4))
def test_words_equal_plain_python(texts: list[str]) -> None:
    words = folded_words(TextBatch.of(texts))
    assert np.diff(words.documents).tolist() == [len(words_of(text)) for text in texts]


def test_every_word_character_is_compared_in_lower_case() -> None:
    characters = "ABCXYZÀÖØÞĀŸΑΩЀЯԱՖႠჅᲐꓐＡＺ𐐀𞤀ẞ"
    upper, lower = folded_words(TextBatch.of([characters])), folded_words(TextBatch.of([characters.lower()]))
    assert upper.sums.tolist() == lower.sums.tolist()


def test_more_matches_than_there_is_room_for_at_first() -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in range(900)]
    table = ngram_table([TextBatch.of([" ".join(words)])], 2, 1)
    shared = overlap(TextBatch.of([" ".join(words)] * 2), table)
    assert shared.ngrams.tolist() == [len(words) - 1] * 2
    assert shared.covered.tolist() == [len(words)] * 2


def test_hashes_do_not_collide() -> None:
    generator = np.random.default_rng(5)
    texts = {" ".join(map(str, row)) for row in generator.integers(0, 30, (200_000, 4)).tolist()}
    table = ngram_table([TextBatch.of(sorted(texts))], 4, 4)
    assert len(table.hashes) == len(texts)


QUESTIONS = ["How many wheels do seven bicycles and two tricycles have if one wheel is lost?", "One, two.", "Who?"]
ANSWERS = ["Seven times two and two times three make twenty, less one is nineteen wheels."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    rows = [{"question": QUESTIONS[0], "answer": ANSWERS[0], "n": 1}, {"question": None, "choices": ["a b", 7]}]
    (tmp_path / "lines.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)), "utf-8")
    (tmp_path / "more/plain.txt").write_text("\n".join(QUESTIONS), "utf-8")
    table = pa.table({"question": QUESTIONS, "choices": [[*ANSWERS, None], None, []], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "table.parquet")
    (tmp_path / "_notes.md").write_text("not a set")
    return tmp_path


def test_texts_of_a_set(folder: Path) -> None:
    fields = ("question", "choices", "n")
    assert read_texts(folder / "more/plain.txt", fields) == QUESTIONS
    assert read_texts(folder / "lines.jsonl", fields) == [QUESTIONS[0], "a b"]
    assert read_texts(folder / "table.parquet", fields) == [*QUESTIONS, *ANSWERS]
    (folder / "half.jsonl").write_text('{"text": "half a \\ud800 pair"}')
    assert read_texts(folder / "half.jsonl", ("text",)) == ["half a ? pair"]


def test_a_folder_of_sets(folder: Path) -> None:
    annotator = Contamination(folder=str(folder), fields=("question", "answer"))
    texts = [
        "Quiz: how many wheels do SEVEN bicycles, and two tricycles, have – if one wheel is lost?",
        ANSWERS[0],
        "How many wheels do seven bicycles and two tricycles have?",
        "",
    ]
    assert annotate(annotator, [*texts, None]).to_pylist() == [
        {"contamination_set": "lines", "contamination_ngrams": 3, "contamination_fraction": 15 / 16},
        {"contamination_set": "lines", "contamination_ngrams": 2, "contamination_fraction": 1.0},
        {"contamination_set": None, "contamination_ngrams": 0, "contamination_fraction": 0.0},
        {"contamination_set": None, "contamination_ngrams": 0, "contamination_fraction": None},
        {"contamination_set": None, "contamination_ngrams": None, "contamination_fraction": None},
    ]
    assert decide(annotator, PAGES[0], texts).tolist() == [False, False, True, True]


def test_sets_by_name_beside_a_folder(folder: Path) -> None:
    sets = {"a": str(folder / "more/plain.txt"), "z": str(folder / "table.parquet")}
    files = {source: Path(source) for source in sets.values()}
    annotator = Contamination(sets, fields=("choices",))
    assert annotator.model_files == tuple(sets.values())
    assert annotate(annotator, [QUESTIONS[0], ANSWERS[0]], files)["contamination_set"].to_pylist() == ["a", "z"]
    both = Contamination({"more/plain": sets["a"]}, f"{folder}/", fields=("question",))
    assert both.model_files == (sets["a"], f"{folder}/")
    with pytest.raises(ModelError, match=r"plain\.txt: there is another evaluation set 'more/plain': .*plain"):
        annotate(both, [""])


def test_short_texts_of_a_set(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("one two three four five six seven eight\nnine ten\n")
    annotator = Contamination({"s": str(tmp_path / "s.txt")})
    texts = ["zero one two three four five six seven eight", "one two three four five six seven", "nine ten"]
    assert annotate(annotator, texts)["contamination_ngrams"].to_pylist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x", "a.csv: expected an evaluation set in a file that ends in .jsonl, .parquet, .txt"),
        (".txt", "x", "expected an evaluation set"),
        ("a.txt", "", "a.txt: expected the texts of an evaluation set, found none"),
        ("a.txt", "too short", "a.txt: expected a text of at least 8 words, found none"),
        ("a.txt", b"caf\xe9", "cannot be read as an evaluation set"),
        ("a.jsonl", '{"text": "x"}\n{', "a.jsonl, line 2: no valid JSON"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1: no valid JSON"),
        ("a.jsonl", '{"query": "x"}', "a.jsonl, line 1: expected an object with one of text"),
        ("a.jsonl", '"text"', "a.jsonl, line 1: expected an object"),
        ("a.jsonl", '{"text": 7}', "found none"),
        ("a.parquet", "x", "a.parquet: cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_no_set(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=message):
        annotate(Contamination({"a": str(path)}), [""])


def test_a_table_without_the_column(folder: Path) -> None:
    with pytest.raises(ModelError, match="expected one of the columns text, found question, choices, n"):
        read_texts(folder / "table.parquet", ("text",))
    with pytest.raises(ModelError, match="cannot be read"):
        read_texts(folder / "missing.txt", ("text",))
    with pytest.raises(ModelError, match=r"README\.md: expected an evaluation set"):
        set_name("README.md")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "`sets`, `folder` or both"),
        ({"folder": "hf://owner/repo/evals"}, "expected a local folder"),
        ({"folder": "evals", "min_words": 14}, "found 14 and 13"),
        ({"folder": "evals", "min_words": 0}, "min_words of at least 1"),
        ({"folder": "evals", "ngram_words": 101}, "to 100"),
        ({"folder": "evals", "fields": ()}, "at least one field"),
    ],
)
def test_parameters_are_checked(given: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Contamination(**given)  # type: ignore[arg-type]


def test_examples_of_the_page(tmp_path: Path) -> None:
    (page,) = PAGES
    (tmp_path / "duck.txt").write_text(page.example_dropped.partition("A: ")[0])
    annotator = Contamination(folder=str(tmp_path))
    assert decide(annotator, page, [page.example_kept, page.example_dropped]).tolist() == [True, False]


def test_what_is_not_utf8_stays_inside_its_document() -> None:
    data = np.frombuffer(b"one tw\xe3\x81 \xf0\x9f\xff\xc3 a\xe2", np.uint8)
    batch = TextBatch(data, np.array([0, 7, 8, 12, len(data)], np.int64))
    assert folded_words(batch).documents[-1] <= len(data)
