"""A coreset: documents, collected in one pass over a stream, near each of which lie the documents it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.errors import InputError
from gneiss.model_training.labelling.strategies.cover import Cover, greedy
from gneiss.model_training.labelling.strategies.distances import absorb, distances
from gneiss.model_training.labelling.strategies.forecast import LEAST_VARIANCE_RATIO, variance_ratio

#: Of a window, collected at random where forecasts have shrunk.
_AT_RANDOM = 0.01
#: Collected documents from which a variance is known well enough.
_FEWEST_JUDGED = 20
_BISECTIONS = 10


@dataclass(frozen=True)
class Stream:
    """Documents in order.

    documents: how many; forecast: the first and the end of some rows → forecasts of their features, (rows, features);
    collect: rows → their expensive features, (rows, features). Windows are forecast in order, and what `collect`
    gave may be learned from in between.
    """

    documents: int
    forecast: Callable[[int, int], Float64Array]
    collect: Callable[[Int64Array], Float64Array]


def stream_of(features: Float64Array, forecasts: Float64Array | None = None) -> Stream:
    """Documents of which everything is at hand, (documents, features); without forecasts, features are their own."""
    seen = features if forecasts is None else forecasts
    return Stream(len(features), lambda first, end: seen[first:end], lambda rows: features[rows])


@dataclass(frozen=True)
class Settings:
    """How to collect.

    radius: δ, within which a collected document stands for another; capacity: ū, for how many it stands at most;
    window: documents that are looked at together; first: documents that are collected unseen; budget: the most to
    collect, None for as many as it takes; seed: of the documents that are collected at random where forecasts have
    shrunk.
    """

    radius: float
    capacity: int = 100
    window: int = 200
    first: int = 20
    budget: int | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Coreset:
    """What was collected, and what it stands for.

    rows: int64 (collected,), in order of collection; weights: int64 (collected,), u, how many documents each stands
    for, their sum that of all; stand_in: int64 (documents,), which of the collected stands for each document; reach:
    float64 (documents,), how far its forecast is from that document's features, or from its forecast where
    `is_by_forecast`, bool (documents,); variance_ratio: see `forecast`; windows, shrunk_windows: how many there were
    after the first documents, and in how many the forecasts had shrunk.
    """

    rows: Int64Array
    weights: Int64Array
    stand_in: Int64Array
    reach: Float64Array
    is_by_forecast: BoolArray
    variance_ratio: float
    windows: int
    shrunk_windows: int

    def bounds(self, errors: Float64Array) -> Float64Array:
        """How far each document can be from the one that stands for it, (documents,), by the triangle inequality.

        errors: float64 (documents,), ε, how far the forecast of each is from its features.
        """
        found: Float64Array = self.reach + errors
        found[self.is_by_forecast] += errors[self.rows[self.stand_in[self.is_by_forecast]]]
        return found

    def covered(self, radius: float) -> float:
        """The share of documents whose reach is within the radius: less than 1 where a budget was too small."""
        return float((self.reach <= radius).mean()) if len(self.reach) else 1.0

    @property
    def warning(self) -> str | None:
        """What to say where forecasts had shrunk."""
        if not self.shrunk_windows:
            return None
        return (
            f"forecasts had shrunk to their mean in {self.shrunk_windows:,} of {self.windows:,} windows (they vary"
            f" {self.variance_ratio:.2f} as much as the features; expected {LEAST_VARIANCE_RATIO} at least), and"
            " documents were collected at random as well: what looks covered may not be. Forecast from more of each"
            " document"
        )


def choose(stream: Stream, settings: Settings, cover: Cover = greedy) -> Coreset:
    """Collect documents so that each of a stream is within a radius of one that stands for it.

    In each window a document goes to the nearest collected one within the radius that has room; what is left is covered
    by documents of the window. With a budget, a window may spend twice its even share of what remains; what it cannot
    cover goes to the nearest collected document, however far. Where forecasts vary less than half as much as the
    features of the collected documents, 1 % of each window is collected at random besides.

    Raises InputError if so small a budget cannot stand for all. Time: documents x collected.

    >>> points = np.array([[0.0], [0.1], [5.0], [5.1], [0.2]])
    >>> found = choose(stream_of(points), Settings(radius=1.0, window=2, first=1))
    >>> found.rows, found.weights
    (array([0, 2]), array([3, 2]))
    """
    _check(settings, stream.documents)
    collecting = _Collecting(stream, settings)
    first = min(settings.first, stream.documents, stream.documents if settings.budget is None else settings.budget)
    starts = range(first, stream.documents, settings.window)
    collecting.alone(np.arange(first), _finite(stream.forecast(0, first)))
    shrunk = 0
    for number, start in enumerate(starts):
        rows = np.arange(start, min(start + settings.window, stream.documents))
        forecasts = _finite(stream.forecast(start, start + len(rows)))
        most = collecting.quota(len(starts) - number, len(rows))
        if len(collecting.rows) >= _FEWEST_JUDGED and collecting.variance_ratio < LEAST_VARIANCE_RATIO:
            shrunk += 1
            at_random = _drawn(min(ceil(_AT_RANDOM * len(rows)), most), len(rows), settings.seed, start)
            collecting.alone(rows[at_random], forecasts[at_random])
            most -= int(at_random.sum())
            rows, forecasts = rows[~at_random], forecasts[~at_random]
        collecting.window(rows, forecasts, most, cover)
    return Coreset(
        collecting.rows, collecting.uses, collecting.stand_in, collecting.reach, collecting.is_by_forecast,
        collecting.variance_ratio, len(starts), shrunk,
    )  # fmt: skip


def radius_for(sample: Float64Array, share: float, settings: Settings, cover: Cover = greedy) -> float:
    """About the least radius with which at most a share of a sample, (documents, features), is collected.

    By ten bisections, between 0 and twice the largest distance to the first document.
    """
    if not len(sample):
        return 0.0
    low, high = 0.0, 2 * float(distances(sample[:1], sample).max())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        found = choose(stream_of(sample), replace(settings, radius=middle, budget=None), cover)
        low, high = (low, middle) if len(found.rows) <= share * len(sample) else (middle, high)
    return high


class _Collecting:
    """What is collected so far, and for whom it stands."""

    def __init__(self, stream: Stream, settings: Settings) -> None:
        self._stream, self._settings = stream, settings
        self.rows = np.empty(0, np.int64)
        self.uses = np.empty(0, np.int64)
        self.stand_in = np.full(stream.documents, -1, np.int64)
        self.reach = np.zeros(stream.documents)
        self.is_by_forecast = np.zeros(stream.documents, np.bool_)
        self._features = self._forecasts = np.empty((0, 0))

    @property
    def variance_ratio(self) -> float:
        return variance_ratio(self._forecasts, self._features)

    def quota(self, windows_left: int, size: int) -> int:
        """How many documents a window may collect: twice the even share of what remains."""
        if self._settings.budget is None:
            return size
        remaining = self._settings.budget - len(self.rows)
        return min(size, remaining, ceil(2 * remaining / windows_left))

    def alone(self, rows: Int64Array, forecasts: Float64Array) -> None:
        """Collect documents each of which stands for itself."""
        self.stand_in[rows] = len(self.rows) + np.arange(len(rows))
        self._collect(rows, forecasts, np.ones(len(rows), np.int64))

    def window(self, rows: Int64Array, forecasts: Float64Array, most: int, cover: Cover) -> None:
        """Have documents stand for all of a window, `most` of them new, or more if there is no room."""
        radius, capacity = self._settings.radius, self._settings.capacity
        queries = self._absorbed(rows, forecasts, np.arange(len(rows)), radius)
        apart = distances(forecasts[queries], forecasts)
        taker = cover(apart, queries, radius, capacity, most)
        is_taken = taker >= 0
        chosen, position, uses = np.unique(taker[is_taken], return_inverse=True, return_counts=True)
        taken = rows[queries[is_taken]]
        self.stand_in[taken] = len(self.rows) + position
        self.reach[taken] = apart[is_taken, taker[is_taken]]
        self.is_by_forecast[taken] = True
        self._collect(rows[chosen], forecasts[chosen], uses)
        left = queries[~is_taken]
        while len(left := self._absorbed(rows, forecasts, left, np.inf)):
            self.alone(rows[left[:1]], forecasts[left[:1]])
            left = left[1:]

    def _absorbed(self, rows: Int64Array, forecasts: Float64Array, which: Int64Array, radius: float) -> Int64Array:
        """Give documents of a window to collected ones; those that are left."""
        centre, distance = absorb(forecasts[which], self._features, self.uses, self._settings.capacity, radius)
        there = centre >= 0
        self.stand_in[rows[which[there]]] = centre[there]
        self.reach[rows[which[there]]] = distance[there]
        return which[~there]

    def _collect(self, rows: Int64Array, forecasts: Float64Array, uses: Int64Array) -> None:
        if not len(rows):
            return
        features = _finite(self._stream.collect(rows))
        is_first = not len(self.rows)
        self._features = features if is_first else np.concatenate([self._features, features])
        self._forecasts = forecasts if is_first else np.concatenate([self._forecasts, forecasts])
        self.rows = np.concatenate([self.rows, rows])
        self.uses = np.concatenate([self.uses, uses.astype(np.int64)])


def _check(settings: Settings, documents: int) -> None:
    if settings.budget is not None and settings.budget * settings.capacity < documents:
        least = ceil(documents / settings.budget) if settings.budget > 0 else 0
        do = f"allow a capacity of {least:,} or more, or a larger budget" if least else "give a budget of 1 or more"
        raise InputError(
            f"a budget of {settings.budget:,} documents that stand for at most {settings.capacity:,} each cannot stand"
            f" for {documents:,}: {do}"
        )


def _finite(values: Float64Array) -> Float64Array:
    if not np.isfinite(values).all():
        raise ValueError("features and forecasts must be finite")
    return np.ascontiguousarray(values, np.float64)


def _drawn(count: int, size: int, seed: int, start: int) -> BoolArray:
    """Which of a window are collected at random."""
    drawn = np.zeros(size, np.bool_)
    keys = np.random.Generator(np.random.PCG64([seed, start])).random(size)
    drawn[np.argsort(keys, kind="stable")[:count]] = True
    return drawn
