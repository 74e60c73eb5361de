"""Growing: arrays that get longer while a kernel fills them."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import AnyArray, Int, Int64Array


@njit(cache=True, nogil=True)
def grown(array: AnyArray, used: Int, length: Int) -> AnyArray:
    """A longer copy of the first `used` entries of an array."""
    longer = np.empty(length, array.dtype)
    for i in range(used):  # a loop compiles in a fraction of the time that the assignment of a slice takes
        longer[i] = array[i]
    return longer


@njit(cache=True, nogil=True)
def room_for(rows: Int64Array, used: Int, more: Int) -> Int64Array:
    """Two-dimensional rows, or a longer copy of them, with room for `more` rows after the `used` ones."""
    if used + more <= len(rows):
        return rows
    longer = np.empty((2 * len(rows) + more, rows.shape[1]), rows.dtype)
    for i in range(used):
        for j in range(rows.shape[1]):
            longer[i, j] = rows[i, j]
    return longer
