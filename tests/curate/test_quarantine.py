"""Isolation: what is computed of a batch in which some documents fail, or have killed a worker before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.curate.quarantine import FEWEST_OF_A_DEFECT, Unwatched, Watched, isolated
from gneiss.errors import DefectError, ModelError

FEW = FEWEST_OF_A_DEFECT - 1


class PoisonError(Exception):
    """What a poison document raises."""


@dataclass
class Lengths:
    """Computes the lengths of texts; `x` is poison. calls: what it was given."""

    calls: list[list[str]] = field(default_factory=list)
    error: type[Exception] = PoisonError

    def __call__(self, batch: TextBatch) -> list[int]:
        texts = batch.texts()
        self.calls.append(texts)
        if any("x" in text for text in texts):
            raise self.error(f"cannot read {texts}")
        return [len(text) for text in texts]


@dataclass
class Notes(Unwatched):
    """A watch; its notes: what began and ended."""

    suspected: range = range(0)
    guilty: Mapping[int, str] = field(default_factory=dict)
    notes: list[tuple[int, int] | None] = field(default_factory=list)

    def begin(self, work: str, first: int, last: int, size_bytes: int) -> None:
        assert work == "lengths of a"
        self.notes.append((first, last))

    def end(self) -> None:
        self.notes.append(None)

    def suspects(self, work: str, first: int, last: int) -> bool:
        return bool({*self.suspected} & {*range(first, last + 1)})

    def blamed(self, work: str) -> Mapping[int, str]:
        return self.guilty


def values(results: list[tuple[int, list[int] | None]]) -> list[int | None]:
    """The results by document."""
    found: list[int | None] = []
    for size, result in results:
        assert result is None or len(result) == size
        found += [None] * size if result is None else result
    return found


@given(st.lists(st.sampled_from(["", "a", "bb", "ccc", "x"]), max_size=FEW))
def test_each_document_costs_itself(texts: list[str]) -> None:
    lengths, watch = Lengths(), Notes()
    results, failures = isolated(TextBatch.of(texts), Watched("lengths", "lengths of a", watch), lengths)
    assert values(results) == [None if text == "x" else len(text) for text in texts]
    assert failures == {n: "lengths failed: PoisonError" for n, text in enumerate(texts) if text == "x"}
    poison = len(failures)
    assert len(lengths.calls) <= 1 + 2 * poison * max(len(texts) - 1, 1).bit_length()
    assert watch.notes[1::2] == [None] * (len(watch.notes) // 2), "each beginning has its end"


@given(st.lists(st.sampled_from("abx"), min_size=1, max_size=FEW), st.data())
def test_the_guilty_are_left_out_and_the_suspected_computed_one_by_one(texts: list[str], data: st.DataObject) -> None:
    rows = np.cumsum([data.draw(st.integers(1, 3)) for _ in texts])
    guilty = data.draw(st.sets(st.sampled_from(rows.tolist())))
    suspected = data.draw(st.sampled_from([range(0), range(4, 9)]))
    lengths, watch = Lengths(), Notes(suspected, dict.fromkeys(guilty, "killed its worker"))
    results, failures = isolated(TextBatch.of(texts), Watched("lengths", "lengths of a", watch), lengths, rows)
    reasons = {
        n: "lengths killed its worker" if row in guilty else "lengths failed: PoisonError"
        for n, (row, text) in enumerate(zip(rows.tolist(), texts, strict=True))
        if row in guilty or text == "x"
    }
    assert failures == reasons
    assert values(results) == [None if n in reasons else 1 for n in range(len(texts))]
    begun = [note for note in watch.notes if note]
    assert not {row for first, last in begun for row in rows.tolist() if first <= row <= last} & guilty
    if {*range(rows[0], rows[-1] + 1)} & {*suspected}:
        assert all(first == last for first, last in begun)


def test_a_batch_of_which_nothing_fails_is_computed_once_and_shares_its_views() -> None:
    batch = TextBatch.of(["a", "b"])
    results, failures = isolated(batch, Watched("it"), lambda part: part is batch)
    assert (results, failures) == ([(2, True)], {})


def test_where_all_of_many_fail_it_is_for_what_computes() -> None:
    batch = TextBatch.of(["x"] * FEWEST_OF_A_DEFECT)
    with pytest.raises(DefectError, match=f"lengths failed on each of {len(batch)} documents: PoisonError") as caught:
        isolated(batch, Watched("lengths"), Lengths())
    assert "raise self.error(" in caught.value.traceback
    few = batch.slice(0, FEW)
    assert isolated(few, Watched("lengths"), Lengths())[1] == dict.fromkeys(range(FEW), "lengths failed: PoisonError")


def test_errors_of_the_run_pass() -> None:
    with pytest.raises(ModelError):
        isolated(TextBatch.of(["x"]), Watched("lengths"), Lengths(error=ModelError))


def test_who_lacks_memory_by_itself_tries_again_before_it_fails() -> None:
    lengths = Lengths(error=MemoryError)
    assert isolated(TextBatch.of(["a", "x"]), Watched("lengths"), lengths)[1] == {1: "lengths failed: MemoryError"}
    assert lengths.calls == [["a", "x"], ["a"], ["x"], ["x"], ["x"]]
    with pytest.raises(MemoryError):  # of each document: the machine lacks it
        isolated(TextBatch.of(["x", "x"]), Watched("lengths"), lengths)


def test_a_failure_is_logged_once_a_kind_with_what_it_said(caplog: pytest.LogCaptureFixture) -> None:
    isolated(TextBatch.of(["x", "a", "xx"]), Watched("lengths"), Lengths())
    (record,) = (logged for logged in caplog.records if logged.levelno == logging.ERROR)
    assert record.getMessage() == "lengths failed: PoisonError: cannot read ['x']"
    assert record.exc_info
