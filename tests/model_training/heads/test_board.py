"""Who is next, who is waited for, and for how long, on a clock of the test's own."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.heads.board import CODED, Board, Overdue, Waiting


class Clock:
    """Stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def board(
    documents: tuple[int, ...] = (10, 10), heads: tuple[str, ...] = ("a", "b"), has_coded: bool = True
) -> tuple[Board, Clock]:
    clock = Clock()
    return Board(heads, has_coded, documents, Waiting(times=2, least_seconds=1), clock), clock


def score(made: Board, clock: Clock, lane: str, seconds: float) -> None:
    shard = made.next_of(lane)
    assert shard is not None
    clock.now += seconds
    made.answered(lane, shard)


def test_a_head_is_overdue_after_twice_the_usual_time_since_all_others_answered() -> None:
    made, clock = board()
    for lane in ("a", CODED):
        score(made, clock, lane, 4.0)
        assert made.overdue() == []
    assert made.seconds_to_wait(60) == 8
    clock.now += 7.9
    assert made.overdue() == []
    clock.now += 0.1
    assert made.overdue() == [Overdue(0, "b")]
    assert made.overdue() == []  # said once
    assert made.unsettled() == [0, 1]
    made.answered("b", 0)
    assert made.unsettled() == [1]


def test_larger_shards_are_waited_for_longer_and_small_ones_for_a_while() -> None:
    made, clock = board((10, 1000, 1))
    for lane in ("a", CODED):
        score(made, clock, lane, 1.0)
        score(made, clock, lane, 100.0)
        score(made, clock, lane, 0.1)
    made.answered("b", 0)
    start = clock.now
    found = {}
    while len(found) < 2:
        clock.now += 0.5
        found |= {overdue.shard: clock.now - start for overdue in made.overdue()}
    assert found == {2: 1.0, 1: pytest.approx(199.5, abs=1)}


def test_one_that_is_gone_is_not_waited_for() -> None:
    made, clock = board()
    score(made, clock, "a", 4.0)
    score(made, clock, CODED, 4.0)
    made.gone("b")
    assert made.seconds_to_wait(60) == 0
    assert made.overdue() == [Overdue(0, "b")]


def test_without_a_coded_head_or_two_others_nobody_is_overdue() -> None:
    made, clock = board(has_coded=False)
    score(made, clock, "a", 1.0)
    three, other = board(heads=("a", "b", "c"))
    score(three, other, "a", 1.0)
    score(three, other, CODED, 1.0)
    clock.now = other.now = 1e9
    assert made.overdue() == three.overdue() == []
    assert made.seconds_to_wait(60) == 60


def test_a_settled_shard_is_nobodys_next() -> None:
    made, clock = board()
    score(made, clock, "a", 1.0)
    score(made, clock, "b", 1.0)
    assert made.next_of(CODED) == 1
    made.settle(1)
    assert made.is_done
    assert made.next_of("a") is None


@given(st.integers(0, 10_000), st.booleans())
def test_in_any_order_all_shards_are_settled_and_none_is_overdue_that_is_whole(seed: int, has_coded: bool) -> None:
    draw = random.Random(seed)
    made, clock = board(tuple(draw.randint(0, 50) for _ in range(4)), ("a", "b", "c"), has_coded)
    at: dict[str, int] = {}
    told: set[tuple[int, str]] = set()
    answered: set[tuple[str, int]] = set()
    for _ in range(400):
        clock.now += draw.uniform(0, 3)
        lane = draw.choice(made.lanes)
        if lane in at:
            shard = at.pop(lane)
            made.answered(lane, shard)
            answered.add((lane, shard))
        elif (following := made.next_of(lane)) is not None:
            at[lane] = following
        for overdue in made.overdue():
            assert (CODED, overdue.shard) in answered
            assert (overdue.head, overdue.shard) not in answered
            assert (overdue.shard, overdue.head) not in told
            told.add((overdue.shard, overdue.head))
    assert made.is_done
    assert has_coded or not told
