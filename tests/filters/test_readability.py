"""Readability: against textstat 0.7.5, against a plain oracle, and the tables against Python's own `re`."""

from __future__ import annotations

import re
import sysconfig
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.filters import readability_kernel
from gneiss.filters.characters import OTHER, SPACE, TERMINATOR, UNICODE_VERSION, WORD, character_classes
from gneiss.filters.readability import Readability, eflaw


def classes_of_this_python() -> np.ndarray:
    """The class of each code point by Python's own `re`."""
    kinds = ((re.compile(r"\w"), WORD), (re.compile(r"\s"), SPACE), (re.compile("[.!?]"), TERMINATOR))
    return np.array(
        [next((kind for pattern, kind in kinds if pattern.match(chr(point))), OTHER) for point in range(0x110000)],
        np.uint8,
    )


@cache
def newer_characters() -> frozenset[str]:
    """Characters that this Python, having a newer Unicode version, classes otherwise than the tables."""
    return frozenset(map(chr, np.flatnonzero(classes_of_this_python() != character_classes()).tolist()))


def oracle(text: str) -> dict[str, float | None]:
    """The definitions, word for word, for any text without `newer_characters`."""

    def words_of(part: str) -> list[str]:
        return re.sub(r"[^\w\s]", "", part).split()

    words = words_of(text)
    mini_words = [word for word in words if len(word) <= 3]
    pieces = re.findall(r"\b[^.!?]+[.!?]*", text)
    sentences = max(1, sum(len(words_of(piece)) > 2 for piece in pieces))
    characters = sum(not character.isspace() for character in text)
    per_word = characters / len(words) if words else None
    per_sentence = len(words) / sentences
    return {
        "eflaw": int((len(words) + len(mini_words)) / sentences * 10 + 0.5) / 10,
        "words": len(words),
        "mini_words": len(mini_words),
        "sentences": sentences,
        "characters_per_word": per_word,
        "words_per_sentence": per_sentence,
        "ari": None if per_word is None else 4.71 * per_word + 0.5 * per_sentence - 21.43,
    }


def check(texts: list[str]) -> None:
    """Every column equals the oracle, and EFLAW equals textstat, for each of the texts."""
    from textstat import textstat  # reads a dictionary of 4 MB

    rows = annotate(Readability(), texts).to_pylist()
    for text, row in zip(texts, rows, strict=True):
        assert row == oracle(text), repr(text[:200])
        assert row["eflaw"] == textstat.mcalpine_eflaw(text), repr(text[:200])


@pytest.fixture(scope="session")
def installed_texts() -> list[str]:
    """Docstrings and comments, code and licences: the first 8,000 characters of files that come with any Python."""
    folders = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    paths = sorted(
        path for folder in folders for end in ("py", "txt", "md", "rst") for path in folder.rglob(f"*.{end}")
    )
    newer = str.maketrans(dict.fromkeys(newer_characters(), " "))
    return [path.read_text("utf-8", errors="replace")[:8000].translate(newer) for path in paths[:4000]]


PIECES = (
    *("", " ", "\n", ".", "...", "?!", "a", "it", "the", "word", "e.g.", "don't", "--", "_", "a_b", "x.y.z", "3.14"),
    *("\x00", "\u00a0", "\u2028", "\x1c", "\u200b", "\ufeff", "\u3000", "é", "e\u0301", "½", "²", "ⅷ", "१२", "日本語"),
    *("。", "𝒳𝒴𝒵𝒲", "\U0001f600", "\ue000", "\ufffd", "\U0010ffff", "ـ", "क्षि", "ß", "“quoted”", "well-known"),
    *("one two", "one two three"),
)


@pytest.mark.slow
def test_classes_equal_re_for_all_of_unicode_14() -> None:
    differing = newer_characters()
    if unicodedata.unidata_version == UNICODE_VERSION:
        assert not differing
    # A newer Unicode version assigns characters; it does not make word characters or white space of Unicode 14 others.
    assert all(character_classes()[ord(character)] == OTHER for character in differing)
    assert np.bincount(character_classes()).tolist() == [980_532, 133_548, 29, 3]


def test_split_and_re_agree_on_white_space() -> None:
    spaces = np.flatnonzero(character_classes() == SPACE).tolist()
    assert all(f"a{chr(space)}b".split() == ["a", "b"] for space in spaces)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40), st.sampled_from(["", " "]))
@pytest.mark.slow
def test_equals_oracle_and_textstat(pieces: list[str], separator: str) -> None:
    text = separator.join(pieces)
    check(["".join(character for character in text if character not in newer_characters())])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab .!?'\n-é日𝒳\u00a0"), max_size=60), max_size=5))
def test_equals_oracle_and_textstat_on_small_alphabets(texts: list[str]) -> None:
    check(texts)


@pytest.mark.slow
def test_every_code_point_between_words() -> None:
    known = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000 and chr(p) not in newer_characters()]
    blocks = ["".join(known[start : start + 4096]) for start in range(0, len(known), 4096)]
    check([joint.join(block[::7]) for block in blocks for joint in ("ab cd efg", " ", "")])


def test_long_documents_do_not_overflow_the_fields() -> None:
    check(["a b c. " * 40_000, "x" * 200_000, "é" * 70_000, "a " * 100_000, ". " * 50_000])


@pytest.mark.slow
@pytest.mark.exhaustive
def test_real_text(installed_texts: list[str]) -> None:
    assert len(installed_texts) >= 3_000
    check(installed_texts)


def test_document_does_not_depend_on_its_neighbours() -> None:
    texts = ["one two thr", "ee. Four five six", "", "!", "seven"]
    together = annotate(Readability(), texts).to_pylist()
    assert together == [annotate(Readability(), [text]).to_pylist()[0] for text in texts]


def test_slices_of_a_batch() -> None:
    batch = TextBatch.of(["one. two", "three four five. six", "seven eight nine"])
    whole = readability_kernel.readability_counts(batch)
    assert (readability_kernel.readability_counts(batch.slice(1, 3)) == whole[1:]).all()


@pytest.mark.parametrize("tail", [b"\xf0", b"\xf4\xbf\xbf\xbf", b"\xff\xff", b"\xe2\x82", b"\xed\xa0\x80"])
def test_invalid_utf8_stays_inside_the_document(tail: bytes) -> None:
    data = np.frombuffer(b"one two three" + tail + b" four", np.uint8)
    batch = TextBatch(data, np.array([0, 13 + len(tail), len(data)], np.int64))
    counts = readability_kernel.readability_counts(batch)
    assert counts[1, readability_kernel.WORDS] == 1
    assert 3 <= counts[0, readability_kernel.WORDS] <= 4


def test_column_types_and_nulls() -> None:
    table = annotate(Readability(), ["one two", None, ""])
    assert {column.name: column.type for column in Readability().columns} == {
        field.name: {"double": "float64"}.get(str(field.type), str(field.type)) for field in table.schema
    }
    assert table.to_pylist()[1] == dict.fromkeys(table.column_names)
    assert table["ari"].to_pylist()[2] is None


def test_eflaw_of_strings_and_arrays() -> None:
    texts: Iterable[str | None] = ["The cat sat. The dog ran off.", None, ""]
    expected = [7.0, None, 0.0]
    array = pa.array(texts, pa.string())
    for given_texts in (list(texts), array, pa.chunked_array([array]), array.cast(pa.large_string())):
        assert eflaw(given_texts).to_pylist() == expected


def test_ari_rounds_to_textstats() -> None:
    from textstat import textstat

    text = Path(re.__file__).read_text(encoding="utf-8")
    row = annotate(Readability(), [text]).to_pylist()[0]
    assert abs(row["ari"] - textstat.automated_readability_index(text)) < 0.1
