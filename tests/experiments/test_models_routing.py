"""Routing on the fixture L1: what it must hold, and what a simpler form must not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from models_routing import frozen, l1, rows

from gneiss.routing.fold import Feedback, Settings, fold
from gneiss.routing.static import random_mix


@cache
def folded(sla: float, thrift: float, feedback: Feedback, seeds: int) -> tuple[list[float], float, float]:
    """The agreement of each seed, the mean cost, and that of a random mix of the cheapest tier and the judge."""
    agreements, costs, mixes = [], [], []
    for seed in range(seeds):
        tiers, draws = l1(seed)
        found = fold(tiers, Settings(sla, thrift), draws, feedback)
        agreements.append(found.agreement)
        costs.append(found.cost.mean())
        mixes.append(random_mix(tiers, sla).cost)
    return agreements, float(np.mean(costs)), float(np.mean(mixes))


@pytest.mark.parametrize("sla", [0.95, 0.98])
def test_full_feedback_holds_the_share_at_less_than_half_of_the_cost(sla: float) -> None:
    agreements, cost, mix = folded(sla, 0.3, Feedback.full, 3)
    assert min(agreements) >= sla - 0.005
    assert cost <= mix / 2.5


@pytest.mark.parametrize("sla", [0.95, 0.98])
def test_audits_hold_the_share_at_less_than_half_of_the_cost(sla: float) -> None:
    agreements, cost, mix = folded(sla, 0.1, Feedback.audits, 3)
    assert np.mean(agreements) >= sla - 0.002
    assert min(agreements) >= sla - 0.01
    assert cost <= mix / 2.5


@pytest.mark.parametrize("sla", [0.95, 0.98])
def test_predictions_in_place_of_audits_miss_the_share(sla: float) -> None:
    """The negative control: the debt must not be told what the predictor hopes."""
    agreements, _, _ = folded(sla, 0.1, Feedback.predicted, 3)
    assert np.mean(agreements) <= sla - 0.005


@pytest.mark.parametrize("sla", [0.95, 0.98])
def test_a_frozen_policy_holds_the_share_on_what_its_pilot_has_not_seen(sla: float) -> None:
    found = [frozen(seed, sla) for seed in range(3)]
    assert min(agreement for agreement, _, _ in found) >= sla - 0.005
    assert np.mean([cost for _, cost, _ in found]) <= np.mean([mix for _, _, mix in found]) / 2.5


def test_the_tiers_are_as_good_as_the_fixture_says() -> None:
    agrees = np.mean([l1(seed)[0].agrees.mean(axis=0) for seed in range(3)], axis=0)
    assert agrees == pytest.approx([0.830, 0.903, 0.966], abs=0.02)


@pytest.mark.exhaustive
def test_a_dear_judge_costs_less_too() -> None:
    found = {row["way"]: row for row in rows([0.95], [257.0], 3)}
    assert found["sequential, audits, V .1"]["cost_ms"] <= found["random mix"]["cost_ms"] / 2.5
    assert found["sequential, audits, V .1"]["agreement"] >= 0.948
