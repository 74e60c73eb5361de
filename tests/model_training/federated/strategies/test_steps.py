"""AMSGrad, descents, means and norms against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gneiss.errors import InputError
from gneiss.model_training.federated.strategies.steps import AMSGrad, Descent, mean, norm, trimmed_mean

vectors = arrays(np.float64, 4, elements=st.floats(-5, 5))


@given(st.lists(vectors, min_size=1, max_size=6))
def test_amsgrad_is_its_recurrence(gradients: list[np.ndarray]) -> None:
    optimizer = AMSGrad(0.8, 0.95, 1e-2)
    moments = optimizer.begin(np.zeros(4))
    first, second, largest = [0.0] * 4, [0.0] * 4, [0.0] * 4
    for gradient in gradients:
        direction, moments = optimizer.step(moments, gradient)
        for i, g in enumerate(gradient.tolist()):
            first[i] = 0.8 * first[i] + 0.2 * g
            second[i] = 0.95 * second[i] + 0.05 * g * g
            largest[i] = max(largest[i], second[i])
            assert direction[i] == pytest.approx(first[i] / (math.sqrt(largest[i]) + 1e-2), abs=1e-12)


@given(vectors, vectors)
def test_a_long_gradient_is_shortened_after_its_correction(x: np.ndarray, correction: np.ndarray) -> None:
    difference, tracked = Descent(1, 0.5, largest_norm=2.0).run(x, lambda w: 3 * w, correction, is_tracked=True)
    corrected = 3 * x + correction
    length = float(np.sqrt((corrected**2).sum()))
    expected = corrected * min(1.0, 2.0 / length) if length else corrected
    assert difference == pytest.approx(-0.5 * expected, abs=1e-12)
    assert tracked == pytest.approx(3 * x, abs=1e-12)


@given(arrays(np.float32, (3, 2), elements=st.floats(-1e3, 1e3, width=32)))
def test_norm(x: np.ndarray) -> None:
    assert norm(x) == pytest.approx(math.sqrt(sum(float(v) ** 2 for v in x.ravel())), rel=1e-12)


def test_float32_stays_float32() -> None:
    x = np.ones((2, 1), np.float32)
    for optimizer in (None, AMSGrad()):
        for corrected in ("gradient", "direction"):
            found = Descent(2, 0.1, optimizer, 1.0).run(x, lambda w: w, x, corrected, is_tracked=True)
            assert {array.dtype for array in found} == {np.dtype(np.float32)}
    assert mean([x, x]).dtype == np.float64


@given(st.lists(vectors, min_size=5, max_size=8))
def test_a_trimmed_mean_leaves_out_both_ends_of_each_weight(answers: list[np.ndarray]) -> None:
    expected = [sum(sorted(column)[1:-1]) / (len(answers) - 2) for column in np.transpose(answers).tolist()]
    assert trimmed_mean(answers) == pytest.approx(expected, abs=1e-12)


@given(st.lists(vectors, min_size=4, max_size=7), st.floats(-1e6, 1e6))
def test_one_answer_moves_a_trimmed_mean_no_further_than_the_others_lie_apart(
    others: list[np.ndarray], poison: float
) -> None:
    found = trimmed_mean([*others, np.full(4, poison)])
    assert (np.min(others, axis=0) - 1e-9 <= found).all()
    assert (found <= np.max(others, axis=0) + 1e-9).all()


def test_few_answers_are_not_trimmed() -> None:
    with pytest.raises(InputError, match="expected 5 answers or more, found 4"):
        trimmed_mean([np.zeros(1)] * 4)
