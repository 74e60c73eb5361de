"""Which decoded scores may stand, and which wait for the head that is lost.

Of linear heads a decoded score is right but for rounding. Scores are rounded to a grid anyway, so nearly all are known
to the last bit; those next to a border between two cells wait. Of networks a decoded score is an estimate: those
nearest to the threshold wait, the others are given meanwhile, and all are computed again once the head is back.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from gneiss.arrays import BoolArray, Float64Array

#: Cells of the grid for each unit of a score: a power of two, so that scaling does not round.
CELLS = 65_536.0
#: The share of decoded decisions that wait where scores are estimates.
GUARD_SHARE = 0.2


class ScoreSource(StrEnum):
    """Where a score is from: its head, or as good as that; estimated by a coded head; or nowhere yet."""

    EXACT = "exact"
    CODED = "coded"
    PENDING = "pending"


def on_grid(scores: Float64Array) -> Float64Array:
    """Scores rounded to the nearest cell, of two the even one; NaN stays.

    >>> on_grid(np.array([0.1, -2.0, np.nan])) * CELLS
    array([   6554., -131072.,      nan])
    """
    found: Float64Array = np.rint(scores * CELLS) / CELLS
    return found


def is_certain(scores: Float64Array, bounds: Float64Array) -> BoolArray:
    """Whether all that lies within its bound of a score is rounded to the same cell; (documents,).

    >>> is_certain(np.array([0.5 / CELLS, 1 / CELLS]), np.array([1e-12, 1e-12]))
    array([False,  True])
    """
    with np.errstate(invalid="ignore"):
        low, high = on_grid(scores - 2 * bounds), on_grid(scores + 2 * bounds)  # twice: these sums are rounded too
    found: BoolArray = (low == high) | np.isnan(scores)
    return found


def is_in_guard_band(scores: Float64Array, threshold: float, share: float = GUARD_SHARE) -> BoolArray:
    """Whether a score is among the share nearest to the threshold, rounded up; of equally near ones the first are.

    scores: (documents,), not clipped to [0, 1], NaN where there is none, which does not count.

    >>> is_in_guard_band(np.array([0.1, 0.6, 1.3, 0.45, np.nan]), 0.5, share=0.5)
    array([False,  True, False,  True, False])
    """
    is_there = ~np.isnan(scores)
    count = int(np.ceil(share * is_there.sum() - 1e-9))
    nearest = np.argsort(np.abs(scores - threshold), kind="stable")[:count]  # NaN last
    found = np.zeros(len(scores), np.bool_)
    found[nearest] = True
    return found & is_there


def back_filled(scores: Float64Array, is_final: BoolArray, computed: Float64Array) -> Float64Array:
    """Scores of a lost head once it is back: those that stand, and in order the others, computed by it.

    scores, is_final: (documents,); computed: (those not final,).

    >>> back_filled(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), np.array([2.5]))
    array([1. , 2.5, 3. ])
    """
    whole = scores.copy()
    whole[~is_final] = computed
    return whole
