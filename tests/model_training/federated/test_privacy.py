"""Clipping, noise, and its guarantee against numeric integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gneiss.errors import InputError
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.steps import shortened
from gneiss.model_training.federated.strategy import Answer

vectors = arrays(np.float32, (4, 2), elements=st.floats(-100, 100, width=32))


@given(vectors, st.floats(0.01, 50))
def test_a_vector_is_shortened_and_keeps_its_direction(vector: np.ndarray, largest: float) -> None:
    found = shortened(vector, largest)
    assert found.dtype == np.float32
    length = float(np.sqrt((vector.astype(np.float64) ** 2).sum()))
    expected = vector * min(1.0, largest / length) if length else vector
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert float(np.sqrt((found.astype(np.float64) ** 2).sum())) <= largest * (1 + 1e-5)


def test_both_vectors_of_an_answer_are_protected() -> None:
    answer = Answer(np.full((500, 4), 3.0, np.float32), np.full((500, 4), -3.0, np.float32))
    found = Protection(1.0, noise_std=0.5).apply(answer, np.random.default_rng(0))
    for vector, before in ((found.difference, answer.difference), (found.tracked, answer.tracked)):
        noise = vector - shortened(before, 1.0)
        assert vector.dtype == np.float32
        assert float(noise.std()) == pytest.approx(0.5, rel=0.05)
        assert abs(float(noise.mean())) < 0.05
    assert found.difference.tobytes() != found.tracked.tobytes()
    plain = Protection(1e9).apply(Answer(answer.difference), np.random.default_rng(0))
    assert plain.difference is answer.difference
    assert plain.tracked is None


def delta_by_integration(shift: float, epsilon: float) -> float:
    """∫ max(0, p(x) − e^ε q(x)) dx of two normal densities `shift` apart."""
    x = np.linspace(-40, 40 + shift, 200_001)
    p, q = (np.exp(-((x - at) ** 2) / 2) / math.sqrt(2 * math.pi) for at in (shift, 0.0))
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum() * (x[1] - x[0]))


@pytest.mark.parametrize("noise_std", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-5])
def test_epsilon_is_the_least_that_holds(noise_std: float, delta: float) -> None:
    found = Protection(1.0, noise_std).epsilon(delta)
    assert delta_by_integration(1 / noise_std, found) == pytest.approx(delta, rel=1e-3)


@given(st.floats(0.05, 20), st.sampled_from([1e-2, 1e-5, 1e-8]))
def test_the_sum_over_rounds_is_never_less_than_one_of_them(noise_std: float, delta: float) -> None:
    protection = Protection(1.0, noise_std)
    one, many = protection.epsilon(delta), protection.epsilon_of_all(delta, 10)
    assert 0 <= one <= protection.epsilon_of_all(delta, 1) < many
    assert many == pytest.approx(Protection(math.sqrt(10), noise_std).epsilon_of_all(delta, 1), rel=1e-9)


def test_more_noise_guarantees_more() -> None:
    found = [Protection(1.0, noise_std).epsilon(1e-5) for noise_std in (0.1, 1.0, 10.0, 1e6)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(0.0, abs=1e-4)


def test_without_noise_there_is_no_guarantee() -> None:
    assert Protection(1.0).epsilon(1e-5) == Protection(1.0).epsilon_of_all(1e-5, 1) == math.inf
    assert Protection(1.0, 1e-9).epsilon(1e-5) == math.inf


@pytest.mark.parametrize("numbers", [(0.0, 1.0), (-1.0, 0.0), (math.inf, 1.0), (1.0, -0.5), (1.0, math.nan)])
def test_what_is_no_protection(numbers: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        Protection(*numbers)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_what_is_no_delta(delta: float) -> None:
    with pytest.raises(InputError, match="delta: expected a number between 0 and 1"):
        Protection(1.0, 1.0).epsilon(delta)
    with pytest.raises(InputError, match="delta"):
        Protection(1.0, 1.0).epsilon_of_all(delta, 3)
