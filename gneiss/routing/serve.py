"""Routing by a frozen policy: tier by tier, each run on the documents only that have not stopped before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from gneiss.arrays import Float64Array, Int64Array
from gneiss.routing.policy import FEATURES, Policy
from gneiss.routing.predictor import expected_agreement, features
from gneiss.routing.walk import aim


@dataclass(frozen=True, eq=False)
class Routed:
    """Where documents stopped. tier: int64 (documents,), the number of tiers for the judge; last: the last tier run;
    margin: float64 (documents,), of that one; expected: ŝ of the decision.
    """

    tier: Int64Array
    last: Int64Array
    margin: Float64Array
    expected: Float64Array


def route(policy: Policy, documents: int, margins: Callable[[int, Int64Array], Float64Array]) -> Routed:
    """Route documents; margins: (tier, positions of documents) → its margin of each."""
    weights = np.array(policy.weights)
    costs = policy.costs / policy.costs[-1]
    known = np.zeros((documents, len(policy.tiers)))
    routed = Routed(
        np.zeros(documents, np.int64), np.zeros(documents, np.int64), np.zeros(documents), np.zeros(documents)
    )
    going = np.arange(documents)
    for k in range(len(policy.tiers)):
        if not len(going):
            break
        known[going, k] = margins(k, going)
        aims, expected = _aims(weights, known, going, k, costs, policy.debt, policy.terms.thrift)
        routed.tier[going], routed.last[going] = aims, k
        routed.margin[going], routed.expected[going] = known[going, k], expected
        going = going[(aims != k) & (aims != len(policy.tiers))]
    return routed


@njit(cache=True, nogil=True)
def _aims(
    weights: Float64Array,
    margins: Float64Array,
    positions: Int64Array,
    tier: int,
    costs: Float64Array,
    debt: float,
    thrift: float,
) -> tuple[Int64Array, Float64Array]:
    """What documents at a tier aim at, and what is expected of it."""
    aims = np.empty(len(positions), np.int64)
    expected = np.empty(len(positions))
    phi = np.empty(FEATURES)
    for i in range(len(positions)):
        features(margins[positions[i]], tier, phi)
        aims[i] = aim(weights, phi, tier, costs, debt, thrift)
        expected[i] = 1.0 if aims[i] == len(costs) - 1 else expected_agreement(weights[tier, aims[i]], phi)
    return aims, expected
