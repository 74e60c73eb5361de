"""The router by hand: the debt, the audits, the features, the argmin and the walk."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.routing.audit import audit_share, draw
from gneiss.routing.debt import next_debt
from gneiss.routing.fold import Feedback, Settings, Tiers, fold
from gneiss.routing.interval import Share
from gneiss.routing.predictor import FEATURES, expected_agreement, features, learn, new_predictor
from gneiss.routing.static import calibrated_cascade, random_mix, tiers_alone
from gneiss.routing.walk import aim, walk


def test_the_debt_by_hand() -> None:
    debt, trace = 0.0, []
    for hit in (1, 0, 0, 1, 1, 0):
        debt = next_debt(debt, 0.9, hit)
        trace.append(round(debt, 12))
    assert trace == [0.0, 0.9, 1.8, 1.7, 1.6, 2.5]


@given(st.lists(st.booleans(), min_size=1), st.floats(0.5, 1.0))
def test_the_debt_bounds_what_is_missing(hits: list[bool], sla: float) -> None:
    debt = 0.0
    for hit in hits:
        debt = next_debt(debt, sla, float(hit))
        assert debt >= 0
    assert sum(hits) >= sla * len(hits) - debt - 1e-9


def test_the_schedule_of_audits_by_hand() -> None:
    shares = [audit_share(number, 0.5, 0.01) for number in (1, 16, 256, 10_000, 100_000_000)]
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.05, 0.01], abs=1e-12)
    assert audit_share(1, 3.0, 0.01) == 1


def test_draws_are_uniform_and_depend_on_seed_and_content_alone() -> None:
    draws = np.array([draw(1, str(i).encode()) for i in range(20_000)])
    assert ((draws >= 0) & (draws < 1)).all()
    assert np.bincount((draws * 10).astype(int)) == pytest.approx(np.full(10, 2000), abs=200)
    assert draw(1, b"a") == draw(1, b"a") != draw(2, b"a")


def test_features_by_hand() -> None:
    phi = np.empty(FEATURES)
    features(np.array([3.0, -9.0]), 0, phi)
    a = math.tanh(0.5)
    assert phi.tolist() == pytest.approx([1, a, a * a, 0, 0, 0])
    features(np.array([3.0, -9.0]), 1, phi)
    b = math.tanh(1.5)
    assert phi.tolist() == pytest.approx([1, b, b * b, -1, -a, -b])
    features(np.array([-3.0, -9.0]), 1, phi)
    assert phi[3:].tolist() == pytest.approx([1, a, b])


def test_expectations_begin_with_trust_in_dearer_tiers() -> None:
    weights, squares = new_predictor(3)
    assert weights[0, :, 0].tolist() == [1.5, 2.0, 2.5]
    assert not weights[:, :, 1:].any()
    assert (squares == 0.01).all()
    assert expected_agreement(weights[0, 1], np.array([1.0, 0, 0, 0, 0, 0])) == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_step_of_adagrad_by_hand() -> None:
    weights, squares = new_predictor(1)
    learn(weights, squares, np.array([6.0]), np.array([False]))
    phi = np.array([1, math.tanh(1), math.tanh(1) ** 2, 0, 0, 0])
    slope = phi / (1 + math.exp(-1.5))
    assert squares[0, 0] == pytest.approx(0.01 + slope**2)
    assert weights[0, 0] == pytest.approx(np.array([1.5, 0, 0, 0, 0, 0]) - 0.5 * slope / np.sqrt(0.01 + slope**2))


def test_the_argmin_by_hand() -> None:
    weights, _ = new_predictor(2)  # expects 0.8176, 0.8808, and 1 of the judge
    phi, costs = np.array([1.0, 0, 0, 0, 0, 0]), np.array([0.01, 0.1, 1.0])
    # at debt q: tier 0 costs -0.8176q, tier 1 .01 - .8808q, the judge .11 - q
    aims = [aim(weights, phi, 0, costs, debt, 0.1) for debt in (0.0, 0.1, 0.2, 0.8, 0.9)]
    assert aims == [0, 0, 1, 1, 2]
    assert aim(weights, phi, 1, costs, 0.8, 0.1) == 1  # the judge: .1 - .8 > -.8 * .8808
    assert aim(weights, phi, 1, costs, 0.9, 0.1) == 2


def test_of_equal_aims_the_cheapest_is_taken() -> None:
    weights, phi, costs = np.zeros((3, 3, 6)), np.zeros(6), np.array([0.1, 0.0, 0.0, 0.0])
    assert aim(weights, phi, 0, costs, 1.0, 0.1) == 3  # the judge is expected to agree with itself
    weights[:, :, 0], phi[0] = 50.0, 1.0  # and so are all tiers, to the last bit of a float64
    assert expected_agreement(weights[0, 0], phi) == 1.0
    assert [aim(weights, phi, tier, costs, 1.0, 0.1) for tier in range(3)] == [0, 1, 2]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=4), st.integers(0, 99))
def test_no_debt_is_tier_0_and_much_debt_the_judge(margins: list[float], seed: int) -> None:
    tiers = len(margins)
    weights, _ = new_predictor(tiers)
    weights += np.random.default_rng(seed).normal(0, 1, weights.shape)
    costs = np.linspace(0.1, 1, tiers + 1)
    assert walk(weights, np.array(margins), costs, 0.0, 0.1)[:2] == (0, 0)
    assert walk(weights, np.array(margins), costs, 1e12, 0.1) == (tiers, 0, 1.0)


def test_a_walk_runs_the_next_tier_and_not_the_one_it_aims_at() -> None:
    weights, _ = new_predictor(3)
    weights[0, 2, 0] = 20.0  # tier 2 seems safe from tier 0; at tier 1, tier 1 does
    weights[1, 1, 0] = 20.0
    tier, ran, expected = walk(weights, np.array([1.0, 1.0, 1.0]), np.array([0.01, 0.01, 0.01, 1.0]), 1.0, 0.1)
    assert (tier, ran) == (1, 1)
    assert expected > 0.99


def toy(documents: int = 400, seed: int = 0) -> Tiers:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=documents)
    margins = 6 * (truth[:, None] + rng.normal(size=(documents, 2)) * [0.8, 0.3])
    return Tiers(margins, truth > 0, np.array([0.1, 1.0, 10.0]))


def plain_fold(tiers: Tiers, settings: Settings, draws: np.ndarray) -> list[tuple[int, bool, float, float]]:
    """The fold with audits, a line an idea: tier, audited, cost, debt."""
    weights, squares = new_predictor(2)
    debt, out = 0.0, []
    for i, (margins, verdict) in enumerate(zip(tiers.margins, tiers.verdicts, strict=True)):
        tier, ran, _ = walk(weights, margins, tiers.costs / 10, debt, settings.thrift)
        hit = tier == 2 or (margins[tier] > 0) == verdict
        audited = draws[i] < max(settings.least_audits, min(1, settings.first_audits / (i + 1) ** 0.25))
        cost = tiers.costs.sum() if audited else tiers.costs[: ran + 1].sum() + (tiers.costs[2] if tier == 2 else 0)
        if audited:
            learn(weights, squares, margins, (margins > 0) == verdict)
            debt = max(0.0, debt + settings.sla - hit)
        out.append((tier, audited, cost, debt))
    return out


def test_a_fold_is_that_of_an_oracle() -> None:
    tiers, draws = toy(), np.random.default_rng(1).random(400)
    settings = Settings(0.95)
    folded, expected = fold(tiers, settings, draws), plain_fold(tiers, settings, draws)
    assert folded.tier.tolist() == [row[0] for row in expected]
    assert folded.audited.tolist() == [row[1] for row in expected]
    assert folded.cost == pytest.approx([row[2] for row in expected])
    assert folded.debt == pytest.approx([row[3] for row in expected])


def test_full_feedback_audits_nothing_and_blocks_decide_by_the_state_before_them() -> None:
    tiers, draws = toy(), np.zeros(400)
    assert not fold(tiers, Settings(0.95), draws, Feedback.full).audited.any()
    assert fold(tiers, Settings(0.95), draws).audited.all()
    in_one = fold(tiers, Settings(0.95), draws, block=400)
    assert (in_one.tier == 0).all()  # the debt is 0 at its start
    assert fold(tiers, Settings(0.95), draws, block=7).tier.tolist() != in_one.tier.tolist()


def test_static_choices_by_hand() -> None:
    margins = np.array([[1.0, 5.0], [-2.0, 5.0], [3.0, -5.0], [-4.0, -5.0]])
    tiers = Tiers(margins, np.array([True, True, False, True]), np.array([1.0, 2.0, 10.0]))
    assert [(s.name, s.agreement, s.cost) for s in tiers_alone(tiers)] == [
        ("tier 0", 0.25, 1.0),
        ("tier 1", 0.75, 2.0),
        ("judge", 1.0, 10.0),
    ]
    mix = random_mix(tiers, 0.7)  # tier 0 agrees on a quarter: 0.25 + 0.75 * 0.6
    assert (mix.agreement, mix.cost) == (0.7, pytest.approx(7.0))
    cascade = calibrated_cascade(tiers, 0.75).on(tiers)
    assert cascade.agreement >= 0.75
    assert cascade.cost <= 3.0  # tier 1 for all, after tier 0


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (950, 1000, 0.9347, 0.9619), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals(hits: int, of: int, low: float, high: float) -> None:
    share = Share(hits, of)
    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_a_wilson_interval_solves_its_equation(of: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, of))
    share = Share(hits, of)
    assert 0 <= share.low <= hits / of <= share.high <= 1
    for end in (share.low, share.high):
        if 0 < end < 1:
            z = abs(hits / of - end) / math.sqrt(end * (1 - end) / of)
            assert z == pytest.approx(1.959963984540054, rel=1e-6)
