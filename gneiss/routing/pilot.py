"""The pilot: from scores and the judge's verdicts on a sample to a frozen policy, and what simpler ways would do.

The sample is in random order and cut in three: one part teaches thresholds, margins and the predictor, one chooses the
debt, and one, which neither has seen, says how often the router agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gneiss.arrays import AnyArray, BoolArray, Float64Array, Int64Array
from gneiss.routing.fold import Feedback, Settings, Tiers, fold
from gneiss.routing.interval import Share
from gneiss.routing.policy import Calibration, JudgeEntry, Policy, Scorer, Terms, Tier, TierEntry
from gneiss.routing.predictor import LARGE_MARGIN
from gneiss.routing.serve import route
from gneiss.routing.static import calibrated_cascade, random_mix

#: Fewer documents in a part say nothing.
MIN_DOCUMENTS = 300
#: At which quantiles of the scores on a side of the threshold a margin is noted; at the median it is a large one.
_QUANTILES = np.arange(1, 17) / 16
#: How often the predictor sees the documents that teach; on fixture L1, ten passes cost a fifth less than one at .98.
_PASSES = 10
#: The debts to choose from, over the thrift: only their quotient matters.
_DEBTS = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 121), [1e9]])
#: By how much a tier alone must agree more often than asked for, that a router is pointless.
_CLEARLY = 0.01
#: About how many documents a judge is asked when the tiers are of no use.
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Way:
    """A way to decide, on the part that says: how often it agrees, its mean cost, the share that the judge is asked."""

    name: str
    agreement: Share
    cost: float
    asked: float


@dataclass(frozen=True, eq=False)
class Pilot:
    """The policy, the ways it was compared with, and what follows in words; documents: in each part."""

    policy: Policy
    ways: tuple[Way, ...]
    advice: str
    documents: tuple[int, int, int]


def best_threshold(scores: Float64Array, verdicts: BoolArray) -> tuple[float, Literal["above", "below"]]:
    """The threshold, and the side of it to keep, with which scores agree with verdicts most often, both (documents,).

    A missing score, NaN, decides against. Without any score the threshold is 0.
    """
    there = ~np.isnan(scores)
    order = np.argsort(scores[there], kind="stable")
    rising, keep = scores[there][order], verdicts[there][order]
    if not len(rising):
        return 0.0, "above"
    ends = np.flatnonzero(np.append(rising[1:] > rising[:-1], True)) + 1  # after each group of equal scores
    kept_below = np.append(0, np.cumsum(keep)[ends - 1])
    dropped_below = np.append(0, ends) - kept_below
    above = dropped_below + (kept_below[-1] - kept_below)  # right, when the scores after an end are kept
    below = len(rising) - above
    at_above, at_below = int(above.argmax()), int(below.argmax())
    at, keeps = (at_above, "above") if above[at_above] >= below[at_below] else (at_below, "below")
    if keeps == "above":
        threshold = np.nextafter(rising[0], -np.inf) if at == 0 else rising[ends[at - 1] - 1]
        return float(threshold), "above"
    threshold = np.nextafter(rising[-1], np.inf) if at == len(ends) else rising[ends[at - 1]] if at else rising[0]
    return float(threshold), "below"


def tier_of(scorer: Scorer, scores: Float64Array, cost: float) -> Tier:
    """A tier whose margins are shares: ±12 times the share of the scores on a side that lie nearer to the threshold."""
    sign = 1.0 if scorer.keeps == "above" else -1.0
    threshold = sign * scorer.threshold
    signed = sign * scores[np.isfinite(scores)]
    knots = [(threshold, 0.0)]
    for side, values, quantiles in (
        (1.0, signed[signed > threshold], _QUANTILES),
        (-1.0, signed[signed < threshold], 1 - _QUANTILES),
    ):
        places = np.quantile(values, quantiles) if len(values) else np.array([threshold + side])
        heights = side * 2 * LARGE_MARGIN * (_QUANTILES if len(values) else np.ones(1))
        knots += [(place, float(heights[places == place].mean())) for place in np.unique(places).tolist()]
    rising = sorted(knot for knot in knots if knot[0] != threshold or knot[1] == 0.0)
    return Tier(scorer, tuple(score for score, _ in rising), tuple(margin for _, margin in rising), cost)


def pilot(
    entries: Sequence[TierEntry],
    scores: Float64Array,
    verdicts: BoolArray,
    judge: JudgeEntry,
    judge_cost: float,
    cost_unit: str,
    terms: Terms,
) -> Pilot:
    """Fit a policy and compare it with simpler ways, in documents of random order.

    Parameters: `entries`: of the tiers, with their costs (None: nothing); `scores`: float64 (documents, tiers), NaN for
    none; `verdicts`: bool (documents,); others: see `Policy`. The debt is the least with which the lower end of the
    interval of the agreement is the share asked for, on the part that chooses; where none is, the judge decides about
    everything.
    """
    first, second = len(verdicts) // 3, 2 * len(verdicts) // 3
    tiers = tuple(_fitted(entry, scores[:first, k], verdicts[:first]) for k, entry in enumerate(entries))
    margins = np.stack([tier.margins_of(scores[:, k]) for k, tier in enumerate(tiers)], axis=1)
    whole = Tiers(margins, verdicts, np.array([*(tier.cost for tier in tiers), judge_cost]))
    choosing, saying = whole.rows(slice(first, second)), whole.rows(slice(second, None))
    again = np.tile(np.arange(first), _PASSES)
    folded = fold(whole.rows(again), Settings(terms.sla, terms.thrift), np.zeros(len(again)), Feedback.full)
    weights = tuple(tuple(tuple(w) for w in of_tier) for of_tier in folded.weights.tolist())
    unmeasured = Policy(tiers, judge, judge_cost, cost_unit, terms, 0.0, weights, Calibration(0, 0, 0.0))
    debts = (_DEBTS * terms.thrift).tolist()
    candidates = (replace(unmeasured, debt=debt) for debt in debts)
    chosen = next(
        policy
        for policy in candidates
        if policy.debt == debts[-1] or way_of(policy, choosing).agreement.low >= terms.sla
    )
    router = way_of(chosen, saying)
    policy = replace(chosen, calibration=Calibration(router.agreement.hits, router.agreement.of, router.cost))
    ways = (router, *_others(tiers, choosing, saying, terms.sla))
    sizes = (first, second - first, len(verdicts) - second)
    return Pilot(policy, ways, _advice(router, ways, policy), sizes)


def _fitted(entry: TierEntry, scores: Float64Array, verdicts: BoolArray) -> Tier:
    """The tier of an entry, by documents that teach."""
    threshold, keeps = best_threshold(scores, verdicts) if entry.threshold is None else (entry.threshold, entry.keeps)
    return tier_of(Scorer(entry.column, threshold, keeps, entry.annotator), scores, entry.cost or 0.0)


def way_of(policy: Policy, tiers: Tiers) -> Way:
    """What a policy does, without audits, on documents: its agreement, cost, and how many it asks the judge about."""

    def margins(tier: int, positions: Int64Array) -> Float64Array:
        found: Float64Array = tiers.margins[positions, tier]
        return found

    documents = len(tiers.verdicts)
    routed = route(policy, documents, margins)
    is_asked = routed.tier == len(policy.tiers)
    agrees = is_asked | tiers.agrees[np.arange(documents), routed.last]
    cost = np.cumsum(tiers.costs[:-1])[routed.last] + is_asked * tiers.costs[-1]
    return Way("router", _share(agrees), float(cost.mean()), float(is_asked.mean()))


def _others(tiers: tuple[Tier, ...], choosing: Tiers, saying: Tiers, sla: float) -> tuple[Way, ...]:
    """Each tier alone, fixed thresholds, a random share, the judge alone."""
    alone = [
        Way(f"{tier.scorer.column} alone", _share(saying.agrees[:, k]), tier.cost, 0.0) for k, tier in enumerate(tiers)
    ]
    cascade = calibrated_cascade(choosing, sla).on(saying)
    agreed = round(cascade.agreement * len(saying.verdicts))
    mix = random_mix(saying, sla)
    return (
        *alone,
        Way("fixed thresholds", Share(agreed, len(saying.verdicts)), cascade.cost, cascade.asked),
        Way(
            "judge for a random share",
            Share(round(mix.agreement * len(saying.verdicts)), len(saying.verdicts)),
            mix.cost,
            mix.asked,
        ),
        Way("judge for all", Share(len(saying.verdicts), len(saying.verdicts)), float(saying.costs[-1]), 1.0),
    )


def _advice(router: Way, ways: tuple[Way, ...], policy: Policy) -> str:
    """What follows for somebody who wants the share that was asked for."""
    cost, sla = router.cost + policy.audits_cost, policy.terms.sla
    *alone, cascade, _, _ = ways[1:]
    enough = [way for way in alone if way.agreement.value >= sla + _CLEARLY]
    if enough and enough[0].cost <= cost:
        return f"A router is pointless here: {enough[0].name} agrees on {enough[0].agreement}, and costs no more."
    if router.asked > _NEARLY_ALL:
        return (
            f"A router is pointless here: it asks the judge about {router.asked:.0%} of documents, as the tiers do not"
            " tell on which they agree with it. Find a better tier, or ask for less."
        )
    if enough:
        return f"{enough[0].name} would do too ({enough[0].agreement}), at {enough[0].cost / cost:.1f} times the cost."
    if cascade.agreement.value >= sla and cascade.cost <= cost:
        return (
            f"Fixed thresholds do as well on this sample ({cascade.agreement}, at {cascade.cost / cost:.0%} of the"
            " cost); they were chosen for the share itself, not for the lower end of its interval."
        )
    return "No simpler way that was tried agrees as often at this cost."


def _share(agrees: AnyArray) -> Share:
    return Share(int(np.count_nonzero(agrees)), len(agrees))
