"""Labelling on the fixtures W1 and D1: what a coreset must be worth, and what it is not."""

from __future__ import annotations

from functools import cache

import pytest
from models_labelling import BUDGET, SEEDS, Documents, means, of_d1, of_w1

pytestmark = pytest.mark.slow


def check_w1(figures: dict[str, float]) -> None:
    """C1."""
    assert figures["collected"] <= 0.10
    assert figures["coreset"] >= figures["all labelled"] - 0.02
    assert figures["coreset"] >= figures["random of the same size"] + 0.10


def test_rare_states_are_found_with_few_labels() -> None:
    check_w1(of_w1(1.5, 0))


@pytest.mark.exhaustive
@pytest.mark.parametrize("radius", [1.5, 2.5])
def test_rare_states_are_found_with_any_seed(radius: float) -> None:
    check_w1(means([of_w1(radius, seed) for seed in range(SEEDS)]))


def test_a_coreset_covers_more_than_chance() -> None:
    """Of C4 what needs no model."""
    documents = Documents(0.3, 0)
    found = documents.coreset(4.0)
    assert len(found.rows) <= BUDGET // 2
    assert found.covered(4.0) > 0.99
    assert documents.d99(found.rows) <= 0.95 * documents.d99(documents.at_random(len(found.rows)))


@cache
def d1_means() -> dict[str, dict[str, float]]:
    ways = [of_d1(0.3, 4.0, seed) for seed in range(SEEDS)]
    return {name: means([way[name] for way in ways]) for name in ways[0]}


@pytest.mark.exhaustive
def test_a_coreset_and_then_margin() -> None:
    """C4."""
    found = d1_means()
    hybrid = found["coreset, then margin"]
    assert hybrid["f1"] >= found["random"]["f1"]
    assert hybrid["worst"] >= found["random"]["worst"]
    assert hybrid["d99"] <= 0.85 * found["few random, then margin"]["d99"]
    assert hybrid["d99"] <= 0.95 * found["half random, then margin"]["d99"]
    assert found["coreset alone"]["d99"] <= 0.95 * found["random of that size"]["d99"]


@pytest.mark.exhaustive
def test_weights_are_for_estimates_not_for_training() -> None:
    found = d1_means()
    assert found["coreset alone, weighted"]["f1"] < found["coreset alone"]["f1"]
