"""The pilot: thresholds and margins against plain oracles, the debt it chooses, and what it says of simpler ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gneiss.arrays import BoolArray, Float64Array
from gneiss.routing.pilot import Pilot, best_threshold, pilot, tier_of
from gneiss.routing.policy import JudgeEntry, Scorer, Terms, TierEntry

SCORES = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.just(float("nan")))


def agreeing(scores: Float64Array, verdicts: BoolArray, threshold: float, keeps: str) -> int:
    keep = scores > threshold if keeps == "above" else scores < threshold
    return int((keep == verdicts).sum())


@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=40))
def test_no_threshold_is_better_than_the_best(pairs: list[tuple[float, bool]]) -> None:
    scores, verdicts = np.array([score for score, _ in pairs]), np.array([verdict for _, verdict in pairs])
    there = scores[~np.isnan(scores)]
    tried = [*there.tolist(), *np.nextafter(there, -np.inf).tolist(), *np.nextafter(there, np.inf).tolist(), 0.0]
    best = max(agreeing(scores, verdicts, threshold, keeps) for threshold in tried for keeps in ("above", "below"))
    assert agreeing(scores, verdicts, *best_threshold(scores, verdicts)) == best


@given(st.lists(SCORES, max_size=60), SCORES.filter(lambda score: score == score), st.sampled_from(["above", "below"]))
@example([1e-5, 1.2e-38], 0.0, "below")  # interpolation alone makes 1e-16 of the latter
def test_margins_are_above_0_where_a_scorer_keeps_and_rise(scores: list[float], threshold: float, keeps: str) -> None:
    values = np.array(scores, np.float64)
    tier = tier_of(Scorer("s", threshold, "above" if keeps == "above" else "below"), values, 1.0)
    margins = tier.margins_of(values)
    there = ~np.isnan(values)
    signed, at = (values, threshold) if keeps == "above" else (-values, -threshold)
    assert ((margins > 0) == (signed > at))[there].all()
    assert (margins[~there] == 0).all()
    order = np.argsort(signed[there], kind="stable")
    assert (np.diff(margins[there][order]) >= 0).all()
    assert np.abs(margins).max(initial=0) <= 12


def test_margins_are_shares_of_a_side() -> None:
    tier = tier_of(Scorer("s", 0.0), np.arange(-1600.0, 3201.0), 1.0)
    assert tier.margins_of(np.array([-1600.0, -800.0, 0.0, 1600.0, 3200.0])).tolist() == pytest.approx(
        [-12, -6, 0, 6, 12], abs=0.01
    )


def piloted(noise: tuple[float, ...], costs: tuple[float, ...], sla: float = 0.95, documents: int = 3000) -> Pilot:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=documents)
    scores = truth[:, None] + rng.normal(size=(documents, len(noise))) * noise
    entries = [TierEntry(f"tier {k}", 0.0, cost=cost) for k, cost in enumerate(costs[:-1])]
    return pilot(entries, scores, truth > 0, JudgeEntry(function="a:b"), costs[-1], "judge", Terms(sla))


def test_the_debt_is_chosen_so_that_the_interval_lies_above_what_was_asked_for() -> None:
    found = piloted((0.6, 0.25), (0.01, 0.1, 1.0))
    router, *_, mix, judge = found.ways
    assert found.documents == (1000, 1000, 1000)
    assert router.agreement.value >= 0.95
    assert router.cost < mix.cost / 2
    assert judge.agreement.value == 1
    assert found.policy.calibration.agreement == router.agreement
    assert piloted((0.6, 0.25), (0.01, 0.1, 1.0), sla=0.99).policy.debt > found.policy.debt


def test_what_no_tier_can_give_the_judge_gives() -> None:
    found = piloted((9.0,), (0.01, 1.0))
    assert found.ways[0].agreement.value == 1
    assert found.advice.startswith("A router is pointless here: it asks the judge about 100% of documents")


def test_a_tier_that_does_is_named() -> None:
    assert piloted((0.02,), (0.0, 1.0)).advice.startswith("A router is pointless here: tier 0 alone agrees on 9")
    assert piloted((0.6, 0.02), (0.01, 0.4, 1.0)).advice.startswith("tier 1 alone would do too")
