"""Clipping, noise, and its guarantee against numeric integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gneiss.errors import InputError
from gneiss.model_training.federated.privacy import Protection, normals, protection_of
from gneiss.model_training.federated.strategies.steps import shortened
from gneiss.model_training.federated.strategies.strategy import Answer

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
    found = Protection(1.0, noise_std=0.5).apply(answer, b"secret", b"task")
    for vector, before in ((found.difference, answer.difference), (found.tracked, answer.tracked)):
        assert vector is not None
        assert before is not None
        noise = vector - shortened(before, 1.0)
        assert vector.dtype == np.float32
        assert float(noise.std()) == pytest.approx(0.5, rel=0.05)
        assert abs(float(noise.mean())) < 0.05
    assert found.tracked is not None
    assert found.difference.tobytes() != found.tracked.tobytes()
    plain = Protection(1e5).apply(Answer(answer.difference), b"", b"")
    assert np.array_equal(plain.difference, answer.difference)
    assert plain.tracked is None


def test_noise_is_of_the_secret_the_task_and_what_it_covers() -> None:
    """What is asked again has the same noise; else two answers to a task would tell their documents apart exactly."""

    def noise(value: float, secret: bytes = b"secret", task: bytes = b"task") -> np.ndarray:
        vector = np.full((8, 1), value, np.float32)
        return Protection(9.0, 1.0).apply(Answer(vector), secret, task).difference - vector

    assert np.array_equal(noise(1.0), noise(1.0))
    for other in (noise(1.0, secret=b"another"), noise(1.0, task=b"another"), noise(1.001)):
        assert abs(other - noise(1.0)).min() > 1e-4
    assert not np.array_equal(normals(4, b"ab", b"c"), normals(4, b"a", b"bc"))


def test_noise_is_normal() -> None:
    found = np.sort(normals(100_001, b"a"))
    expected = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in found.tolist()])
    assert abs(expected - (np.arange(len(found)) + 0.5) / len(found)).max() < 0.006  # Kolmogorov's, p = .001
    pairs = normals(100_000, b"b").reshape(-1, 2)
    assert abs(float((pairs[:, 0] * pairs[:, 1]).mean())) < 0.015
    assert abs(float((pairs[:-1, 1] * pairs[1:, 0]).mean())) < 0.015


@pytest.mark.parametrize(
    "said", [[1.0, 0.0], {"clip_norm": 1.0}, {"clip_norm": "1", "noise_std": 0}, {"clip_norm": 0, "noise_std": 0}]
)
def test_what_says_of_no_protection(said: object) -> None:
    with pytest.raises(InputError, match="expected"):
        protection_of({"protection": said})
    protection = Protection(2.0, 0.5)
    assert protection_of({"protection": protection.meta}) == protection
    assert protection_of({}) is None


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
    found = [Protection(1.0, noise_std).epsilon(1e-5) for noise_std in (0.1, 1.0, 10.0, 1e5)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(0.0, abs=1e-3)


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
