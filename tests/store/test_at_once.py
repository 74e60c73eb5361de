"""Several at once, in order, and no further than needed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.store.at_once import at_once, meanwhile


@given(st.lists(st.integers()), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(items: list[int], most: int) -> None:
    assert list(at_once(lambda item: 2 * item, items, most)) == [2 * item for item in items]


def test_several_wait_at_once() -> None:
    together = threading.Barrier(4)
    assert len(list(at_once(lambda _: together.wait(60), range(4), 4))) == 4


def test_what_fails_is_raised_in_its_turn_and_ends_the_rest() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return 1 // (item != 3)

    found = at_once(work, range(1000), 2)
    assert [next(found) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert len(begun) < 20


def test_meanwhile_the_block_goes_on_and_it_ends_when_the_call_has() -> None:
    goes_on, ended = threading.Event(), list[str]()

    def call() -> int:
        assert goes_on.wait(60)
        ended.append("the call")
        return 7

    with meanwhile(call) as result:
        goes_on.set()
        assert result() == 7
    with pytest.raises(KeyError), meanwhile(call):
        raise KeyError
    assert len(ended) == 2


def test_what_fails_meanwhile_is_raised_where_its_result_is_asked_for() -> None:
    with meanwhile(lambda: 1 // 0) as result, pytest.raises(ZeroDivisionError):
        result()
