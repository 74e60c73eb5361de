"""The walk of one document: run a tier; stop, ask the judge, or run the next one."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gneiss.arrays import Float, Float64Array, Int
from gneiss.routing.policy import FEATURES
from gneiss.routing.predictor import expected_agreement, features


@njit(cache=True, nogil=True)
def aim(weights: Float64Array, phi: Float64Array, tier: Int, costs: Float64Array, debt: Float, thrift: Float) -> Int:
    """The tier to be content with: argmin over m ≥ k of V·Σ_{k<j≤m} E_j − Q·ŝ_m; of equal ones the cheaper.

    The same as with Q·(α − ŝ_m), as α is the same for all. Parameters: `weights`: see `predictor`; `phi`: the features
    at `tier`; `costs`: (tiers + 1,), the judge's last; `debt`: Q; `thrift`: V. Returns the number of tiers for the
    judge.
    """
    tiers = len(costs) - 1
    best, least, cost = tier, math.inf, 0.0
    for m in range(tier, tiers + 1):
        if m > tier:
            cost += costs[m]
        expected = 1.0 if m == tiers else expected_agreement(weights[tier, m], phi)
        loss = thrift * cost - debt * expected
        if loss < least:
            best, least = m, loss
    return best


@njit(cache=True, nogil=True)
def walk(
    weights: Float64Array, margins: Float64Array, costs: Float64Array, debt: Float, thrift: Float
) -> tuple[Int, Int, Float]:
    """The tier that decides (the number of tiers: the judge), the last tier that was run, and ŝ of the decision.

    Parameters: `margins`: (tiers,), those after the last tier that was run are not read; others as for `aim`.
    """
    tiers = len(costs) - 1
    phi = np.empty(FEATURES)
    k = 0
    while True:
        features(margins, k, phi)
        best = aim(weights, phi, k, costs, debt, thrift)
        if best == k:
            return k, k, expected_agreement(weights[k, k], phi)
        if best == tiers:
            return tiers, k, 1.0
        k += 1
