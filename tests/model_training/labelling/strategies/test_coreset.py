"""A coreset: what it promises of any stream, by hand where it can be, and what forecasts that shrink do to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import Float64Array, Int64Array
from gneiss.errors import InputError
from gneiss.model_training.labelling.strategies.coreset import Coreset, Settings, Stream, choose, radius_for, stream_of
from gneiss.model_training.labelling.strategies.cover import exact, greedy


def distance_to_stand_in(features: Float64Array, found: Coreset) -> Float64Array:
    apart: Float64Array = np.sqrt(((features - features[found.rows[found.stand_in]]) ** 2).sum(axis=1))
    return apart


def documents(seed: int, count: int, noise: float) -> tuple[Float64Array, Float64Array]:
    """Features, in few places so that some are equal, and forecasts of them."""
    draw = np.random.default_rng(seed)
    features = draw.integers(0, 4, (count, 3)) + draw.choice([0.0, 0.1], (count, 3))
    return features, features + noise * draw.normal(size=features.shape)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 60),
    noise=st.sampled_from([0.0, 0.3, 2.0]),
    radius=st.sampled_from([0.0, 0.5, 1.5, 10.0]),
    capacity=st.integers(1, 7),
    window=st.integers(1, 8),
    first=st.integers(0, 30),
    spare=st.one_of(st.none(), st.integers(0, 20)),
    is_exact=st.booleans(),
)
def test_what_it_promises(
    seed: int,
    count: int,
    noise: float,
    radius: float,
    capacity: int,
    window: int,
    first: int,
    spare: int | None,
    is_exact: bool,
) -> None:
    """C2: Σu = documents, u ≤ ū, the budget, and the radius by the triangle inequality."""
    features, forecasts = documents(seed, count, noise)
    budget = None if spare is None else -(-count // capacity) + spare
    settings = Settings(radius, capacity, window, first, budget, seed)
    found = choose(stream_of(features, forecasts), settings, exact if is_exact else greedy)
    assert found.weights.sum() == count
    assert (found.weights <= capacity).all()
    assert (found.weights >= 1).all()
    assert len(np.unique(found.rows)) == len(found.rows) <= (count if budget is None else budget)
    assert np.bincount(found.stand_in, minlength=len(found.rows)).tolist() == found.weights.tolist()
    errors = np.sqrt(((forecasts - features) ** 2).sum(axis=1))
    assert (distance_to_stand_in(features, found) <= found.bounds(errors) + 1e-9).all()
    if budget is None:
        assert found.covered(radius) == 1


def test_by_hand() -> None:
    """Two documents are near the first; 5.0 covers what is left; 0.5 finds no room, and stands for itself."""
    points = np.array([[0.0], [0.4], [0.3], [4.5], [5.0], [5.5], [0.5]])
    found = choose(stream_of(points), Settings(radius=0.5, capacity=3, window=5, first=1))
    assert found.rows.tolist() == [0, 4, 6]
    assert found.weights.tolist() == [3, 3, 1]
    assert found.stand_in.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert found.reach.tolist() == pytest.approx([0, 0.4, 0.3, 0.5, 0, 0.5, 0])
    assert found.is_by_forecast.tolist() == [False, False, False, True, True, True, True]


def test_a_budget_lasts_to_the_end_of_the_stream() -> None:
    points = np.random.default_rng(0).normal(size=(2000, 6))
    found = choose(stream_of(points), Settings(radius=0.1, window=100, first=10, budget=100))
    assert len(found.rows) <= 100
    assert (found.rows >= 1000).sum() >= 15
    assert found.covered(0.1) < 0.2


def test_a_budget_that_cannot_stand_for_all_is_refused() -> None:
    with pytest.raises(InputError, match="capacity of 334 or more"):
        choose(stream_of(np.zeros((1001, 1))), Settings(1.0, budget=3))
    with pytest.raises(InputError, match="budget of 1 or more"):
        choose(stream_of(np.zeros((1001, 1))), Settings(1.0, budget=0))


def test_features_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        choose(stream_of(np.array([[np.nan]])), Settings(1.0))


def test_a_radius_for_a_share() -> None:
    points = np.random.default_rng(0).normal(size=(600, 4))
    settings = Settings(radius=0.0, window=100, first=10)
    radius = radius_for(points, 0.2, settings)
    found = choose(stream_of(points), Settings(radius, window=100, first=10))
    assert 0.1 < len(found.rows) / len(points) <= 0.2
    assert radius_for(points[:0], 0.2, settings) == 0


def shrunk(features: Float64Array) -> Stream:
    """Forecasts that are nearly the mean of what was collected: it feeds on what it chose."""
    collected: list[Float64Array] = []

    def forecast(first: int, end: int) -> Float64Array:
        mean = np.concatenate(collected).mean(axis=0) if collected else np.zeros(features.shape[1])
        seen: Float64Array = mean + 0.05 * (features[first:end] - mean)
        return seen

    def collect(rows: Int64Array) -> Float64Array:
        collected.append(features[rows])
        return features[rows]

    return Stream(len(features), forecast, collect)


def test_forecasts_that_shrink_to_the_mean_are_noticed() -> None:
    """C5, the negative control: all looks covered and is not; it warns, and collects at random besides."""
    features = np.random.default_rng(0).normal(size=(4000, 12))
    settings = Settings(radius=3.0, capacity=4000)
    found = choose(shrunk(features), settings)
    assert found.variance_ratio < 0.5
    assert found.shrunk_windows == found.windows == 20
    assert "shrunk" in (found.warning or "")
    of_windows = np.bincount((found.rows[20:] - 20) // 200, minlength=found.windows)
    assert (of_windows >= 2).all(), "at least 1 % of each window"
    assert found.covered(3.0) == 1
    assert (distance_to_stand_in(features, found) > 3.0).mean() > 0.5


def test_good_forecasts_do_not_warn() -> None:
    features = np.random.default_rng(0).normal(size=(1000, 12))
    found = choose(stream_of(features, features + 0.3), Settings(radius=3.0))
    assert found.warning is None
    assert found.variance_ratio == pytest.approx(1)
