"""Labelling: what a model is worth whose labels were chosen by a coreset, by margin, or at random, and what they cover.

W1 is minutes of a wearable whose rare states drown among the others; D1 documents of 23 sources of unequal size, in
bursts, nearly half of them near-copies. Both are synthetic. Part of models.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from gneiss.arrays import Float64Array, Int64Array
from gneiss.model_training.corpus_figures import auc
from gneiss.model_training.labelling.strategies.coreset import Coreset, Settings, choose, stream_of
from gneiss.model_training.labelling.strategies.cover import exact
from gneiss.model_training.labelling.strategies.distances import distances
from gneiss.model_training.labelling.strategies.forecast import predicted, ridge
from gneiss.model_training.labelling.strategies.margin import nearest_to_half
from gneiss.model_training.networks import Parameters

SEEDS = 3
W1_RADII = (1.0, 1.5, 2.5)
MINUTES, ANOTHER_DAY, READINGS = 6000, 1500, 12
STATES, DWELL_MINUTES = np.array([0.70, 0.25, 0.04, 0.01]), np.array([60, 25, 10, 6])
LEVEL, SPREAD, STEP = (60.0, 80.0, 108.0, 150.0), (4.0, 6.0, 8.0, 10.0), (1.0, 10.0, 60.0, 150.0)

#: Noise of previews and radius.
D1_SETTINGS = ((0.3, 4.0), (0.3, 3.0), (0.8, 4.0), (0.8, 3.0))
DOCUMENTS, SOURCES, FEATURES = 8988, 23, 24
TESTED_OF_A_SOURCE, ROUNDS, HIDDEN = 120, 4, 40
BUDGET = DOCUMENTS // 10


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features (rows, features) and labels, int64 (rows,)."""

    features: Float64Array
    labels: Int64Array

    def taken(self, rows: Int64Array) -> Labelled:
        """Some of them."""
        return Labelled(self.features[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class Fixture:
    """What may be labelled, forecasts of its features, and what a model is tested on, with sources (rows,)."""

    trained: Labelled
    forecasts: Float64Array
    tested: Labelled
    sources: Int64Array


def w1(seed: int) -> Fixture:
    """Minutes of a wearable; forecasts are of two noisy readings, learned on another day."""
    draw = np.random.Generator(np.random.PCG64([601, seed]))
    another, trained, tested = (_minutes(draw, count) for count in (ANOTHER_DAY, MINUTES, MINUTES))
    weights = ridge(_preview(draw, another.features), another.features, 0.1)
    forecasts = predicted(_preview(draw, trained.features), weights)
    return Fixture(trained, forecasts, tested, np.zeros(MINUTES, np.int64))


def _minutes(draw: np.random.Generator, count: int) -> Labelled:
    share = STATES / DWELL_MINUTES
    share /= share.sum()
    state, heart = 0, 60.0
    features, labels = np.empty((count, READINGS + 1)), np.empty(count, np.int64)
    for minute in range(count):
        if draw.random() < 1 / DWELL_MINUTES[state]:
            state = int(draw.choice(len(STATES), p=share))
        for k in range(READINGS):
            heart += 0.3 * (LEVEL[state] - heart) + draw.normal(0, SPREAD[state] / 2)
            features[minute, k] = (heart - 70) / 18
        steps = max(0.0, draw.normal(STEP[state], 0.3 * STEP[state] + 2))
        features[minute, READINGS] = (steps - 10) / 25
        labels[minute] = state
    return Labelled(features, labels)


def _preview(draw: np.random.Generator, features: Float64Array) -> Float64Array:
    seen = features[:, [0, READINGS]] + draw.normal(0, 0.3, (len(features), 2))
    return np.concatenate([seen, seen**2, np.ones((len(seen), 1))], axis=1)


def d1(seed: int, noise: float) -> Fixture:
    """Documents of 23 sources; forecasts are previews, of as many features."""
    draw = np.random.Generator(np.random.PCG64([602, seed]))
    weights = (1.0 + np.arange(SOURCES)) ** -1.1
    centre, scale = draw.standard_normal((SOURCES, FEATURES)), draw.uniform(0.25, 0.8, (SOURCES, FEATURES))
    source = np.empty(0, np.int64)
    while len(source) < DOCUMENTS:
        source = np.append(source, np.full(draw.geometric(1 / 30), draw.choice(SOURCES, p=weights / weights.sum())))
    source = source[:DOCUMENTS]
    features = centre[source] + scale[source] * draw.standard_normal((DOCUMENTS, FEATURES))
    earlier: dict[int, list[int]] = {}
    for row, own in enumerate(source.tolist()):
        before = earlier.setdefault(own, [])
        if draw.random() < 0.45 and before:
            copied = before[int(draw.integers(len(before)))]
            features[row] = features[copied] + draw.normal(0, 0.05, FEATURES)
        before.append(row)
    tested_source = np.repeat(np.arange(SOURCES), TESTED_OF_A_SOURCE)
    tested = centre[tested_source] + scale[tested_source] * draw.standard_normal((len(tested_source), FEATURES))
    linear, inner = draw.standard_normal(FEATURES), draw.standard_normal((FEATURES, 6))
    outer, tilt = draw.normal(0, 1.5, 6), draw.normal(0, 1.2, SOURCES)

    def score(x: Float64Array, own: Int64Array) -> Float64Array:
        straight, bent = 1.5 * x @ linear / np.sqrt(FEATURES), np.tanh(x @ inner / np.sqrt(FEATURES)) @ outer
        found: Float64Array = straight + bent + tilt[own] + draw.normal(0, 0.35, len(x))
        return found

    found = score(features, source)
    cut = np.quantile(found, 0.6)
    labels, tested_labels = (found > cut).astype(np.int64), (score(tested, tested_source) > cut).astype(np.int64)
    spread = noise * draw.uniform(0.2, 1.8, FEATURES)
    forecasts = features + spread * draw.standard_normal(features.shape)
    return Fixture(Labelled(features, labels), forecasts, Labelled(tested, tested_labels), tested_source)


def softmax(inputs: Float64Array, network: Parameters) -> Float64Array:
    """Probabilities (rows, classes)."""
    logits = inputs @ network[0] + network[1]
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Float64Array = raised / raised.sum(axis=1, keepdims=True)
    return found


def softmax_regression(
    given: Labelled, classes: int, steps: int, l2: float, weights: Float64Array | None = None
) -> Parameters:
    """By Adam on all rows at once; weights: (rows,)."""
    inputs, target = given.features, np.eye(classes)[given.labels]
    weights = np.ones(len(inputs)) if weights is None else weights
    weights = weights / weights.sum()
    network: Parameters = [np.zeros((inputs.shape[1], classes)), np.zeros(classes)]
    means, squares = [np.zeros_like(array) for array in network], [np.zeros_like(array) for array in network]
    for step in range(1, steps + 1):
        error = (softmax(inputs, network) - target) * weights[:, None]
        gradients = [inputs.T @ error + l2 * network[0], error.sum(axis=0)]
        for own, mean, square, gradient in zip(network, means, squares, gradients, strict=True):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            own -= 0.05 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return network


def macro_f1(labels: Int64Array, said: Int64Array, classes: Sequence[int]) -> float:
    """The mean over classes of F1."""
    both = [int(((labels == k) & (said == k)).sum()) for k in classes]
    either = [int((labels == k).sum() + (said == k).sum()) for k in classes]
    return fmean(2 * b / e if e else 1.0 for b, e in zip(both, either, strict=True))


def of_w1(radius: float, seed: int) -> dict[str, float]:
    """Macro-F1 of each way to label, and the share that the coreset collects."""
    given = w1(seed)
    stream = stream_of(given.trained.features, given.forecasts)
    found = choose(stream, Settings(radius, capacity=100, window=5, first=5), exact)
    size = len(found.rows)
    draw = np.random.Generator(np.random.PCG64([603, seed]))

    def judged(rows: Int64Array, weights: Float64Array | None = None) -> float:
        network = softmax_regression(given.trained.taken(rows), len(STATES), 600, 1e-3, weights)
        said = softmax(given.tested.features, network).argmax(axis=1)
        return macro_f1(given.tested.labels, said, range(len(STATES)))

    return {
        "collected": size / MINUTES,
        "coreset": judged(found.rows),
        "coreset, weighted": judged(found.rows, found.weights.astype(np.float64)),
        "random of the same size": judged(np.sort(draw.permutation(MINUTES)[:size])),
        "every so many minutes": judged(np.linspace(0, MINUTES - 1, size).astype(np.int64)),
        "all labelled": judged(np.arange(MINUTES)),
    }


class Documents:
    """D1 with its model: features and 40 ReLUs of a fixed random projection."""

    def __init__(self, noise: float, seed: int) -> None:
        self.given = d1(seed, noise)
        fixed = np.random.Generator(np.random.PCG64([604]))
        self._projection = fixed.standard_normal((FEATURES, HIDDEN)) / np.sqrt(FEATURES)
        self._offset = fixed.standard_normal(HIDDEN)
        self._seen = self._lifted(self.given.trained.features)
        self._draw = np.random.Generator(np.random.PCG64([605, seed]))

    def _lifted(self, x: Float64Array) -> Float64Array:
        return np.concatenate([x, np.maximum(x @ self._projection + self._offset, 0.0)], axis=1)

    def _model(self, rows: Int64Array, weights: Float64Array | None = None) -> Parameters:
        return softmax_regression(Labelled(self._seen[rows], self.given.trained.labels[rows]), 2, 300, 1e-3, weights)

    def at_random(self, count: int) -> Int64Array:
        """Rows of so many documents."""
        return np.sort(self._draw.permutation(DOCUMENTS)[:count])

    def coreset(self, radius: float) -> Coreset:
        """Half of the budget at most."""
        stream = stream_of(self.given.trained.features, self.given.forecasts)
        return choose(stream, Settings(radius, budget=BUDGET // 2))

    def by_margin(self, rows: Int64Array) -> Int64Array:
        """The budget spent, from these rows on, in rounds of margin."""
        for left in range(ROUNDS, 0, -1):
            is_labelled = np.zeros(DOCUMENTS, np.bool_)
            is_labelled[rows] = True
            scores = softmax(self._seen, self._model(rows))[:, 1]
            rows = np.append(rows, nearest_to_half(scores, is_labelled, (BUDGET - len(rows)) // left))
        return rows

    def figures(self, rows: Int64Array, weights: Float64Array | None = None) -> dict[str, float]:
        """F1, the mean AUC of the three worst sources with both labels, and `d99`."""
        tested = self.given.tested
        scores = softmax(self._lifted(tested.features), self._model(rows, weights))[:, 1]
        of_sources = [
            auc(scores[rows_of_one], tested.labels[rows_of_one] > 0, np.ones(len(rows_of_one)))
            for rows_of_one in np.split(np.arange(len(scores)), SOURCES)
        ]
        return {
            "labels": float(len(rows)),
            "f1": macro_f1(tested.labels, (scores > 0.5).astype(np.int64), [1]),
            "worst": fmean(sorted(value for value in of_sources if value is not None)[:3]),
            "d99": self.d99(rows),
        }

    def d99(self, rows: Int64Array) -> float:
        """The 99 % quantile, over documents, of the distance to the nearest of these."""
        x = self.given.trained.features
        return float(np.quantile(distances(x, x[rows]).min(axis=1), 0.99))


def of_d1(noise: float, radius: float, seed: int) -> dict[str, dict[str, float]]:
    """Way → its figures."""
    documents = Documents(noise, seed)
    found = documents.coreset(radius)
    half = len(found.rows)
    return {
        "coreset, then margin": documents.figures(documents.by_margin(found.rows)),
        "half random, then margin": documents.figures(documents.by_margin(documents.at_random(BUDGET // 2))),
        "few random, then margin": documents.figures(documents.by_margin(documents.at_random(BUDGET // 10))),
        "random": documents.figures(documents.at_random(BUDGET)),
        "coreset alone": documents.figures(found.rows),
        "coreset alone, weighted": documents.figures(found.rows, found.weights.astype(np.float64)),
        "random of that size": documents.figures(documents.at_random(half)),
        "all labelled": documents.figures(np.arange(DOCUMENTS)),
    }


def means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure over seeds."""
    return {name: fmean(one[name] for one in found) for name in found[0]}


def tables(quick: bool) -> dict[str, Any]:
    """The tables of labelling, by name: means over three seeds, with `quick` one."""
    seeds = range(1 if quick else SEEDS)
    made: dict[str, Any] = {"W1": {}, "D1": {}}
    for radius in W1_RADII[1:] if quick else W1_RADII:
        made["W1"][f"radius {radius}"] = means([of_w1(radius, seed) for seed in seeds])
    for noise, radius in D1_SETTINGS[:1] if quick else D1_SETTINGS:
        ways = [of_d1(noise, radius, seed) for seed in seeds]
        made["D1"][f"noise {noise}, radius {radius}"] = {name: means([way[name] for way in ways]) for name in ways[0]}
    return made


def lines(made: Mapping[str, Any]) -> list[str]:
    """The tables as Markdown."""
    found = ["## Labelling: which documents to have labelled", ""]
    for setting, figures in made["W1"].items():
        found += [f"W1, {setting}: {figures['collected']:.1%} collected", "", "| way | macro-F1 |", "| --- | --: |"]
        found += [f"| {name} | {f1:.3f} |" for name, f1 in figures.items() if name != "collected"]
        found.append("")
    for setting, ways in made["D1"].items():
        found += [f"D1, {setting}", "", "| way | labels | F1 | worst three sources, AUC | d99 |"]
        found.append("| --- | --: | --: | --: | --: |")
        for name, of in ways.items():
            found.append(f"| {name} | {of['labels']:.0f} | {of['f1']:.3f} | {of['worst']:.3f} | {of['d99']:.2f} |")
        found.append("")
    return found
