"""Schedules: the temperature r as a function of the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

#: Optimizer step, from 0 → r.
Schedule: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class Anneal:
    """r from `start` at step `since` to `end`, `steps` later, evenly in 1 / r, so that `start` may be `math.inf`.

    >>> anneal = Anneal(start=math.inf, end=0.5, steps=10)
    >>> [anneal(step) for step in (0, 5, 10, 99)]
    [inf, 1.0, 0.5, 0.5]
    """

    start: float
    end: float
    steps: int
    since: int = 0

    def __call__(self, step: int) -> float:
        done = min(max((step - self.since) / self.steps, 0.0), 1.0)
        inverse = (1 - done) / self.start + done / self.end
        return 1 / inverse if inverse else math.inf


def temperature(r: float | Schedule, step: int) -> float:
    """The r of a step. Raises ValueError where it is not above zero.

    >>> temperature(0.4, 7)
    0.4
    """
    value = r(step) if callable(r) else r
    if not value > 0:
        raise ValueError(f"r: expected a number above 0 (math.inf for uniform weights), found {value} at step {step}")
    return value
