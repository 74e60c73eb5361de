"""How a head does on documents held out: a number's error and order, or which of several labels; and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.model_training.evaluation import RETENTIONS, Retention, judge, retention


@dataclass(frozen=True)
class MeanRetention:
    """`score > threshold` keeps the share `kept` for a request of `asked`; mean: of the numbers of those kept."""

    asked: float
    threshold: float
    kept: float
    mean: float


@dataclass(frozen=True)
class RegressionFigures:
    """error: the mean squared one; baseline: that of always giving the mean of the documents trained on.

    pearson, spearman: of scores and numbers, of their ranks; None where one of them never varies; unscored: documents
    without a score, which count as the baseline's.
    """

    documents: int
    unscored: int
    error: float
    baseline: float
    pearson: float | None
    spearman: float | None
    retentions: tuple[MeanRetention, ...]


@dataclass(frozen=True)
class LabelFigures:
    """A label as the most probable one; at: the threshold of its own probability that keeps as many as have it."""

    label: str
    documents: int
    precision: float | None
    recall: float
    f1: float
    at: Retention


@dataclass(frozen=True)
class ClassFigures:
    """macro_f1: the mean over labels; baseline: accuracy of always giving the most frequent label."""

    documents: int
    unscored: int
    accuracy: float
    baseline: float
    macro_f1: float
    labels: tuple[LabelFigures, ...]


def regression_figures(scores: Float64Array, numbers: Float64Array, mean: float) -> RegressionFigures:
    """Figures of scores, NaN where there is none, against numbers, both (documents,); mean: of those trained on.

    >>> found = regression_figures(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]), 2.0)
    >>> round(found.error, 3), round(found.baseline, 3), found.spearman
    (0.333, 0.667, 1.0)
    """
    unscored = np.isnan(scores)
    scores = np.where(unscored, mean, scores)
    return RegressionFigures(
        documents=len(scores),
        unscored=int(unscored.sum()),
        error=float(((scores - numbers) ** 2).mean()),
        baseline=float(((mean - numbers) ** 2).mean()),
        pearson=_correlation(scores, numbers),
        spearman=_correlation(_ranks(scores), _ranks(numbers)),
        retentions=tuple(_mean_retention(asked, scores, numbers) for asked in RETENTIONS),
    )


def class_figures(scores: Float64Array, labels: Int64Array, names: Sequence[str]) -> ClassFigures:
    """Figures of probabilities, (documents, labels), NaN where there is none, against labels by number, (documents,).

    >>> scores = np.array([[0.9, 0.2], [0.8, 0.1], [0.3, 0.7], [0.6, 0.4]])
    >>> found = class_figures(scores, np.array([0, 0, 1, 1]), ("a", "b"))
    >>> found.accuracy, round(found.macro_f1, 3), found.labels[1].recall
    (0.75, 0.733, 0.5)
    """
    unscored = np.isnan(scores[:, 0])
    scores = np.where(unscored[:, None], -1.0, scores)
    top = np.where(unscored, -1, scores.argmax(axis=1))
    by_label = tuple(_label_figures(number, name, scores, top, labels) for number, name in enumerate(names))
    return ClassFigures(
        documents=len(labels),
        unscored=int(unscored.sum()),
        accuracy=float((top == labels).mean()),
        baseline=float(np.bincount(labels, minlength=len(names)).max() / len(labels)),
        macro_f1=sum(found.f1 for found in by_label) / len(by_label),
        labels=by_label,
    )


def _label_figures(number: int, name: str, scores: Float64Array, top: Int64Array, labels: Int64Array) -> LabelFigures:
    has = labels == number
    found = judge(top == number, has)
    precision = found.precision or 0.0
    f1 = 2 * precision * found.recall / (precision + found.recall) if precision + found.recall else 0.0
    at = retention(float(has.mean()), scores[:, number], has)
    return LabelFigures(name, int(has.sum()), found.precision, found.recall, f1, at)


def _mean_retention(asked: float, scores: Float64Array, numbers: Float64Array) -> MeanRetention:
    """A threshold of 4 decimals half-way between two neighbours, as rounded for a recipe."""
    ranked = np.sort(scores)[::-1]
    kept = min(max(1, round(asked * len(ranked))), len(ranked) - 1)
    threshold = floor(float(ranked[kept - 1] + ranked[kept]) / 2 * 1e4) / 1e4
    above: BoolArray = scores > threshold
    return MeanRetention(asked, threshold, float(above.mean()), float(numbers[above].mean()) if above.any() else 0.0)


def _correlation(a: Float64Array, b: Float64Array) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return None if scale < 1e-12 else float((a * b).sum()) / scale


def _ranks(values: Float64Array) -> Float64Array:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Float64Array = (ends - counts + ends - 1) / 2
    return means[which]
