"""Learning from blocks that may be missing: losses by plain enumeration, gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import Float64Array
from gneiss.model_training.fusion.methods import (
    FEWEST_EXPECTED,
    Examples,
    laser_loss,
    laser_networks,
    masked_loss,
    masked_probabilities,
    new_laser,
    propensity_weights,
    task_weights,
    without,
)
from gneiss.model_training.networks import Parameters, fitted, forward, new_network

SIZES = (2, 1, 3)


def examples(documents: int = 7, seed: int = 3) -> Examples:
    """Documents with every kind of pattern, of unequal weights."""
    draw = np.random.default_rng(seed)
    there = draw.random((documents, len(SIZES))) < 0.6
    there[~there.any(axis=1), 0] = True
    there[0] = True
    whole = Examples(
        tuple(draw.standard_normal((documents, size)) for size in SIZES),
        there,
        (draw.random(documents) < 0.5).astype(float),
        draw.uniform(0.5, 2.0, documents),
    )
    return without(whole, there)


def enumerated(parameters: Parameters, given: Examples, *, is_published: bool) -> float:
    """The loss over all tasks of all documents, one by one, as the definition reads."""
    extractors, heads = laser_networks(parameters, len(SIZES))
    total = 0.0
    for document in range(len(given.labels)):
        there = np.flatnonzero(given.there[document]).tolist()
        of_document = 0.0
        for k in there:
            for size in range(1, len(there) + 1):
                for chosen in combinations(there, size):
                    if k in chosen:
                        inputs = [forward(extractors[j], given.blocks[j][[document]])[-1] for j in chosen]
                        logit = float(forward(heads[k], np.mean(inputs, axis=0))[-1][0, 0])
                        of_document += (np.logaddexp(0, logit) - given.labels[document] * logit) / size
        scale = 1 if is_published else 2 ** len(there) - 1
        total += given.weights[document] * of_document / scale
    return total / len(given.labels)


@pytest.mark.parametrize("is_published", [False, True])
def test_the_sampled_loss_is_without_bias(is_published: bool) -> None:
    given = examples()
    parameters = new_laser(SIZES, np.random.default_rng(0))
    orders = [np.tile(np.array(order, float), (len(given.labels), 1)) for order in permutations(range(len(SIZES)))]
    losses = [laser_loss(parameters, given, keys, is_published=is_published)[0] for keys in orders]
    assert np.mean(losses) == pytest.approx(enumerated(parameters, given, is_published=is_published), rel=1e-12)
    assert np.ptp(losses) > 0


def test_the_weights_of_all_tasks_sum_to_the_number_of_sets() -> None:
    weights = task_weights(16)
    for m in range(1, 17):
        exact = [Fraction(comb(m - 1, s - 1), s) for s in range(1, m + 1)]
        assert m * sum(exact) == 2**m - 1
        assert weights[m].tolist() == [*map(float, exact), *[0.0] * (16 - m)]


def check_gradient(loss: Callable[[Parameters], tuple[float, Parameters]], parameters: Parameters) -> None:
    """Compare a gradient with central differences, some entries of each parameter."""
    draw = np.random.default_rng(1)
    _, gradient = loss(parameters)
    for number, array in enumerate(parameters):
        for place in draw.integers(array.size, size=3).tolist():
            around = []
            for step in (1e-6, -1e-6):
                moved = [parameter.copy() for parameter in parameters]
                moved[number].flat[place] += step
                around.append(loss(moved)[0])
            assert gradient[number].flat[place] == pytest.approx((around[0] - around[1]) / 2e-6, abs=1e-8, rel=1e-4)


@pytest.mark.parametrize("is_published", [False, True])
def test_the_gradient_of_laser(is_published: bool) -> None:
    given = examples()
    keys: Float64Array = np.random.default_rng(2).random(given.there.shape)
    check_gradient(
        lambda parameters: laser_loss(parameters, given, keys, is_published=is_published),
        new_laser(SIZES, np.random.default_rng(0)),
    )


def test_the_gradient_of_the_masked_network() -> None:
    given = examples()
    check_gradient(
        lambda parameters: masked_loss(parameters, given), new_network((9, 8, 4, 1), np.random.default_rng(0))
    )


def test_a_missing_block_has_no_part_in_the_loss() -> None:
    given = examples()
    other = replace(
        given,
        blocks=tuple(np.where(given.there[:, [k]], block, 7.0 * (k + 1)) for k, block in enumerate(given.blocks)),
    )
    parameters = new_laser(SIZES, np.random.default_rng(0))
    keys = np.random.default_rng(2).random(given.there.shape)
    mine, theirs = (laser_loss(parameters, examples, keys) for examples in (given, other))
    assert mine[0] == theirs[0]
    heads = len(SIZES) * 4
    assert all(np.array_equal(a, b) for a, b in zip(mine[1][heads:], theirs[1][heads:], strict=True))


def test_parameters_grow_as_the_number_of_blocks() -> None:
    counts = [sum(array.size for array in new_laser((6,) * k, np.random.default_rng(0))) for k in (1, 2, 4, 8)]
    assert counts == [counts[0] * k for k in (1, 2, 4, 8)]


def test_propensity_makes_patterns_and_labels_independent() -> None:
    patterns = np.repeat([1, 2, 3], 200)
    labels = np.concatenate([np.arange(200) < positives for positives in (50, 100, 150)]).astype(float)
    weights = propensity_weights(patterns, labels)
    assert weights.mean() == pytest.approx(1)
    for pattern in (1, 2, 3):
        own = patterns == pattern
        assert np.average(labels[own], weights=weights[own]) == pytest.approx(labels.mean())
    assert (propensity_weights(patterns[:60], labels[:60]) == 1).all(), "one pattern has nothing to be weighed against"


@given(st.integers(0, 2**20), st.integers(1, 40), st.floats(0.1, 0.9))
def test_rare_patterns_count_as_one_and_leave_the_share_of_labels(seed: int, rare: int, share: float) -> None:
    """A plain oracle: shares of labels, pattern by pattern, with all rare ones as one."""
    draw = np.random.default_rng(seed)
    patterns = np.concatenate([np.repeat([0, 1], 400), 2 + draw.integers(rare, size=300)])
    labels = (draw.random(len(patterns)) < np.where(patterns == 0, share, 1 - share)).astype(float)
    weights = propensity_weights(patterns, labels)
    least = min(labels.mean(), 1 - labels.mean())
    sizes = {pattern: int((patterns == pattern).sum()) for pattern in patterns.tolist()}
    frequent = [pattern for pattern, size in sizes.items() if size * least >= FEWEST_EXPECTED]
    pooled = ~np.isin(patterns, frequent)
    groups = [patterns == pattern for pattern in frequent]
    if pooled.sum() * least >= FEWEST_EXPECTED:
        groups.append(pooled)
    else:
        assert len(set(weights[pooled].tolist())) <= 1
    for own in groups:
        of_group = labels[own].mean()
        if 0.1 < of_group < 0.9:  # beyond, weights may be at their bounds
            assert np.average(labels[own], weights=weights[own]) == pytest.approx(labels.mean())


def test_documents_of_patterns_that_none_shares_count_the_same() -> None:
    assert (propensity_weights(np.arange(200), (np.arange(200) < 40).astype(float)) == 1).all()


def test_a_label_that_hardly_occurs_with_a_pattern_is_weighted_up_to_the_bound() -> None:
    patterns, labels = np.repeat([1, 2], 400), (np.arange(800) < 404).astype(float)
    weights = propensity_weights(patterns, labels)
    assert weights[400] / weights[799] == pytest.approx(10 / (400 * (396 / 800) / 396))


def test_training_learns_and_is_repeatable() -> None:
    given = examples(200)
    labels = (given.blocks[0][:, 0] > 0).astype(float)
    given = replace(given, labels=labels, there=np.ones_like(given.there), weights=np.ones(200))

    def trained() -> Parameters:
        draw = np.random.default_rng(5)
        network = new_network((9, 8, 1), draw)
        settings = {"epochs": 60, "learning_rate": 0.02, "l2": 1e-4, "batch": 32}
        return fitted(
            network,
            lambda parameters, rows: masked_loss(parameters, given.taken(rows))[1],
            200,
            draw,
            **settings,  # type: ignore[arg-type]
        )

    first, again = trained(), trained()
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert ((masked_probabilities(first, given) > 0.5) == labels).mean() > 0.9
