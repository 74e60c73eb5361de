"""Both engines against the definition."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch, Tokens
from gneiss.dedup import duplicate_spans, find_spans
from gneiss.errors import InputError
from tests.dedup import oracle

ENGINES = ("anchors", "suffix-array")
POLICIES = ("protect", "union", "all")

few_letters = st.lists(st.text(alphabet="ab", max_size=40), max_size=6)
repetitive = st.lists(
    st.lists(st.sampled_from(["a", "ab", "abc", "aaaa", "€", "é", "xyzzy"]), max_size=12).map("".join), max_size=5
)
corpora = few_letters | repetitive


def rows_of(table: pa.Table) -> list[oracle.Row]:
    return list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("engine", ENGINES)
@given(texts=corpora, min_length=st.integers(1, 12))
@pytest.mark.slow
def test_bytes_as_defined(engine: str, policy: str, texts: list[str], min_length: int) -> None:
    spans = duplicate_spans(texts, min_length=min_length, engine=engine, policy=policy)
    assert rows_of(spans.table) == oracle.rows([text.encode() for text in texts], min_length, policy)


@dataclass(frozen=True)
class ByteRuns:
    """A toy tokenizer: a token is one to three bytes, as its first byte says, so some end inside a character."""

    def tokens(self, batch: TextBatch) -> Tokens:
        ids, starts, documents = [], [], [0]
        for text in batch.texts():
            data, position = text.encode(), 0
            while position < len(data):
                token = data[position : position + 1 + data[position] % 3]
                ids.append(int.from_bytes(token, "big"))
                starts.append(position)
                position += len(token)
            documents.append(len(ids))
        return Tokens(np.array(ids, np.int32), np.array(starts, np.int64), np.array(documents, np.int64))


def token_rows(texts: list[str], min_length: int, policy: str) -> list[oracle.Row]:
    batch = TextBatch.of(texts)
    tokens = ByteRuns().tokens(batch)
    bounds = tokens.documents
    documents = [tokens.ids[bounds[row] : bounds[row + 1]].tolist() for row in range(len(texts))]
    starts = [
        [*tokens.starts[bounds[row] : bounds[row + 1]].tolist(), len(text.encode())] for row, text in enumerate(texts)
    ]
    found = oracle.rows(documents, min_length, policy)
    return [
        (row, starts[row][start], starts[row][end], source, starts[source][at]) for row, start, end, source, at in found
    ]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("engine", ENGINES)
@given(texts=corpora, min_length=st.integers(1, 8))
@pytest.mark.slow
def test_tokens_as_defined(engine: str, policy: str, texts: list[str], min_length: int) -> None:
    spans = duplicate_spans(
        texts, min_length=min_length, unit="tokens", tokenizer=ByteRuns(), engine=engine, policy=policy
    )
    assert rows_of(spans.table) == token_rows(texts, min_length, policy)


@given(texts=st.lists(st.none() | st.text(alphabet="ab", max_size=20), max_size=8))
def test_nulls_have_no_windows_but_keep_their_row(texts: list[str | None]) -> None:
    spans = duplicate_spans(texts, min_length=3)
    as_empty = duplicate_spans([text or "" for text in texts], min_length=3)
    assert spans.table.equals(as_empty.table)
    assert [text is None for text in spans.cut(texts).to_pylist()] == [text is None for text in texts]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_arrow_arrays_slices_and_chunks(kind: pa.DataType) -> None:
    texts = ["abcdefgh", None, "xabcdefgh", "", "abcdefghy"]
    expected = duplicate_spans(texts, min_length=5).table
    array = pa.array(["abcdefgh", *texts], kind)[1:]
    assert duplicate_spans(array, min_length=5).table.equals(expected)
    chunked = pa.chunked_array([array[:2], array[2:2], array[2:]])
    assert duplicate_spans(chunked, min_length=5).table.equals(expected)
    assert duplicate_spans(chunked, min_length=5).cut(chunked).to_pylist() == ["abcdefgh", None, "x", "", "y"]


def test_a_batch_that_starts_inside_its_buffer() -> None:
    batch = TextBatch.of(["abcdefgh", "abcdefgh", "xabcdefgh"]).slice(1, 3)
    assert rows_of(find_spans(batch, min_length=5).table) == [(1, 1, 9, 0, 0)]


def test_no_documents() -> None:
    spans = duplicate_spans([])
    assert len(spans) == 0
    assert spans.cut([]).to_pylist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": "words"}, "unit: expected one of bytes, tokens, found 'words'"),
        ({"engine": "magic"}, "engine: expected one of"),
        ({"policy": "first"}, "policy: expected one of protect, union, all"),
        ({"min_length": 0}, "min_length: expected 1 or more, found 0"),
        ({"unit": "tokens"}, "tokenizer: the unit `tokens` needs one"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        duplicate_spans(["a"], **arguments)


@dataclass(frozen=True)
class Fixed:
    """A tokenizer that gives the same answer to everything."""

    answer: Tokens

    def tokens(self, batch: TextBatch) -> Tokens:
        return self.answer


@pytest.mark.parametrize(
    ("ids", "starts", "documents"),
    [
        ([1, 2], [0], [0, 2]),
        ([1, 2], [0, 1], [0, 1, 2]),
        ([1, 2], [0, 1], [0, 1]),
        ([1, 2], [1, 0], [0, 2]),
        ([1, 2], [-1, 0], [0, 2]),
        ([1, 2], [0, 4], [0, 2]),
    ],
)
def test_tokens_that_do_not_fit_are_refused(ids: list[int], starts: list[int], documents: list[int]) -> None:
    answer = Tokens(np.array(ids, np.int32), np.array(starts, np.int64), np.array(documents, np.int64))
    with pytest.raises(InputError, match="tokenizer"):
        duplicate_spans(["abc"], unit="tokens", tokenizer=Fixed(answer))
