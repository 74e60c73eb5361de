"""Paired differences: scipy's interval, its coverage, and sentences that claim no more than it says."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from gneiss.ablate import Difference, paired_difference, sentence
from gneiss.ablate.differences import t_quantile
from gneiss.errors import InputError


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30, 99])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99375])
def test_quantiles_are_those_of_scipy(confidence: float, freedom: int) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9)


def test_the_interval_is_that_of_scipy() -> None:
    rng = random.Random(0)
    for seeds in (2, 5, 11):
        a, b = ([rng.gauss(1, 0.1) for _ in range(seeds)] for _ in range(2))
        found = paired_difference(a, b, 0.9)
        low, high = stats.ttest_rel(b, a).confidence_interval(0.9)
        assert (found.low, found.high) == pytest.approx((low, high))
        assert found.is_found == (low > 0 or high < 0)


def test_a_null_is_called_a_null_as_often_as_is_said() -> None:
    rng = random.Random(1)
    pairs = [[rng.gauss(0, 0.02) for _ in range(5)] for _ in range(2000)]
    found = sum(paired_difference([0.0] * 5, of, 0.95).is_found for of in pairs)
    assert found == pytest.approx(100, abs=30)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, float("nan")])])
def test_what_cannot_be_compared_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(InputError, match="expected"):
        paired_difference(a, b)


@pytest.mark.parametrize(("confidence", "freedom"), [(0.0, 3), (1.0, 3), (0.9, 0)])
def test_a_quantile_that_does_not_exist_is_refused(confidence: float, freedom: int) -> None:
    with pytest.raises(InputError, match="confidence"):
        t_quantile(confidence, freedom)


def test_equal_pairs_differ_by_exactly_that() -> None:
    found = paired_difference([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])
    assert (found.low, found.high, found.better) == (0.5, 0.5, 0)
    assert sentence(found, "a", "b").startswith("b is worse than a: 0.500 bits per byte more")
    assert sentence(found, "a", "b").endswith("worse for 3 of 3 seeds.")


def test_a_sentence_claims_nothing_where_the_interval_holds_0() -> None:
    said = sentence(Difference((-0.01, -0.02), -0.05, 0.01, 0.95), "a", "b")
    assert said.startswith("No difference found")
    assert "better" not in said
