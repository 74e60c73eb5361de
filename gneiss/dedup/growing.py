"""Growing: arrays that get longer while a kernel fills them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from gneiss.dedup.units import Int, IntArray


@njit(cache=True, nogil=True)
def grown(array: npt.NDArray[Any], used: Int, length: Int) -> npt.NDArray[Any]:
    """A longer copy of the first `used` entries of an array."""
    longer = np.empty(length, array.dtype)
    for i in range(used):  # a loop compiles in a fraction of the time that the assignment of a slice takes
        longer[i] = array[i]
    return longer


@njit(cache=True, nogil=True)
def room_for(rows: IntArray, used: Int, more: Int) -> IntArray:
    """Two-dimensional rows, or a longer copy of them, with room for `more` rows after the `used` ones."""
    if used + more <= len(rows):
        return rows
    longer = np.empty((2 * len(rows) + more, rows.shape[1]), rows.dtype)
    for i in range(used):
        for j in range(rows.shape[1]):
            longer[i, j] = rows[i, j]
    return longer
