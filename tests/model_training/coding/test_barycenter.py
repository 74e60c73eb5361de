"""Merged networks: information and barycenter against plain oracles, and what is known to go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.model_training.coding.barycenter import (
    average,
    barycenter,
    build,
    distilled,
    divergence,
    fisher,
    mixture,
    probabilities,
)
from gneiss.model_training.coding.guard import is_in_guard_band
from gneiss.model_training.coding.linear import decoded
from gneiss.model_training.networks import Parameters, backward, forward, new_network

HALF = np.array([0.5, 0.5])


def networks_of(seed: int, sizes: tuple[int, ...] = (5, 4, 3), count: int = 2) -> list[Parameters]:
    """Networks near a common base."""
    draw = np.random.default_rng(seed)
    base = new_network(sizes, draw)
    return [[array + 0.3 * draw.standard_normal(array.shape) for array in base] for _ in range(count)]


def plain_fisher(network: Parameters, inputs: np.ndarray) -> Parameters:
    """By the definition: the gradient of log p(c|x) of one row and class after the other."""
    found = [np.zeros_like(array) for array in network]
    for row in inputs:
        entering = forward(network, row[None])
        p = probabilities(network, row[None])[0]
        for label in range(len(p)):
            one_hot = np.zeros((1, len(p)))
            one_hot[0, label] = 1
            gradients, _ = backward(network, entering, one_hot - p)
            for own, gradient in zip(found, gradients, strict=True):
                own += p[label] * gradient**2 / len(inputs)
    return found


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([(5, 3), (5, 4, 3), (4, 3, 3, 2)]))
def test_fisher_information_is_the_expected_squared_gradient(seed: int, sizes: tuple[int, ...]) -> None:
    (network,) = networks_of(seed, sizes, 1)
    inputs = np.random.default_rng(seed).standard_normal((7, sizes[0]))
    for found, expected in zip(fisher(network, inputs), plain_fisher(network, inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_log_probabilities_have_the_gradient_that_fisher_squares() -> None:
    (network,) = networks_of(3, count=1)
    row, step = np.random.default_rng(3).standard_normal((1, 5)), 1e-6
    entering = forward(network, row)
    p = probabilities(network, row)
    gradients, _ = backward(network, entering, np.array([[1.0, 0, 0]]) - p)
    moved = [array.copy() for array in network]
    moved[0][2, 1] += step
    slope = (np.log(probabilities(moved, row)[0, 0]) - np.log(p[0, 0])) / step
    assert abs(slope - gradients[0][2, 1]) < 1e-4


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_barycenter_is_nearest_to_both_by_information(seed: int) -> None:
    networks = networks_of(seed)
    draw = np.random.default_rng(seed)
    inputs = draw.standard_normal((30, 5))
    of = [fisher(network, inputs) for network in networks]
    beta = draw.dirichlet([2.0, 2.0])
    merged = barycenter(networks, of, beta)

    def far(candidate: Parameters) -> float:
        return sum(
            float(weight) * float((information * (own - array) ** 2).sum())
            for weight, informations, network in zip(beta, of, networks, strict=True)
            for information, own, array in zip(informations, candidate, network, strict=True)
        )

    least = far(merged)
    assert least <= far(average(networks, beta)) + 1e-12
    for _ in range(5):
        assert least <= far([array + 1e-3 * draw.standard_normal(array.shape) for array in merged]) + 1e-12


def test_a_feature_that_is_never_there_is_averaged() -> None:
    networks = networks_of(0)
    inputs = np.random.default_rng(0).standard_normal((30, 5))
    inputs[:, 2] = 0
    merged = barycenter(networks, [fisher(network, inputs) for network in networks], HALF)
    np.testing.assert_allclose(merged[0][2], (networks[0][0][2] + networks[1][0][2]) / 2)
    assert not np.allclose(merged[0][1], (networks[0][0][1] + networks[1][0][1]) / 2)


def test_equal_networks_are_their_own_code() -> None:
    (network,) = networks_of(1, count=1)
    inputs = np.random.default_rng(1).standard_normal((30, 5))
    merged = barycenter([network, network], [fisher(network, inputs)] * 2, HALF)
    for own, array in zip(merged, network, strict=True):
        np.testing.assert_allclose(own, array, rtol=1e-12)
    p = probabilities(network, inputs)
    np.testing.assert_allclose(decoded([None, p], [p], HALF[None])[0], p, rtol=1e-12)


def test_decoded_probabilities_leave_the_unit_interval_and_decide_as_they_are() -> None:
    """Clipped ones would be equal, and the guard band would not know which are nearest."""
    of_coded, other = np.array([0.9, 0.95, 0.2]), np.array([0.5, 0.5, 0.6])
    found = decoded([None, other], [of_coded], HALF[None])[0]
    assert found[1] > found[0] > 1
    assert found[2] < 0
    assert np.clip(found, 0, 1).tolist() == [1.0, 1.0, 0.0]
    assert is_in_guard_band(found, 0.5, 1 / 3).tolist() == [False, False, True]  # clipped, the first would wait


def test_three_networks_are_refused() -> None:
    """The error of a coded network is divided by its coefficient: with three, decoded probabilities are poor."""
    inputs = np.zeros((4, 5))
    with pytest.raises(InputError, match="expected 2 networks, found 3; code them in pairs"):
        build(networks_of(0, count=3), np.ones(3) / 3, [inputs] * 3, inputs, np.random.default_rng(0))


def test_what_cannot_be_merged_is_refused() -> None:
    inputs, draw = np.zeros((4, 5)), np.random.default_rng(0)
    networks = networks_of(0)
    with pytest.raises(InputError, match="one shape"):
        build([networks[0], networks_of(0, (5, 3))[0]], HALF, [inputs] * 2, inputs, draw)
    with pytest.raises(InputError, match="held_out: expected texts, found none"):
        build(networks, HALF, [inputs] * 2, inputs[:0], draw)
    networks[1][0][0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        build(networks, HALF, [inputs] * 2, inputs, draw)
    with pytest.raises(InputError, match="expected 2 coefficients"):
        average(networks, np.ones(3))


def test_the_nearest_of_four_is_kept_and_named() -> None:
    networks = networks_of(5, (8, 6, 3))
    draw = np.random.default_rng(5)
    inputs, held_out = draw.standard_normal((60, 8)), draw.standard_normal((60, 8))
    built = build(networks, HALF, [inputs, held_out[:30]], held_out[30:], draw)
    assert set(built.divergences) == {"average", "barycenter", "barycenter, distilled", "average, distilled"}
    assert built.divergences[built.choice] == min(built.divergences.values())
    found = divergence(mixture(networks, HALF, held_out[30:]), probabilities(built.network, held_out[30:]))
    assert found == pytest.approx(built.divergences[built.choice])


def test_distillation_moves_a_network_towards_the_mixture() -> None:
    networks = networks_of(2)
    draw = np.random.default_rng(2)
    inputs = draw.standard_normal((50, 5))
    targets, start = mixture(networks, HALF, inputs), average(networks, HALF)
    before = divergence(targets, probabilities(start, inputs))
    after = divergence(targets, probabilities(distilled(start, targets, inputs, 100, draw), inputs))
    assert 0 <= after < before / 2
    assert divergence(targets, targets) == 0
