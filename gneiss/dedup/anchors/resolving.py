"""Resolving: from "equals an earlier window" to "its class begins there"."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array
from gneiss.dedup.growing import room_for
from gneiss.dedup.repeats import Repeats, last_at_or_before


def resolve(matches: Int64Array, min_length: int) -> Repeats:
    """Repeats with the first window of their class, from matches with any earlier equal window.

    Parameters: `matches`: int64 (matches, 3): start, count, target, by start, disjoint; every window but the first of
    its class is in one.
    A target is a first itself, or lies in a run that is already resolved: matches come in text order.

    >>> resolve(np.array([[10, 5, 0], [20, 3, 11]]), 8).source
    array([0, 1])
    """
    return Repeats(*np.ascontiguousarray(_resolve(matches, min_length).T))


@njit(cache=True, nogil=True)
def _resolve(matches: Int64Array, min_length: Int) -> Int64Array:
    """Rows of start, count, source, period."""
    runs = np.empty((len(matches) + 16, 4), np.int64)
    total: Int = 0
    near: Int = 0
    for match in range(len(matches)):
        position, left, target = matches[match]
        distance = position - target
        while left > 0:
            runs = room_for(runs, total, 1)
            near = _last_at_or_before(runs, total, target, near)
            unresolved = min(runs[near + 1, 0] if near + 1 < total else position, position)
            if near >= 0 and target < runs[near, 0] + runs[near, 1]:
                round_start = (target - runs[near, 0]) // runs[near, 3] * runs[near, 3]
                within = target - runs[near, 0] - round_start
                first = runs[near, 2] + within
                length = min(runs[near, 3] - within, runs[near, 1] - round_start - within)
            else:
                first = target
                length = unresolved - target
            # a match that overlaps its own target repeats the text between them, again and again
            if length >= distance and left > distance:
                runs[total, 0], runs[total, 1], runs[total, 2], runs[total, 3] = position, left, first, distance
                total += 1
                break
            length = min(length, left)
            last = total - 1
            if (
                total
                and min_length > 1
                and runs[last, 0] + runs[last, 1] == position
                and runs[last, 3] == runs[last, 1]
                and runs[last, 2] + runs[last, 1] == first
            ):
                runs[last, 1] += length
                runs[last, 3] += length
            else:
                runs[total, 0], runs[total, 1], runs[total, 2], runs[total, 3] = position, length, first, length
                total += 1
            position += length
            target += length
            left -= length
    return runs[:total]


@njit(cache=True, nogil=True)
def _last_at_or_before(runs: Int64Array, total: Int, target: Int, near: Int) -> Int:
    """The last run that starts at a unit or before it, -1 for none; looks first where the last look ended."""
    near = max(near, 0)
    for _ in range(3):
        if near < total and runs[near, 0] <= target and (near + 1 == total or target < runs[near + 1, 0]):
            return near
        near += 1
    return last_at_or_before(runs[:total, 0], target)
