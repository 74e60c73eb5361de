"""Normalization of texts for duplicate documents, against the oracle."""

from __future__ import annotations

import string
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import SPACE_RANGES, TextBatch
from gneiss.dedup.minhash.normalization import NORMALIZATIONS, normalized
from gneiss.dedup.minhash.normalization_kernel import normalize_texts, tables
from gneiss.errors import InputError
from tests.dedup.minhash import oracle

telling = st.sampled_from([*" \t\n\r\x0b\x1c\x85\xa0\u2003\u2028\u3000", *"aZz019éÉßİ", *"-.,!_'’“”—…", "\0", "\x7f"])
others = st.sampled_from(
    ["\u0301", "\u200b", "\ufeff", "中", "。", "！", "Ａ", "٣", "\U0001f600", "\U000e0001", "\ufffd"]
)
sentences = st.text("abYZ  .", max_size=60)  # long enough to be read eight bytes at a time
texts = st.text(max_size=30) | sentences | st.lists(telling | others, max_size=40).map("".join)
HOSTILE = ["", " ", "\n\t\u3000 ", "\0", "\0\0a\0", "\u0301", "\u0301\u0301 \u0301", "...", "x" * 100_000,
           "1" * 100_000, "1 2 3", "1,000.5", "1-\u2003-2", " a", "a ", "-a- -", "\U0010ffff", "é" * 1000,
           "- " * 1000]  # fmt: skip


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@given(st.lists(texts, max_size=6))
def test_as_the_oracle(normalize: str, documents: list[str]) -> None:
    found = normalized(TextBatch.of(documents), normalize).texts()
    assert found == [oracle.normalized(text, normalize) for text in documents]


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_hostile_texts(normalize: str) -> None:
    found = normalized(TextBatch.of(HOSTILE), normalize).texts()
    assert found == [oracle.normalized(text, normalize) for text in HOSTILE]


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@given(st.lists(texts, min_size=3, max_size=6), st.data())
def test_slices_and_documents_that_are_not_present(normalize: str, documents: list[str], data: st.DataObject) -> None:
    present = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))))
    found = normalized(TextBatch.of(documents).slice(1, len(documents)), normalize, present[1:]).texts()
    expected = [
        oracle.normalized(text, normalize) if here else "" for text, here in zip(documents, present, strict=True)
    ]
    assert found == expected[1:]


@given(texts)
def test_twice_is_once(text: str) -> None:
    once = normalized(TextBatch.of([text]), "words")
    assert normalized(once, "words").texts() == once.texts()


octets = st.binary(max_size=30) | st.lists(
    st.sampled_from([b"Aa", b" ", b"z9", b"\xe2\x80", b"\xf0"]), max_size=30
).map(b"".join)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@given(st.lists(octets, min_size=1, max_size=4), st.binary(min_size=8, max_size=8))
@pytest.mark.slow
def test_what_is_not_utf8_stays_within_bounds(normalize: Any, documents: list[bytes], around: bytes) -> None:
    """Nothing depends on the bytes before and after the documents, and nothing is written beyond them."""
    present = np.ones(len(documents), np.bool_)
    results = []
    for surroundings in (around, b"        "):
        data = np.frombuffer(surroundings + b"".join(documents) + surroundings, np.uint8)
        offsets = 8 + np.cumsum([0, *map(len, documents)])
        room = np.full(len(data), 7, np.uint8)
        out, out_offsets = room[8:-8], np.zeros(len(offsets), np.int64)
        normalize_texts(data, offsets, present, *tables(words=normalize == "words"), out, out_offsets)
        assert (room[:8] == 7).all()
        assert (room[-8:] == 7).all()
        assert (np.diff(out_offsets) >= 0).all()
        results.append((out_offsets.tolist(), out[: out_offsets[-1]].tolist()))
    assert results[0] == results[1]


def test_white_space_is_that_of_split() -> None:
    spaces = {chr(code) for item in SPACE_RANGES.split() for code in _range(item)}
    assert spaces == {chr(code) for code in range(0x110000) if not chr(code).split()}


def test_only_punctuation_signs_and_controls_are_removed() -> None:
    assert set(string.punctuation) <= oracle.REMOVED
    kept = {character for character in oracle.REMOVED if unicodedata.category(character)[0] in "LMNZ"}
    assert kept == set()


def test_another_normalization_is_refused() -> None:
    with pytest.raises(InputError, match="normalize: expected one of spaces, words, found 'nfc'"):
        normalized(TextBatch.of(["a"]), "nfc")  # type: ignore[arg-type]


def _range(item: str) -> range:
    first, _, last = item.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1)
