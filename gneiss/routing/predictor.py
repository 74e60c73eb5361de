"""The predictor: from what the tiers that were run have said, will a tier agree with the judge?

For each tier k that was run last and each tier m from k on, a logistic regression over six features, learned online by
AdaGrad. Arrays: weights and squares are float64 (tiers, tiers, FEATURES), of [k, m]; those with m < k are unused.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float, Float64Array, Int
from gneiss.routing.policy import FEATURES

#: Margins are divided by this before the tangent: a margin of 6 is a large one.
LARGE_MARGIN = 6.0
_RATE = 0.5
_FIRST_SQUARES = 0.01


def new_predictor(tiers: int) -> tuple[Float64Array, Float64Array]:
    """Weights and squares before anything is known: a more expensive tier counts as better."""
    weights = np.zeros((tiers, tiers, FEATURES))
    weights[:, :, 0] = 1.5 + 0.5 * np.arange(tiers)
    return weights, np.full_like(weights, _FIRST_SQUARES)


@njit(cache=True, nogil=True)
def features(margins: Float64Array, tier: Int, out: Float64Array) -> None:
    """φ = (1, a, a², σ, σa', σa) of the tier that was run last, into `out` (FEATURES,).

    a = tanh(|margin|/6), a' the same of the tier before, σ = ±1: they decide alike, or not; σ = 0 at tier 0.
    Parameters: `margins`: (tiers,), above 0 where a tier decides for the document; only those up to `tier` are read.
    """
    a = math.tanh(abs(margins[tier]) / LARGE_MARGIN)
    out[0], out[1], out[2] = 1.0, a, a * a
    if tier == 0:
        out[3:] = 0.0
        return
    before = math.tanh(abs(margins[tier - 1]) / LARGE_MARGIN)
    alike = 1.0 if (margins[tier] > 0) == (margins[tier - 1] > 0) else -1.0
    out[3], out[4], out[5] = alike, alike * before, alike * a


@njit(cache=True, nogil=True)
def expected_agreement(weights: Float64Array, phi: Float64Array) -> Float:
    """ŝ: the probability that a tier agrees, from its weights and the features, each (FEATURES,)."""
    total = 0.0
    for i in range(len(phi)):
        total += weights[i] * phi[i]
    return 1.0 / (1.0 + math.exp(-total))


@njit(cache=True, nogil=True)
def learn(weights: Float64Array, squares: Float64Array, margins: Float64Array, agrees: BoolArray) -> None:
    """One AdaGrad step, in place, of every predictor on one audited document: margins and agrees, each (tiers,)."""
    phi = np.empty(FEATURES)
    for k in range(len(margins)):
        features(margins, k, phi)
        for m in range(k, len(margins)):
            error = expected_agreement(weights[k, m], phi) - (1.0 if agrees[m] else 0.0)
            for i in range(FEATURES):
                slope = error * phi[i]
                squares[k, m, i] += slope * slope
                weights[k, m, i] -= _RATE * slope / math.sqrt(squares[k, m, i])
