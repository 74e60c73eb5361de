"""Covers and distances against plain oracles, and greedy beside the fewest candidates that do."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import Float64Array, Int64Array
from gneiss.model_training.labelling.strategies.cover import exact, greedy
from gneiss.model_training.labelling.strategies.distances import absorb, distances

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6)
SUBSETS = st.integers(1, 63)


def window(points: list[tuple[int, int]], subset: int) -> tuple[Float64Array, Int64Array]:
    """Distances of some of the points to all, and which they are."""
    values = np.array(points, np.float64)
    own = np.array([i for i in range(len(points)) if subset >> i & 1] or [0], np.int64)
    return distances(values[own], values), own


@given(POINTS, POINTS)
def test_distances_are_those_of_the_plane(ones: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    found = distances(np.array(ones, np.float64), np.array(others, np.float64))
    assert found.tolist() == [[math.dist(one, other) for other in others] for one in ones]


@given(POINTS, POINTS, st.integers(1, 3), st.integers(0, 4))
def test_a_point_goes_to_the_nearest_centre_that_has_room(
    points: list[tuple[int, int]], centres: list[tuple[int, int]], capacity: int, radius: int
) -> None:
    uses = np.arange(len(centres)) % (capacity + 1)
    expected, used = [], uses.tolist()
    for point in points:
        fits = [
            (math.dist(point, centre), j)
            for j, centre in enumerate(centres)
            if used[j] < capacity and math.dist(point, centre) <= radius
        ]
        distance, best = min(fits, default=(0.0, -1))
        if best >= 0:
            used[best] += 1
        expected.append((best, distance))
    centre, distance_to = absorb(
        np.array(points, np.float64), np.array(centres, np.float64), uses, capacity, float(radius)
    )
    assert list(zip(centre.tolist(), distance_to.tolist(), strict=True)) == expected
    assert uses.tolist() == used


@given(POINTS, SUBSETS, st.integers(1, 3), st.integers(0, 3), st.integers(0, 6))
def test_takers_are_near_and_have_room(
    points: list[tuple[int, int]], subset: int, capacity: int, radius: int, most: int
) -> None:
    apart, own = window(points, subset)
    for cover in (greedy, exact):
        taker = cover(apart, own, float(radius), capacity, most)
        taken = np.flatnonzero(taker >= 0)
        assert (apart[taken, taker[taken]] <= radius).all()
        assert np.bincount(taker[taken], minlength=1).max(initial=0) <= capacity
        assert len(np.unique(taker[taken])) <= most
        assert not np.isin(own[taker < 0], taker).any(), "a chosen document is left over"
        if most >= len(points):
            assert len(taken) == len(own)


@given(POINTS, SUBSETS, st.integers(1, 3), st.integers(0, 3))
def test_exact_takes_the_fewest(points: list[tuple[int, int]], subset: int, capacity: int, radius: int) -> None:
    apart, own = window(points, subset)
    taker = exact(apart, own, float(radius), capacity, len(points))
    assert len(set(taker.tolist())) == fewest(apart, radius, capacity)


def fewest(apart: Float64Array, radius: float, capacity: int) -> int:
    """By trying every way to give queries to the candidates of every set."""
    queries, candidates = apart.shape
    for size in range(1, candidates + 1):
        for chosen in combinations(range(candidates), size):
            near = [[c for c in chosen if apart[q, c] <= radius] for q in range(queries)]
            if any(max(way.count(c) for c in chosen) <= capacity for way in product(*near)):
                return size
    raise AssertionError("a query can always be given to itself")


def test_greedy_chooses_at_most_so_many_times_as_many_as_exact() -> None:
    """C3: 1 + ln W, over 60 random windows."""
    draw = np.random.default_rng(0)
    for _ in range(60):
        points = draw.normal(size=(8, 2))
        apart, own = distances(points, points), np.arange(8)
        sizes = [len(np.unique(cover(apart, own, 1.0, 100, 8))) for cover in (greedy, exact)]
        assert sizes[1] <= sizes[0] <= (1 + math.log(8)) * sizes[1]


def test_exact_is_for_few() -> None:
    with pytest.raises(ValueError, match="9 candidates"):
        exact(np.zeros((9, 9)), np.arange(9), 1.0, 1, 9)
