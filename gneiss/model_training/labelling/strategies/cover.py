"""Covers: few candidates that take all queries, each of those within a radius, and at most so many a candidate.

A query is one of the candidates itself, so that there is always a cover.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np

from gneiss.arrays import BoolArray, Float64Array, Int64Array

#: Distances (queries, candidates); of each query which candidate it is; radius; capacity; the most candidates to choose
#: → of each query the candidate that takes it, -1 for none.
Cover: TypeAlias = "Callable[[Float64Array, Int64Array, float, int, int], Int64Array]"
#: `exact` looks at every subset.
MOST_CANDIDATES_OF_EXACT = 8


def greedy(distances: Float64Array, own: Int64Array, radius: float, capacity: int, most: int) -> Int64Array:
    """Again and again the candidate that takes most of what is left, of several the first; it takes the nearest.

    With room for all it chooses at most 1 + ln(candidates) times as many as `exact` (Chvátal, 1979).

    >>> greedy(np.abs(np.subtract.outer([0.0, 1, 2, 9], [0.0, 1, 2, 9])), np.arange(4), 1.0, 100, 4)
    array([1, 1, 1, 3])
    """
    near = distances <= radius
    taker = np.full(len(distances), -1, np.int64)
    is_free = np.ones(distances.shape[1], np.bool_)
    for _ in range(most):
        takes = np.where(is_free, np.minimum(near[taker < 0].sum(axis=0), capacity), 0)
        best = int(takes.argmax())
        if not takes[best]:
            break
        queries = np.flatnonzero(near[:, best] & (taker < 0))
        # itself before what is as near: a chosen document is never left over
        order = np.lexsort((own[queries] != best, distances[queries, best]))
        taker[queries[order[:capacity]]] = best
        is_free[best] = False
    return taker


def exact(distances: Float64Array, own: Int64Array, radius: float, capacity: int, most: int) -> Int64Array:
    """The fewest candidates that take all queries, of several sets the first in order; for a few candidates.

    Raises ValueError for more than 8 candidates. Where `most` are too few for all queries, it is as `greedy`.

    >>> exact(np.abs(np.subtract.outer([0.0, 1, 2, 9], [0.0, 1, 2, 9])), np.arange(4), 1.0, 100, 4)
    array([1, 1, 1, 3])
    """
    candidates = distances.shape[1]
    if candidates > MOST_CANDIDATES_OF_EXACT:
        raise ValueError(f"{candidates} candidates; exact covers are for at most {MOST_CANDIDATES_OF_EXACT}")
    near = distances <= radius
    for size in range(min(most, candidates) + 1):
        for chosen in combinations(range(candidates), size):
            taker = _assigned(near, chosen, capacity)
            if (taker >= 0).all():
                return taker
    return greedy(distances, own, radius, capacity, most)


def _assigned(near: BoolArray, chosen: Sequence[int], capacity: int) -> Int64Array:
    """As many queries as possible to the chosen candidates, by augmenting paths."""
    taker = np.full(len(near), -1, np.int64)

    def takes(query: int, tried: set[int]) -> bool:
        for candidate in chosen:
            if not near[query, candidate] or candidate in tried:
                continue
            tried.add(candidate)
            held = np.flatnonzero(taker == candidate).tolist()
            if len(held) < capacity or any(takes(other, tried) for other in held):
                taker[query] = candidate
                return True
        return False

    for query in range(len(near)):
        if not takes(query, set()):
            break
    return taker
