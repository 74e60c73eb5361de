"""Cutting: boundaries, untouched text, nothing split."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.dedup import Spans, duplicate_spans
from gneiss.errors import InputError
from tests.dedup import oracle

PARTS = ["a", "of", "the", ". ", "?” ", "。", "。」", " ", "\n", "\u3000", "\u2028", "\xa0", "é", "€", "😀"]
words = st.lists(st.sampled_from(PARTS), max_size=25)
texts_of_words = st.lists(words.map("".join), max_size=5)


def is_boundary(data: bytes, position: int, boundary: str) -> bool:
    try:
        before, after = data[:position].decode(), data[position:].decode()
    except UnicodeDecodeError:
        return False
    if not before or not after:
        return True
    if boundary == "word":
        return before[-1].isspace() or after[0].isspace()
    if boundary == "sentence":
        unspaced = re.sub(r"\s{1,4}\Z", "", before)
        ends_with = "[。！？｡]" if unspaced == before else "[.!?…。！？｡]"
        ended = re.search(ends_with + r"[\"')\]}»’”›」』】）〕》]{0,4}\Z", unspaced)
        opens = not after[0].isspace() and after[0] not in "\"')]}»’”›」』】）〕》。！？｡"
        return before[-1] == "\n" or bool(ended and opens)
    return boundary == "char" or before[-1] == "\n"


def shrunk(texts: list[str], min_length: int, policy: str, boundary: str) -> list[oracle.Row]:
    """The oracle's spans, each cut shrunk by the definition."""
    spans = oracle.rows([text.encode() for text in texts], min_length, policy)
    cuts: list[list[int]] = []
    for document, start, end, _, _ in spans:
        if cuts and cuts[-1][0] == document and cuts[-1][2] == start:
            cuts[-1][2] = end
        else:
            cuts.append([document, start, end])
    kept = []
    for document, start, end in cuts:
        places = [p for p in range(start, end + 1) if is_boundary(texts[document].encode(), p, boundary)]
        for row, span_start, span_end, source, source_start in spans:
            if places and row == document and start <= span_start < end:
                new_start, new_end = max(span_start, places[0]), min(span_end, places[-1])
                if new_start < new_end:
                    kept.append((row, new_start, new_end, source, source_start + new_start - span_start))
    return kept


@pytest.mark.parametrize("boundary", ["char", "word", "line", "sentence"])
@given(texts=texts_of_words, min_length=st.integers(1, 9), policy=st.sampled_from(["protect", "union", "all"]))
@pytest.mark.slow
def test_shrink_and_cut(boundary: str, texts: list[str], min_length: int, policy: str) -> None:
    spans = duplicate_spans(texts, min_length=min_length, policy=policy)
    expected = shrunk(texts, min_length, policy, boundary)
    table = spans.shrink(texts, boundary).table
    assert list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True)) == expected
    left = [text.encode() for text in texts]
    for row, start, end, _, _ in reversed(expected):
        left[row] = left[row][:start] + left[row][end:]
    cut = spans.cut(texts, boundary)
    cut.validate(full=True)  # valid UTF-8
    assert cut.cast(pa.large_binary()).to_pylist() == left


@given(texts=texts_of_words, min_length=st.integers(2, 12))
def test_protect_leaves_a_copy_of_every_repeated_window(texts: list[str], min_length: int) -> None:
    kept = {unit for row, text in enumerate(texts) for unit in ((row, p) for p in range(len(text.encode())))}
    documents = [text.encode() for text in texts]
    kept -= set(oracle.cut_units(documents, min_length, "protect"))
    for where in oracle.windows(documents, min_length).values():
        document, start = where[0]
        if len(where) > 1:
            assert all((document, start + k) in kept for k in range(min_length))


def test_unknown_boundary() -> None:
    with pytest.raises(InputError, match="boundary: expected one of char, word, line, sentence, found 'page'"):
        duplicate_spans(["a"]).cut(["a"], "page")


@pytest.mark.parametrize("texts", [["abcdef"], ["abcdef", None], ["abcdef", "abc"], ["", "ab"], []])
def test_spans_of_other_texts_are_refused(texts: list[str]) -> None:
    spans = duplicate_spans(["abcdef", "abcdef"], min_length=4)
    with pytest.raises(InputError, match="not the texts"):
        spans.cut(texts)


@pytest.mark.parametrize(
    "row", [(0, -1, 2, 0, 0), (0, 2, 1, 0, 0), (0, 0, 9, 0, 0), (5, 0, 1, 0, 0), (-1, 0, 1, 0, 0), (0, 0, 1, 7, 0)]
)
def test_hostile_spans_are_refused(row: oracle.Row) -> None:
    names = ("document", "start", "end", "source_document", "source_start")
    spans = Spans(pa.table({name: pa.array([value], pa.int64()) for name, value in zip(names, row, strict=True)}))
    with pytest.raises(InputError, match="not the texts"):
        spans.cut(["abcdef"])


def test_overlapping_spans_are_refused() -> None:
    rows = {"document": [0, 0], "start": [0, 2], "end": [3, 4], "source_document": [0, 0], "source_start": [0, 0]}
    with pytest.raises(InputError, match="not the texts"):
        Spans(pa.table(rows)).cut(["abcdef"])


def test_white_space_is_that_of_str_split() -> None:
    codes = [code for code in (*range(0x3100), *range(0xFE00, 0xFF00), *range(0x1F600, 0x1F610))
             if not 0xD800 <= code < 0xE000]  # fmt: skip
    # a cut over "ab" in "x<c>ab" may begin there by `word` only if <c> is white space
    texts = [f"x{chr(code)}ab" for code in codes]
    rows = np.arange(len(texts))
    ends = np.array([len(text.encode()) for text in texts])
    left = Spans.of_arrays(rows, ends - 2, ends, rows, ends - 2).shrink(texts, "word").table["document"].to_pylist()
    assert [codes[row] for row in left] == [code for code in codes if chr(code).isspace()]


@pytest.mark.parametrize(
    ("text", "borders"),
    [
        ("One. Two!  Three?", ["One. ", "Two!  ", "Three?"]),
        ('He said "no." She left.', ['He said "no." ', "She left."]),
        ("Version 3.5 is out", ["Version 3.5 is out"]),
        ("一つ。二つ！」三つ", ["一つ。", "二つ！」", "三つ"]),
        ("ประโยคหนึ่ง ประโยคสอง\nบรรทัด", ["ประโยคหนึ่ง ประโยคสอง\n", "บรรทัด"]),
        ("Wait... what? Yes", ["Wait... ", "what? ", "Yes"]),
    ],
)
def test_sentences_are_cut_whole(text: str, borders: list[str]) -> None:
    """What repeats from the second byte to the last but one loses its whole sentences."""
    data = text.encode()
    pieces, at = [], 0
    for end in range(1, len(data) + 1):
        if is_boundary(data, end, "sentence"):
            pieces.append(data[at:end].decode())
            at = end
    assert pieces == borders
    spans = Spans.of_arrays(*(np.array([value]) for value in (0, 1, len(data) - 1, 0, 1)))
    whole = borders[1:-1]
    assert spans.cut([text], "sentence").to_pylist() == [text.replace("".join(whole), "", 1) if whole else text]
