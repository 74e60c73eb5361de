"""The debt: by how much the decisions of a stream have agreed with the judge less often than was asked for."""

from __future__ import annotations

from numba import njit

from gneiss.arrays import Float


@njit(cache=True, nogil=True)
def next_debt(debt: Float, sla: Float, agreement: Float) -> Float:
    """Q ← max(0, Q + α − hit): the virtual queue of MESS+ (arXiv 2505.19947, section 3).

    Parameters: `sla`: the share of decisions that should agree; `agreement`: 1 for a decision that agreed, 0 for one
    that did not, and anything between for a mere prediction, which does not hold the share (see `Feedback`).
    """
    return max(0.0, debt + sla - agreement)
