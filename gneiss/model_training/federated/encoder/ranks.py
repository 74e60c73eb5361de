"""Which ranks of adapters live on: how many may, how much each matters to a site, and how sites vote.

Ranks are counted through all adapted matrices, matrix by matrix. Importance is that of AdaLoRA (Zhang et al., ICLR
2023), and so is the schedule; the vote is that of FedARA (Wu et al., arXiv 2501.14406).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gneiss.arrays import BoolArray, Float64Array
from gneiss.errors import InputError
from gneiss.model_training.federated.strategies.steps import Weights

#: Share of the means of importance that is kept at each step.
_DECAY = 0.85


@dataclass(frozen=True)
class Budget:
    """How many ranks may live in each round: all of them at first, then fewer by a cubic, the last ones to the end.

    first, last: ranks; rounds: of the training; warm_up: rounds before the first rank goes; settled: rounds after the
    last has gone. Raises InputError for values out of bounds.

    >>> [Budget(first=48, last=18, rounds=10, warm_up=1, settled=3).ranks(round_) for round_ in range(10)]
    [48, 48, 35, 26, 21, 19, 18, 18, 18, 18]
    """

    first: int
    last: int
    rounds: int
    warm_up: int
    settled: int

    def __post_init__(self) -> None:
        if not 0 <= self.last <= self.first:
            raise InputError(f"budget: expected 0 to {self.first} ranks in the end, found {self.last}")
        if self.warm_up < 0 or self.settled < 0 or self.warm_up + self.settled > self.rounds:
            raise InputError(
                f"budget: expected at most {self.rounds} rounds before and after ranks go, found {self.warm_up} and"
                f" {self.settled}"
            )

    @classmethod
    def of(cls, first: int, last: int, rounds: int) -> Budget:
        """The schedule of the paper: a tenth of the rounds before ranks go, three tenths after."""
        return cls(first, last, rounds, rounds // 10, 3 * rounds // 10)

    def ranks(self, round_: int) -> int:
        """Ranks that may live after a round; whole numbers throughout, so that no rounding decides on a rank."""
        if round_ < self.warm_up:
            return self.first
        span, left = self.rounds - self.settled - self.warm_up, self.rounds - self.settled - round_
        if left <= 0:
            return self.last
        return self.last + (self.first - self.last) * left**3 // span**3


class Importance(NamedTuple):
    """Of every weight, over the steps of a site: the smoothed mean of |weight · gradient|, and how far it varies."""

    mean: Weights
    variation: Weights

    @classmethod
    def begin(cls, weights: Weights) -> Importance:
        """Before the first step."""
        return cls(np.zeros_like(weights), np.zeros_like(weights))

    def after(self, weights: Weights, gradient: Weights) -> Importance:
        """After a step from these weights down this gradient."""
        found = np.abs(weights * gradient)
        mean = _DECAY * self.mean + (1 - _DECAY) * found
        return Importance(mean, _DECAY * self.variation + (1 - _DECAY) * np.abs(found - mean))

    @property
    def score(self) -> Weights:
        """The product of both."""
        return self.mean * self.variation


def most_important(scores: Float64Array, count: int) -> BoolArray:
    """Which ranks have the largest scores: exactly so many, or all; of equal scores the first.

    Exactly: a threshold would take or leave all equal ones at once, and before the first step all scores are 0.

    >>> most_important(np.array([0.0, 2.0, 0.0, 1.0]), 3)
    array([ True,  True, False,  True])
    """
    kept = np.zeros(len(scores), np.bool_)
    kept[np.argsort(-scores, kind="stable")[:count]] = True
    return kept


def arbitrated(alive: BoolArray, votes: Sequence[BoolArray], least_share: float) -> BoolArray:
    """Which ranks live on: those alive that at least so large a share of the sites keep.

    Parameters: `alive`: (ranks,); `votes`: a site's, each (ranks,). A rank that is not alive does not come back,
    whatever sites say. Fewer than the budget may be left, where sites disagree.

    >>> arbitrated(np.array([True, True, False]), [np.array([True, False, True]), np.array([True, True, True])], 0.6)
    array([ True, False, False])
    """
    survivors: BoolArray = alive & (np.sum(votes, axis=0) >= least_share * len(votes))
    return survivors
