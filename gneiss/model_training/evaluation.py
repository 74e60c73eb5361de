"""Evaluation of a score on held-out documents: decisions, calibration, and thresholds by the share they keep."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np

from gneiss.arrays import BoolArray, Float64Array

BINS = 10
RETENTIONS = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True)
class Judgement:
    """Accuracy, precision (None if nothing is predicted positive) and recall of a decision."""

    accuracy: float
    precision: float | None
    recall: float


@dataclass(frozen=True)
class Bin:
    """Documents with a score of `low` to `high` (exclusive, but for 1): their mean score, and how many are positive."""

    low: float
    high: float
    documents: int
    mean_score: float | None
    positive_share: float | None


@dataclass(frozen=True)
class Retention:
    """`score > threshold` keeps the share `kept` for a request of `asked`; equal scores stay together."""

    asked: float
    threshold: float
    kept: float
    precision: float | None
    recall: float


@dataclass(frozen=True)
class Evaluation:
    """by_label: the rule `score > 0.5`; baseline: always predicting the more frequent label.

    unscored: documents without a score, which no rule keeps; calibration_error: the mean over documents of the distance
    between the two columns of the bins.
    """

    documents: int
    positives: int
    unscored: int
    by_label: Judgement
    baseline: Judgement
    calibration: tuple[Bin, ...]
    calibration_error: float
    retentions: tuple[Retention, ...]


def evaluate(scores: Float64Array, is_positive: BoolArray) -> Evaluation:
    """Evaluate scores against labels.

    Parameters: `scores`: float64 (documents,), probabilities of the positive label, NaN if missing;
    `is_positive`: bool (documents,); at least two documents.

    >>> found = evaluate(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, True, False]))
    >>> found.by_label.accuracy, found.baseline.accuracy, found.retentions[4].threshold
    (0.75, 0.75, 0.55)
    """
    unscored = np.isnan(scores)
    scores = np.where(unscored, -1.0, scores)
    calibration = _calibration(scores[~unscored], is_positive[~unscored])
    distances = [
        bin_.documents * abs(bin_.mean_score - bin_.positive_share)
        for bin_ in calibration
        if bin_.mean_score is not None and bin_.positive_share is not None
    ]
    most_are_positive = np.full(len(scores), 2 * int(is_positive.sum()) > len(scores))
    return Evaluation(
        documents=len(scores),
        positives=int(is_positive.sum()),
        unscored=int(unscored.sum()),
        by_label=judge(scores > 0.5, is_positive),
        baseline=judge(most_are_positive, is_positive),
        calibration=calibration,
        calibration_error=sum(distances) / max(1, len(scores) - int(unscored.sum())),
        retentions=tuple(retention(asked, scores, is_positive) for asked in RETENTIONS),
    )


def judge(verdicts: BoolArray, is_positive: BoolArray) -> Judgement:
    """Compare predictions with labels; both bool (documents,)."""
    right = int((verdicts & is_positive).sum())
    return Judgement(
        accuracy=float((verdicts == is_positive).mean()),
        precision=right / int(verdicts.sum()) if verdicts.any() else None,
        recall=right / max(1, int(is_positive.sum())),
    )


def _calibration(scores: Float64Array, is_positive: BoolArray) -> tuple[Bin, ...]:
    place = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        bins.append(
            Bin(
                low=number / BINS,
                high=(number + 1) / BINS,
                documents=int(inside.sum()),
                mean_score=float(scores[inside].mean()) if inside.any() else None,
                positive_share=float(is_positive[inside].mean()) if inside.any() else None,
            )
        )
    return tuple(bins)


def retention(asked: float, scores: Float64Array, is_positive: BoolArray) -> Retention:
    """A threshold of 6 decimals half-way between two neighbours, evaluated as rounded for a recipe.

    asked: the share to keep; scores, is_positive: as for `evaluate`.
    """
    ranked = np.sort(scores)[::-1]
    kept = min(max(1, round(asked * len(ranked))), len(ranked) - 1)
    threshold = max(0.0, floor(float(ranked[kept - 1] + ranked[kept]) / 2 * 1e6) / 1e6)
    verdicts = scores > threshold
    judgement = judge(verdicts, is_positive)
    return Retention(asked, threshold, float(verdicts.mean()), judgement.precision, judgement.recall)
