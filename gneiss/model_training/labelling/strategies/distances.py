"""Euclidean distances with sums in one order, so that they are equal on every machine."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Float, Float64Array, Int, Int64Array


@njit(cache=True, nogil=True)
def distances(ones: Float64Array, others: Float64Array) -> Float64Array:
    """Of each of `ones` to each of `others`: (ones, others) from (ones, features) and (others, features)."""
    found = np.empty((len(ones), len(others)))
    for i in range(len(ones)):
        for j in range(len(others)):
            square = 0.0
            for k in range(ones.shape[1]):
                square += (ones[i, k] - others[j, k]) ** 2
            found[i, j] = np.sqrt(square)
    return found


@njit(cache=True, nogil=True)
def absorb(
    points: Float64Array, centres: Float64Array, uses: Int64Array, capacity: Int, radius: Float
) -> tuple[Int64Array, Float64Array]:
    """Each point in order to the nearest centre that has room, if it is within the radius; counts it in `uses`.

    Returns the centre, or -1, and the distance to it, or 0; of two as near the first.
    """
    centre = np.full(len(points), -1, np.int64)
    distance = np.zeros(len(points))
    for i in range(len(points)):
        best, least = -1, np.inf
        for j in range(len(centres)):
            if uses[j] >= capacity:
                continue
            square = 0.0
            for k in range(points.shape[1]):
                square += (points[i, k] - centres[j, k]) ** 2
                if square >= least:
                    break
            if square < least:
                best, least = j, square
        if best >= 0 and np.sqrt(least) <= radius:
            centre[i], distance[i] = best, np.sqrt(least)
            uses[best] += 1
    return centre, distance
