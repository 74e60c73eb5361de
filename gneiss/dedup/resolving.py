"""Resolving: from "equals an earlier window" to "its class begins there"."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.dedup.units import IntArray


@njit(cache=True, nogil=True)
def resolve(matches: IntArray, min_length: int) -> tuple[IntArray, IntArray, IntArray]:
    """Runs of repeats with the first window of their class, from matches with any earlier equal window.

    Parameters: `matches`: int64 (matches, 3): start, count, target, by start, disjoint; every window but the first of
    its class is in one. Returns start, count, source, int64 (runs,), by start.
    A target is a first itself, or lies in a run that is already resolved: matches come in text order.
    """
    start = np.empty(len(matches) + 16, np.int64)
    count = np.empty(len(matches) + 16, np.int64)
    source = np.empty(len(matches) + 16, np.int64)
    runs = 0
    near = 0
    for match in range(len(matches)):
        position, left, target = matches[match]
        while left > 0:
            # the last run that starts at the target or before it
            if runs == 0 or start[0] > target:
                near = -1
            else:
                near = max(near, 0)
                steps = 0
                while near + 1 < runs and start[near + 1] <= target and steps < 2:
                    near += 1
                    steps += 1
                if start[near] > target or (near + 1 < runs and start[near + 1] <= target):
                    near = np.searchsorted(start[:runs], target, side="right") - 1
            if near >= 0 and target < start[near] + count[near]:
                length = min(left, start[near] + count[near] - target)
                first = source[near] + target - start[near]
            else:
                unresolved = start[near + 1] if near + 1 < runs else position
                length = min(left, min(unresolved, position) - target)
                first = target
            last = runs - 1
            if (
                runs
                and min_length > 1
                and start[last] + count[last] == position
                and source[last] + count[last] == first
            ):
                count[last] += length
            else:
                if runs == len(start):
                    start, count, source = _double(start), _double(count), _double(source)
                start[runs], count[runs], source[runs] = position, length, first
                runs += 1
            position += length
            target += length
            left -= length
    return start[:runs], count[:runs], source[:runs]


@njit(cache=True, nogil=True)
def _double(array: IntArray) -> IntArray:
    larger = np.empty(2 * len(array), array.dtype)
    larger[: len(array)] = array
    return larger
