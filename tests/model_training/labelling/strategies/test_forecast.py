"""Ridge and variances against NumPy's, which sum in another order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.labelling.strategies.forecast import predicted, ridge, variance_ratio


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 6), st.sampled_from([0.01, 0.1, 10.0]))
def test_ridge_solves_the_normal_equations(seed: int, rows: int, inputs: int, penalty: float) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(rows, inputs)), draw.normal(size=(rows, 3))
    weights = ridge(x, y, penalty)
    assert weights == pytest.approx(np.linalg.solve(x.T @ x + penalty * np.eye(inputs), x.T @ y), abs=1e-8)
    assert predicted(x, weights) == pytest.approx(x @ weights, abs=1e-8)


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_variance_ratio_is_that_of_the_sums(seed: int, rows: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(rows, 3)), draw.normal(size=(rows, 3))
    assert variance_ratio(x, y) == pytest.approx(x.var(axis=0).sum() / y.var(axis=0).sum())


def test_what_does_not_vary_is_forecast_well() -> None:
    assert variance_ratio(np.zeros((3, 2)), np.ones((3, 2))) == 1
