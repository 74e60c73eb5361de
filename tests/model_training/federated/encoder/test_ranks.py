"""Budgets against a table by hand, importance against plain Python, and votes; what AdaLoRA's code gets wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gneiss.errors import InputError
from gneiss.model_training.federated.encoder.ranks import Budget, Importance, arbitrated, most_important

numbers = st.floats(-1e3, 1e3)
few_numbers = st.sampled_from([0.0, 1.0, 2.0])


def test_a_budget_is_the_table_by_hand() -> None:
    """6 matrices of rank 8, to 3 each, in 30 rounds: (1 − k/18)³ of the 30 ranks that go."""
    budget = Budget.of(48, 18, 30)
    assert (budget.warm_up, budget.settled) == (3, 9)
    assert [budget.ranks(round_) for round_ in (0, 2, 3, 4, 9, 12, 20, 21, 29)] == [48, 48, 48, 43, 26, 21, 18, 18, 18]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 50))
def test_a_budget_falls_from_the_first_to_the_last(first: int, last: int, rounds: int) -> None:
    first, last = max(first, last), min(first, last)
    ranks = [Budget.of(first, last, rounds).ranks(round_) for round_ in range(rounds)]
    assert ranks == sorted(ranks, reverse=True)
    assert set(ranks) <= set(range(last, first + 1))
    if rounds >= 4:  # three tenths of fewer rounds are none
        assert ranks[-1] == last


def test_a_budget_without_rounds_between_divides_by_nothing() -> None:
    """AdaLoRA's schedule divides by the steps between warm-up and the end, which may be none."""
    assert [Budget(8, 2, 4, 2, 2).ranks(round_) for round_ in range(4)] == [8, 8, 2, 2]


@pytest.mark.parametrize(("last", "warm_up", "settled"), [(9, 0, 0), (-1, 0, 0), (2, 3, 2), (2, -1, 0)])
def test_a_budget_out_of_bounds_is_refused(last: int, warm_up: int, settled: int) -> None:
    with pytest.raises(InputError, match="budget"):
        Budget(8, last, 4, warm_up, settled)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_importance_is_its_equations(steps: list[tuple[float, float]]) -> None:
    found, mean, variation = Importance.begin(np.zeros(1)), 0.0, 0.0
    for weight, gradient in steps:
        found = found.after(np.array([weight]), np.array([gradient]))
        mean = 0.85 * mean + 0.15 * abs(weight * gradient)
        variation = 0.85 * variation + 0.15 * abs(abs(weight * gradient) - mean)
    assert found.score[0] == pytest.approx(mean * variation, rel=1e-9, abs=1e-12)


@given(arrays(np.float64, st.integers(1, 20), elements=few_numbers), st.integers(0, 25))
def test_as_many_are_kept_as_may_be_whatever_is_equal(scores: np.ndarray, count: int) -> None:
    """AdaLoRA masks all that are at most as large as the k-th: with equal scores, all zeros at the start, all go."""
    best = sorted(range(len(scores)), key=lambda rank: (-scores[rank], rank))[:count]
    assert np.flatnonzero(most_important(scores, count)).tolist() == sorted(best)


def test_what_is_no_number_matters_least() -> None:
    assert most_important(np.array([np.nan, 0.0, np.nan, 1.0]), 2).tolist() == [False, True, False, True]


masks = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        arrays(np.bool_, size), st.lists(arrays(np.bool_, size), min_size=1, max_size=6), st.floats(0, 1)
    )
)


@given(masks)
def test_ranks_never_come_back(case: tuple[np.ndarray, list[np.ndarray], float]) -> None:
    """AdaLoRA sets E to 0 and goes on to train it: a rank that was masked may be back at the next step."""
    alive, votes, share = case
    survivors = arbitrated(alive, votes, share)
    for rank in range(len(alive)):
        keep = sum(bool(vote[rank]) for vote in votes)
        assert survivors[rank] == (alive[rank] and keep / len(votes) >= share)
    assert (arbitrated(alive, votes, 0.0) == alive).all()


def test_half_of_the_sites_are_enough_for_a_half() -> None:
    one, two = np.array([True, False]), np.array([False, True])
    assert arbitrated(np.ones(2, np.bool_), [one, two], 0.5).tolist() == [True, True]
    assert arbitrated(np.ones(2, np.bool_), [one, one, two], 0.5).tolist() == [True, False]
