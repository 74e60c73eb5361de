"""Logistic regression: at its minimum, against plain NumPy; and what has no minimum of its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.logistic import fit_logistic


@given(st.integers(0, 10_000), st.sampled_from([1e-6, 0.01, 1.0]), st.integers(1, 12))
def test_the_gradient_is_zero_there(seed: int, l2: float, width: int) -> None:
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((60, width)) * draw.uniform(0.01, 100, width) + draw.uniform(-50, 50, width)
    labels = draw.random(60) < 0.4
    labels[:2] = (True, False)
    found = fit_logistic(features, labels, l2)
    deviation = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / deviation
    missing = 1 / (1 + np.exp(-np.clip(features @ found.weights + found.bias, -500, 500))) - labels
    assert np.abs(missing.mean()) < 1e-7
    assert np.abs((missing[:, None] * scaled).mean(axis=0) + l2 * found.weights * deviation).max() < 1e-7


def test_labels_that_a_line_divides_have_finite_weights() -> None:
    features = np.linspace(-1, 1, 40)[:, None]
    found = fit_logistic(features, features[:, 0] > 0, 1e-6)
    assert 0 < found.weights[0] < np.inf
    assert ((features @ found.weights + found.bias > 0) == (features[:, 0] > 0)).all()


def test_a_feature_that_never_changes_has_no_weight() -> None:
    draw = np.random.default_rng(0)
    features = np.column_stack([draw.standard_normal(50), np.full(50, 7.0)])
    assert fit_logistic(features, draw.random(50) < 0.5, 0.01).weights[1] == 0
