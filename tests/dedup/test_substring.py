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
from gneiss.dedup.cuts import Cuts
from gneiss.dedup.gaps import filled
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
@given(texts=corpora, min_length=st.integers(1, 12), share=st.sampled_from([1.0, 0.95, 0.7, 0.3, 0.01]))
@pytest.mark.slow
def test_bytes_as_defined(engine: str, policy: str, texts: list[str], min_length: int, share: float) -> None:
    spans = duplicate_spans(texts, min_length=min_length, engine=engine, policy=policy, fill_gaps=share)
    assert rows_of(spans.table) == oracle.rows([text.encode() for text in texts], min_length, policy, share)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("engine", ENGINES)
@given(
    texts=corpora,
    min_length=st.integers(1, 8),
    share=st.sampled_from([1.0, 0.7]),
    values=st.lists(st.sampled_from([None, float("nan"), -1, 0, 2.5]), min_size=6),
)
@pytest.mark.slow
def test_first_by_is_the_definition_in_that_order(
    engine: str, policy: str, texts: list[str], min_length: int, share: float, values: list[float | None]
) -> None:
    def missing(document: int) -> bool:
        value = values[document]
        return value is None or value != value

    first_by = values[: len(texts)]
    order = sorted(
        range(len(texts)),
        key=lambda document: (missing(document), 0 if missing(document) else -(values[document] or 0)),
    )
    spans = duplicate_spans(
        texts, min_length=min_length, engine=engine, policy=policy, fill_gaps=share, first_by=first_by
    )
    documents = [text.encode() for text in texts]
    assert rows_of(spans.table) == oracle.rows(documents, min_length, policy, share, order)


def test_first_by_beside_nulls() -> None:
    texts = ["abcdefgh", None, "xabcdefgh"]
    assert duplicate_spans(texts, min_length=5, first_by=[1, 9, 2]).cut(texts).to_pylist() == ["", None, "xabcdefgh"]
    assert duplicate_spans(texts, min_length=5, first_by=pa.array([True, None, True])).cut(texts).to_pylist()[2] == "x"


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
        ({"first_by": [1.0, 2.0]}, "first_by: expected one for each of 1 texts, found 2"),
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


@pytest.mark.parametrize(
    ("stretches", "share", "expected"),
    [
        ([(0, 9), (10, 20)], 0.95, [(0, 20)]),  # the example of OLMo 3's interval filter
        ([(0, 9), (10, 20)], 0.96, [(0, 9), (10, 20)]),
        ([(0, 95), (100, 200)], 0.975, [(0, 200)]),  # 195 of 200, just enough
        ([(0, 5), (10, 100), (101, 200)], 0.95, [(0, 200)]),  # only from the end: 194 of 200
        ([(0, 100), (101, 190), (195, 200)], 0.95, [(0, 200)]),  # only from the start
        ([(0, 60), (100, 110), (111, 300)], 0.95, [(0, 60), (100, 300)]),
        ([(0, 10), (50, 60)], 0.95, [(0, 10), (50, 60)]),
        ([(3, 10)], 0.5, [(3, 10)]),
    ],
)
def test_gaps_are_filled_as_olmo_3_does(
    stretches: list[tuple[int, int]], share: float, expected: list[tuple[int, int]]
) -> None:
    start, end = (np.array(column, np.int64) for column in zip(*stretches, strict=True))
    other = np.zeros(len(start), np.int64)
    nothing = np.empty(0, np.int64)
    found = filled(Cuts(other + 1, start, end, other, start), np.array([0, 300, 600]), (nothing, nothing), share)
    ends = np.append(np.flatnonzero(found.start[1:] != found.end[:-1]), len(found.start) - 1)
    opens = np.append(0, ends[:-1] + 1)
    assert list(zip(found.start[opens].tolist(), found.end[ends].tolist(), strict=True)) == expected
    assert (found.document == 1).all()


def test_a_gap_with_a_first_copy_is_not_filled() -> None:
    """Of three passages the middle one is a first copy: `protect` keeps it, `union` does not know of it."""
    one, two, middle = "abcdefghij" * 4, "ABCDEFGHIJ" * 4, "0123"
    texts = [one, two, one + middle + two, "." + middle + "."]
    kept = duplicate_spans(texts, min_length=4, fill_gaps=0.9).cut(texts).to_pylist()
    assert middle in kept[2]
    assert duplicate_spans(texts, min_length=4, fill_gaps=0.9, policy="union").cut(texts).to_pylist()[2] == ""


def test_a_share_is_above_zero_and_at_most_one() -> None:
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="fill_gaps: expected a share above 0"):
            duplicate_spans(["abc"], fill_gaps=share)
