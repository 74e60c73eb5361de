"""Edits: against slicing Python bytes; malformed ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.edit import Edits

Cut = tuple[int, int, int]


def edits_of(cuts: list[Cut]) -> Edits:
    document, start, stop = np.array(cuts, np.int64).reshape(-1, 3).T
    return Edits(document, start, stop)


def applied_slowly(texts: list[str], cuts: list[Cut]) -> list[bytes]:
    left = [bytearray(text.encode()) for text in texts]
    for document, start, stop in reversed(cuts):
        del left[document][start:stop]
    return [bytes(text) for text in left]


@st.composite
def texts_with_cuts(draw: st.DrawFn) -> tuple[list[str], list[Cut]]:
    texts = draw(st.lists(st.text(alphabet="ab€é", max_size=10), max_size=6))
    cuts: list[Cut] = []
    for document, text in enumerate(texts):
        bounds = sorted(draw(st.lists(st.integers(0, len(text.encode())), max_size=6)))
        cuts.extend((document, *pair) for pair in zip(bounds[::2], bounds[1::2], strict=False))
    return texts, cuts


@given(texts_with_cuts())
def test_edits_leave_out_their_bytes_and_nothing_else(drawn: tuple[list[str], list[Cut]]) -> None:
    texts, cuts = drawn
    edited = edits_of(cuts).apply(TextBatch.of(texts))
    parts = [edited.data[a:b].tobytes() for a, b in zip(edited.offsets[:-1], edited.offsets[1:], strict=True)]
    assert parts == applied_slowly(texts, cuts)


@given(texts_with_cuts(), st.data())
def test_edits_of_a_slice_of_a_batch_count_from_its_own_documents(
    drawn: tuple[list[str], list[Cut]], data: st.DataObject
) -> None:
    texts, cuts = drawn
    first = data.draw(st.integers(0, len(texts)))
    inside = [(document - first, start, stop) for document, start, stop in cuts if document >= first]
    edited = edits_of(inside).apply(TextBatch.of(texts).slice(first, len(texts)))
    parts = [edited.data[a:b].tobytes() for a, b in zip(edited.offsets[:-1], edited.offsets[1:], strict=True)]
    assert parts == applied_slowly(texts[first:], inside)


@given(texts_with_cuts())
def test_removed_bytes_are_what_each_document_loses(drawn: tuple[list[str], list[Cut]]) -> None:
    texts, cuts = drawn
    left = applied_slowly(texts, cuts)
    lost = [len(text.encode()) - len(rest) for text, rest in zip(texts, left, strict=True)]
    assert edits_of(cuts).removed_bytes(len(texts)).tolist() == lost


def test_without_edits_the_batch_itself_comes_back() -> None:
    batch = TextBatch.of(["a", "b"])
    assert Edits.none().apply(batch) is batch
    assert Edits.none().removed_bytes(2).tolist() == [0, 0]


@pytest.mark.parametrize(
    "cuts",
    [
        [(1, 0, 2), (0, 0, 2)],  # documents out of order
        [(0, 3, 4), (0, 0, 2)],  # starts out of order
        [(0, 0, 3), (0, 2, 4)],  # overlapping
        [(0, 2, 1)],  # ends before it starts
        [(0, -1, 2)],
        [(0, 0, 5)],  # beyond the end of the document
        [(2, 0, 1)],  # no such document
        [(-1, 0, 1)],
    ],
)
def test_malformed_edits_are_refused(cuts: list[Cut]) -> None:
    with pytest.raises(ValueError, match="sorted, disjoint, and lie inside"):
        edits_of(cuts).apply(TextBatch.of(["abcd", "abcd"]))


def test_edits_that_touch_and_empty_edits_are_well_formed() -> None:
    assert edits_of([(0, 0, 2), (0, 2, 2), (0, 2, 3), (1, 4, 4)]).apply(TextBatch.of(["abcd", "abcd"])).texts() == [
        "d",
        "abcd",
    ]
