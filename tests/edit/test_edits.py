"""Edits: against slicing Python bytes; malformed ones are refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.edit import Edits
from gneiss.edit import edits as edits_module

Cut = tuple[int, int, int]


def edits_of(cuts: list[Cut]) -> Edits:
    document, start, end = np.array(cuts, np.int64).reshape(-1, 3).T
    return Edits(document, start, end)


def applied_slowly(texts: list[str], cuts: list[Cut]) -> list[bytes]:
    left = [bytearray(text.encode()) for text in texts]
    for document, start, end in reversed(cuts):
        del left[document][start:end]
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
    inside = [(document - first, start, end) for document, start, end in cuts if document >= first]
    edited = edits_of(inside).apply(TextBatch.of(texts).slice(first, len(texts)))
    parts = [edited.data[a:b].tobytes() for a, b in zip(edited.offsets[:-1], edited.offsets[1:], strict=True)]
    assert parts == applied_slowly(texts[first:], inside)


@given(texts_with_cuts(), st.sampled_from([0, 3, edits_module._FEW]))
def test_many_edits_and_few_are_applied_alike(drawn: tuple[list[str], list[Cut]], few: int) -> None:
    texts, cuts = drawn
    inserted = TextBatch.of([f"<{number}>" * (number % 3) for number in range(len(cuts))])
    edits = replace(edits_of(cuts), replacement=inserted)
    with mock.patch.object(edits_module, "_FEW", few):
        edited = edits.apply(TextBatch.of(["before", *texts]).slice(1, len(texts) + 1))
    raw = [text.encode() for text in texts]
    for (document, start, end), text in reversed(list(zip(cuts, inserted.texts(), strict=True))):
        raw[document] = raw[document][:start] + text.encode() + raw[document][end:]
    assert [edited.data[a:b].tobytes() for a, b in pairwise(edited.offsets)] == raw


@given(texts_with_cuts())
def test_removed_bytes_are_what_each_document_loses(drawn: tuple[list[str], list[Cut]]) -> None:
    texts, cuts = drawn
    left = applied_slowly(texts, cuts)
    lost = [len(text.encode()) - len(rest) for text, rest in zip(texts, left, strict=True)]
    assert edits_of(cuts).removed_bytes(len(texts)).tolist() == lost


Replacement = tuple[int, int, int, str]


@st.composite
def texts_with_replacements(draw: st.DrawFn) -> tuple[list[str], list[Replacement], list[Replacement]]:
    """Texts, and two lists of edits that each remove something."""
    texts = draw(st.lists(st.text(alphabet="abcdefgh", max_size=12), min_size=1, max_size=4))
    both: list[list[Replacement]] = []
    for _ in range(2):
        edits: list[Replacement] = []
        for document, text in enumerate(texts):
            bounds = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
            pairs = [pair for pair in zip(bounds[::2], bounds[1::2], strict=False) if pair[0] < pair[1]]
            edits.extend((document, *pair, draw(st.sampled_from(["", "é", "<x>"]))) for pair in pairs)
        both.append(edits)
    return texts, both[0], both[1]


def replacing(edits: list[Replacement]) -> Edits:
    document, start, end = np.array([edit[:3] for edit in edits], np.int64).reshape(-1, 3).T
    return Edits(document, start, end, TextBatch.of([edit[3] for edit in edits]))


def replaced_slowly(texts: list[str], *lists: list[Replacement]) -> list[str]:
    """Each character belongs to the first edit that has it; an edit's text stands where its first character was."""
    out = []
    for document, text in enumerate(texts):
        edits = [edit for edits in lists for edit in edits if edit[0] == document]
        owner: list[int | None] = [None] * len(text)
        for number, (_, start, end, _) in enumerate(edits):
            for at in range(start, end):
                owner[at] = number if owner[at] is None else owner[at]
        written, said = "", set[int]()
        for character, number in zip(text, owner, strict=True):
            if number is None:
                written += character
            elif number not in said:
                said.add(number)
                written += edits[number][3]
        out.append(written)
    return out


@given(texts_with_replacements())
def test_replacements_stand_where_what_they_replace_stood(
    drawn: tuple[list[str], list[Replacement], list[Replacement]],
) -> None:
    texts, edits, _ = drawn
    assert replacing(edits).apply(TextBatch.of(texts)).texts() == replaced_slowly(texts, edits)


@given(texts_with_replacements())
def test_two_lists_of_edits_at_once_are_disjoint_and_the_first_goes_first(
    drawn: tuple[list[str], list[Replacement], list[Replacement]],
) -> None:
    texts, first, second = drawn
    together = replacing(first).then(replacing(second)).apply(TextBatch.of(texts)).texts()
    assert together == replaced_slowly(texts, first, second)
    cuts_first = edits_of([edit[:3] for edit in first])
    alone = cuts_first.then(replacing(second)).apply(TextBatch.of(texts)).texts()
    assert alone == replaced_slowly(texts, [(*edit[:3], "") for edit in first], second)


@given(texts_with_replacements(), st.integers(1, 3))
def test_edits_of_parts_of_a_batch_are_the_edits_of_the_batch(
    drawn: tuple[list[str], list[Replacement], list[Replacement]], at: int
) -> None:
    texts, edits, _ = drawn
    parts = [[edit for edit in edits if edit[0] < at], [(edit[0] - at, *edit[1:]) for edit in edits if edit[0] >= at]]
    whole = Edits.concatenated([replacing(parts[0]), replacing(parts[1]).shifted(at)])
    assert whole.apply(TextBatch.of(texts)).texts() == replaced_slowly(texts, edits)


def test_edits_that_remove_nothing_cannot_be_combined() -> None:
    with pytest.raises(ValueError, match="remove nothing"):
        edits_of([(0, 1, 1)]).then(edits_of([(0, 0, 2)]))


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
