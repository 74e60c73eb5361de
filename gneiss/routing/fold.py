"""The fold over a stream that learns a router: walk, audit, learn and settle the debt, document by document."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float64Array, Int8Array, Int64Array
from gneiss.routing.audit import audit_share
from gneiss.routing.debt import next_debt
from gneiss.routing.policy import FEATURES
from gneiss.routing.predictor import expected_agreement, features, learn, new_predictor
from gneiss.routing.walk import walk


class Feedback(IntEnum):
    """From what the debt is told.

    audits: hits of audited documents; full: hits of every document, which nobody has outside a pilot; predicted: what
    the predictor expects of every document, which misses the share asked for, and is here to show that it does.
    """

    audits = 0
    full = 1
    predicted = 2


@dataclass(frozen=True, eq=False)
class Tiers:
    """What the tiers and the judge say about documents.

    margins: float64 (documents, tiers), above 0 where a tier decides for a document; verdicts: bool (documents,), the
    judge's; costs: float64 (tiers + 1,), of one document each, the judge's last, in any one unit.
    """

    margins: Float64Array
    verdicts: BoolArray
    costs: Float64Array

    @property
    def agrees(self) -> BoolArray:
        """Whether each tier decides as the judge does, (documents, tiers)."""
        agrees: BoolArray = (self.margins > 0) == self.verdicts[:, None]
        return agrees

    def rows(self, chosen: slice | Int64Array) -> Tiers:
        """Some of the documents."""
        return Tiers(self.margins[chosen], self.verdicts[chosen], self.costs)


class Settings(NamedTuple):
    """What a router is asked for.

    sla: α, the share of decisions that should agree with the judge's; thrift: V, larger is cheaper and less safe;
    first_audits, least_audits: c and p_min of `audit_share`.
    """

    sla: float
    thrift: float = 0.1
    first_audits: float = 0.5
    least_audits: float = 0.01


@dataclass(frozen=True, eq=False)
class Folded:
    """What a fold did and has learned.

    tier: int8 (documents,), which one decided, the number of tiers for the judge; audited, agrees: bool (documents,),
    whether the decision of the tier that the walk chose is the judge's; expected: float64 (documents,), ŝ of it; cost:
    float64 (documents,), of all that was run; debt: float64 (documents,), Q after each; weights, squares: of the
    predictor.
    """

    tier: Int8Array
    audited: BoolArray
    agrees: BoolArray
    expected: Float64Array
    cost: Float64Array
    debt: Float64Array
    weights: Float64Array
    squares: Float64Array

    @property
    def agreement(self) -> float:
        """The share of final decisions that are the judge's: those of audited documents are."""
        return float((self.agrees | self.audited).mean())


def fold(
    tiers: Tiers,
    settings: Settings,
    draws: Float64Array,
    feedback: Feedback = Feedback.audits,
    block: int = 1,
    is_plain: bool = False,
) -> Folded:
    """Route documents in their order, learning on the way.

    Parameters: `draws`: float64 (documents,), from 0 up to 1, what decides about audits; `block`: the state of the
    router changes after so many documents; `is_plain`: after tier 0 one tier is chosen for good, as the paper does.
    """
    weights, squares = new_predictor(tiers.margins.shape[1])
    judge_cost = tiers.costs[-1]
    stream = _Stream(tiers.margins, tiers.agrees, draws, tiers.costs / judge_cost)
    form = _Form(int(feedback), block, is_plain)
    tier, audited, agrees, expected, cost, debt = _fold(stream, settings, form, weights, squares)
    return Folded(tier, audited, agrees, expected, cost * judge_cost, debt, weights, squares)


class _Stream(NamedTuple):
    """What is known of documents: as in `Tiers`, but costs in those of the judge; draws: of audits."""

    margins: Float64Array
    agrees: BoolArray
    draws: Float64Array
    costs: Float64Array


class _Form(NamedTuple):
    """Which form of the fold: see `fold`."""

    feedback: int
    block: int
    is_plain: bool


@njit(cache=True, nogil=True)
def _fold(
    stream: _Stream, settings: Settings, form: _Form, weights: Float64Array, squares: Float64Array
) -> tuple[Int8Array, BoolArray, BoolArray, Float64Array, Float64Array, Float64Array]:
    margins, right, costs = stream.margins, stream.agrees, stream.costs
    feedback, is_plain, thrift = form.feedback, form.is_plain, settings.thrift
    documents, tiers = margins.shape
    everything = 0.0
    for m in range(tiers + 1):
        everything += costs[m]
    tier = np.empty(documents, np.int8)
    audited = np.empty(documents, np.bool_)
    agrees = np.empty(documents, np.bool_)
    expected = np.empty(documents)
    cost = np.empty(documents)
    debts = np.empty(documents)
    debt = 0.0
    for start in range(0, documents, form.block):
        end = min(start + form.block, documents)
        for i in range(start, end):
            if is_plain:
                best, ran, hoped = _chosen_once(weights, margins[i], costs, debt, thrift)
            else:
                best, ran, hoped = walk(weights, margins[i], costs, debt, thrift)
            tier[i], expected[i] = best, hoped
            agrees[i] = best == tiers or right[i, best]
            share = audit_share(i + 1, settings.first_audits, settings.least_audits)
            audited[i] = feedback != 1 and stream.draws[i] < share
            if audited[i]:
                cost[i] = everything
            else:
                cost[i] = costs[best] if is_plain and best > 0 else 0.0
                for k in range(1 if is_plain else ran + 1):
                    cost[i] += costs[k]
                if best == tiers and not is_plain:
                    cost[i] += costs[tiers]
        for i in range(start, end):
            if feedback == 1 or audited[i]:
                learn(weights, squares, margins[i], right[i])
            if feedback == 2:
                debt = next_debt(debt, settings.sla, expected[i])
            elif feedback == 1 or audited[i]:
                debt = next_debt(debt, settings.sla, 1.0 if agrees[i] else 0.0)
            debts[i] = debt
    return tier, audited, agrees, expected, cost, debts


@njit(cache=True, nogil=True)
def _chosen_once(
    weights: Float64Array, margins: Float64Array, costs: Float64Array, debt: float, thrift: float
) -> tuple[int, int, float]:
    """The tier with the least V·E − Q·ŝ by what tier 0 says; as `walk`."""
    tiers = len(costs) - 1
    phi = np.empty(FEATURES)
    features(margins, 0, phi)
    best, hoped = 0, expected_agreement(weights[0, 0], phi)
    least = -debt * hoped
    for m in range(1, tiers + 1):
        expected = 1.0 if m == tiers else expected_agreement(weights[0, m], phi)
        loss = thrift * costs[m] - debt * expected
        if loss < least:
            best, least, hoped = m, loss, expected
    return best, best, hoped
