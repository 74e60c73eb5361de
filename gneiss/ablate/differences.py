"""Paired differences: what an experiment with the same seeds on both sides says, and no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from gneiss.errors import InputError


@dataclass(frozen=True)
class Difference:
    """B minus A in bits per byte, seed by seed; below 0 B is better.

    pairs: one a seed, (seeds,); low, high: the interval of their mean, at `confidence`.
    """

    pairs: tuple[float, ...]
    low: float
    high: float
    confidence: float

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(self.pairs)

    @property
    def better(self) -> int:
        """For how many seeds B was better."""
        return sum(pair < 0 for pair in self.pairs)

    @property
    def is_found(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Difference:
    """Student's interval for the mean of paired differences.

    Parameters: `a`, `b`: bits per byte, (seeds,), in the same order of seeds; `confidence`: of the interval, between 0
    and 1. It speaks of other seeds on the same corpora, not of other corpora. Raises InputError for fewer than two
    pairs, or values that are not finite.
    Source: Student, The probable error of a mean (1908).

    >>> found = paired_difference([1.50, 1.52, 1.51], [1.41, 1.44, 1.42])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), found.better
    (-0.087, -0.101, -0.072, 3)
    """
    if len(a) != len(b) or len(a) < 2:
        raise InputError(f"paired seeds: expected two or more for both sides, found {len(a)} and {len(b)}")
    pairs = tuple(after - before for before, after in zip(a, b, strict=True))
    if not all(map(math.isfinite, pairs)):
        raise InputError("bits per byte: expected finite numbers; a training diverged: lower the learning rate")
    half = t_quantile(confidence, len(pairs) - 1) * stdev(pairs) / math.sqrt(len(pairs))
    mean = fmean(pairs)
    return Difference(pairs, mean - half, mean + half, confidence)


def t_quantile(confidence: float, freedom: int) -> float:
    """The t for which a Student variable is between -t and t with this probability.

    Parameters: `confidence`: between 0 and 1, exclusive; `freedom`: degrees of freedom, 1 or more. Raises InputError.
    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4, whose sums are finite.

    >>> round(t_quantile(0.95, 4), 4)
    2.7764
    """
    if not 0 < confidence < 1 or freedom < 1:
        raise InputError(
            f"confidence {confidence}, {freedom} degrees of freedom: expected one in (0, 1), and 1 or more"
        )
    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (low, middle) if _between(middle, freedom) >= confidence else (middle, high)
    return math.sqrt(freedom) * math.tan(low)


def _between(angle: float, freedom: int) -> float:
    """The probability of |T| < √freedom · tan(angle)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    term, total = (cosine, 0.0) if freedom % 2 else (1.0, 0.0)
    for n in range(2 + freedom % 2, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (n - 1) / n
    return 2 / math.pi * (angle + sine * total) if freedom % 2 else sine * total


def sentence(difference: Difference, a: str, b: str) -> str:
    """What a difference says of two corpora, as a sentence that claims no more.

    >>> print(sentence(Difference((-0.09, -0.08, -0.09), -0.101, -0.072, 0.95), "raw", "curated"))
    curated is better than raw: 0.087 bits per byte less (95 % interval 0.072 to 0.101), better for 3 of 3 seeds.
    >>> print(sentence(Difference((-0.01, 0.02), -0.03, 0.04, 0.95), "raw", "curated"))
    No difference found between raw and curated: +0.005 bits per byte (95 % interval -0.030 to +0.040, 2 seeds).
    """
    level = f"{100 * difference.confidence:.3g} % interval"
    seeds = len(difference.pairs)
    if not difference.is_found:
        return (
            f"No difference found between {a} and {b}: {difference.mean:+.3f} bits per byte ({level}"
            f" {difference.low:+.3f} to {difference.high:+.3f}, {seeds} seeds)."
        )
    is_better = difference.mean < 0
    least, most = sorted((abs(difference.low), abs(difference.high)))
    won = difference.better if is_better else seeds - difference.better
    word, amount = ("better", "less") if is_better else ("worse", "more")
    return (
        f"{b} is {word} than {a}: {abs(difference.mean):.3f} bits per byte {amount} ({level} {least:.3f} to"
        f" {most:.3f}), {word} for {won} of {seeds} seeds."
    )
