"""How good a score is over the corpus that labels were chosen from: by an audit, and by weighted documents."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from gneiss.arrays import BoolArray, Float64Array
from gneiss.routing.interval import Z_95, Share

_BISECTIONS = 60


@dataclass(frozen=True)
class Estimate:
    """A figure, and its 95 % interval.

    >>> str(Estimate(0.9, 0.85, 0.93))
    '0.900 (0.850 to 0.930)'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Audited:
    """Figures of a uniform sample of a corpus that was not trained on, for the rule `score > 0.5`.

    f1, auc: None where no document is positive, or, for the AUC, all are.
    """

    documents: int
    positives: int
    accuracy: Share
    f1: Estimate | None
    auc: Estimate | None


@dataclass(frozen=True)
class Weighted:
    """Figures of documents each of which counts as often as it stands for one of a corpus; `stood_for`: together."""

    documents: int
    stood_for: int
    accuracy: float
    f1: float | None
    auc: float | None


def audited(scores: Float64Array, is_positive: BoolArray) -> Audited:
    """Figures of an audit, scores being NaN where they are missing; both (documents,), one at least.

    The interval of F1 follows from Wilson's of the share of the right ones among all that are, or are said to be,
    positive; that of the AUC is Newcombe's (2006, part 2, method 5).

    >>> audited(np.array([0.9, 0.2, 0.6, 0.1]), np.array([True, False, False, False])).auc.value
    1.0
    """
    scores = np.where(np.isnan(scores), -1.0, scores)
    said, ones = scores > 0.5, np.ones(len(scores))
    either, positives = int((said | is_positive).sum()), int(is_positive.sum())
    share, area = Share(int((said & is_positive).sum()), either), auc(scores, is_positive, ones)
    return Audited(
        len(scores),
        positives,
        Share(int((said == is_positive).sum()), len(scores)),
        Estimate(*map(_f1, (share.value, share.low, share.high))) if either else None,
        None if area is None else auc_estimate(area, positives, len(scores) - positives),
    )


def weighted(scores: Float64Array, is_positive: BoolArray, weights: Float64Array) -> Weighted:
    """Figures of documents weighted by what each stands for; (documents,), one at least, weights above 0."""
    scores = np.where(np.isnan(scores), -1.0, scores)
    said, whole = scores > 0.5, weights.sum()
    either = weights[said | is_positive].sum()
    return Weighted(
        len(scores),
        int(whole),
        float(weights[said == is_positive].sum() / whole),
        _f1(float(weights[said & is_positive].sum() / either)) if either else None,
        auc(scores, is_positive, weights),
    )


def auc(scores: Float64Array, is_positive: BoolArray, weights: Float64Array) -> float | None:
    """The share of pairs of a positive and another document that are in order, ties counting half; None of no pair.

    >>> auc(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]), np.array([1.0, 1.0, 1.0]))
    0.75
    """
    values, place = np.unique(scores, return_inverse=True)
    positive = np.bincount(place, weights * is_positive, len(values))
    negative = np.bincount(place, weights * ~is_positive, len(values))
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else None


def auc_estimate(value: float, positives: int, negatives: int) -> Estimate:
    """An AUC with the interval of Newcombe (2006): the values from which it is no farther than chance would have it.

    >>> str(auc_estimate(1.0, 20, 30))
    '1.000 (0.916 to 1.000)'
    """

    def lower(found: float) -> float:
        low, high = 0.0, found
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            is_too_far = found - middle > Z_95 * sqrt(_auc_variance(middle, positives, negatives))
            low, high = (middle, high) if is_too_far else (low, middle)
        return low

    return Estimate(value, lower(value), 1 - lower(1 - value))


def _auc_variance(value: float, positives: int, negatives: int) -> float:
    """Hanley and McNeil's (1982), with the mean of both numbers for each in the terms of exponential scores."""
    others = (positives + negatives) / 2 - 1
    terms = 1 + others * (1 - value) / (2 - value) + others * value / (1 + value)
    return value * (1 - value) * terms / (positives * negatives)


def _f1(share: float) -> float:
    """F1 from the share of the right ones among all that are, or are said to be, positive."""
    return 2 * share / (1 + share)
