"""Codes of linear heads: whoever is lost, its scores come back; and how far rounding may move them is known."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.model_training.coding.guard import is_certain, on_grid
from gneiss.model_training.coding.linear import (
    UNIT_FLOAT32,
    coded,
    decoded,
    even_coefficients,
    largest_weight,
    rounding_bound,
    vandermonde_coefficients,
)

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(2, 6), st.data())
def test_scores_of_any_lost_heads_are_decoded(seed: int, heads: int, data: st.DataObject) -> None:
    spares = data.draw(st.integers(1, min(3, heads - 1)))
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((50, 2)) for _ in range(heads)]
    inputs = rng.standard_normal((20, 50))
    coefficients = vandermonde_coefficients(heads, spares)
    assert np.allclose(coefficients.sum(axis=1), 1)
    scores = [inputs @ own for own in weights]
    of_coded = [inputs @ own for own in coded(weights, coefficients)]
    for lost in combinations(range(heads), spares):
        found = decoded([None if head in lost else own for head, own in enumerate(scores)], of_coded, coefficients)
        assert found.keys() == set(lost)
        for head in lost:
            assert np.abs(found[head] - scores[head]).max() < 1e-9


def test_weights_of_float32_are_decoded_to_five_digits() -> None:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(300) for _ in range(6)]
    inputs = rng.dirichlet(np.ones(300), 100)
    row = even_coefficients(6)
    of_coded = inputs @ coded(weights, row)[0].astype(np.float32).astype(np.float64)
    scores = [inputs @ own for own in weights]
    found = decoded([None, *scores[1:]], [of_coded], row)[0]
    assert 1e-12 < np.abs(found - scores[0]).max() < 1e-5


def in_order(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """A sum in the order of features, as a float."""
    total = 0.0
    for weight, value in zip(weights.tolist(), inputs.tolist(), strict=True):
        total += weight * value
    return np.array(total)


@pytest.mark.parametrize("unit", [2.0**-53, UNIT_FLOAT32])
@given(SEEDS, st.integers(2, 5), st.floats(1e-6, 1e6))
def test_a_decoded_score_is_within_its_bound(unit: float, seed: int, heads: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    features = int(rng.integers(1, 60))
    weights = [size * rng.standard_normal(features) * 10.0 ** rng.integers(-3, 4, features) for _ in range(heads)]
    inputs = rng.standard_normal(features)
    row = rng.uniform(0.1, 1, heads) * rng.choice([-1, 1], heads)
    lost = int(rng.integers(heads))
    whole = coded(weights, row[None])[0]
    if unit == UNIT_FLOAT32:
        whole = whole.astype(np.float32).astype(np.float64)
    scores = [in_order(own, inputs) for own in weights]
    found = decoded(
        [None if head == lost else own for head, own in enumerate(scores)],
        [in_order(whole, inputs)],
        row[None],
    )[lost]
    bound = rounding_bound(
        np.array(features), np.array(np.abs(inputs).sum()), largest_weight(weights, row), row, lost, unit
    )
    off = abs(Fraction(float(found)) - Fraction(float(scores[lost])))
    assert off <= Fraction(float(bound))
    assert bound < 1e3 * (unit + features * 2.0**-53) * max(1, np.abs(inputs).sum()) * largest_weight(
        weights, row
    ) / min(abs(row))


@given(SEEDS)
def test_whatever_is_certain_is_the_same_on_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-5, 5, 200) / 65_536 / 2 + rng.choice([0.0, 1e-7, -1e-7, 2e-6], 200)
    bounds = rng.choice([0.0, 1e-7, 1e-5], 200)
    is_sure = is_certain(scores, bounds)
    assert 0 < is_sure.sum() < 200
    for share in (-1.0, -0.3, 0.5, 1.0):
        assert (on_grid(scores + share * bounds) == on_grid(scores))[is_sure].all()


def test_what_cannot_be_coded_is_refused() -> None:
    one = np.ones(3)
    with pytest.raises(InputError, match="2 heads or more, found 1"):
        even_coefficients(1)
    with pytest.raises(InputError, match="1 to 2 coded heads for 3, found 3"):
        vandermonde_coefficients(3, 3)
    with pytest.raises(InputError, match="other than 0"):
        coded([one, one], np.array([[1.0, 0.0]]))
    with pytest.raises(InputError, match=r"one shape, found \(3,\), \(4,\)"):
        coded([one, np.ones(4)], even_coefficients(2))
    with pytest.raises(InputError, match="expected coefficients of 3 heads"):
        coded([one, one, one], even_coefficients(2))
    with pytest.raises(InputError, match="2 heads are lost, and 1 coded"):
        decoded([None, None], [one], even_coefficients(2))
    assert decoded([one, one], [one], even_coefficients(2)) == {}
