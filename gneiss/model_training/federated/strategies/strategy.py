"""Strategies of rounds: what sites are sent, how they step, and how the server averages.

All are one scheme with different parts, over the same mini-batches:

| strategy | sites step by | correction | server |
| --- | --- | --- | --- |
| FedAvg (McMahan et al., AISTATS 2017) | gradient descent | | mean |
| SCAFFOLD (Karimireddy et al., ICML 2020) | gradient descent | to gradients | mean |
| FedAdam (Reddi et al., ICLR 2021) | gradient descent | | AMSGrad on the mean |
| Local Adam | AMSGrad | | mean |
| FAdamET (Chen et al., arXiv 2502.02727) | AMSGrad | to directions, past the moments | mean |
| FAdamGT (the same) | AMSGrad | to gradients, before the moments | mean |

A correction is what sites do on average less what this one does. It undoes the pull of each site's own mix of labels,
and doubles the traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gneiss.errors import InputError
from gneiss.model_training.federated.strategies.steps import (
    AMSGrad,
    Corrected,
    Descent,
    Gradient,
    Moments,
    Weights,
    mean,
    trimmed_mean,
)


@dataclass(frozen=True, eq=False)
class Task:
    """What a site is sent: weights, and its correction, where the strategy has one."""

    x: Weights
    correction: Weights | None = None

    @property
    def arrays(self) -> dict[str, Any]:
        """What there is of it, by name."""
        return {"x": self.x} | ({} if self.correction is None else {"correction": self.correction})


@dataclass(frozen=True, eq=False)
class Answer:
    """What a site sends back: how far it went from x; tracked: y_i', its mean gradient or direction."""

    difference: Weights
    tracked: Weights | None = None

    @property
    def arrays(self) -> dict[str, Any]:
        """What there is of it, by name."""
        return {"difference": self.difference} | ({} if self.tracked is None else {"tracked": self.tracked})


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server knows between rounds.

    tracked: y_i, what each site answered last, zeros before its first answer, kept here so that sites keep nothing;
    tracked_mean: y, the mean over all sites, whether they answered or not. Both empty and None without corrections. Of
    regions (see `hierarchy`) tracked is y_j, by which each is corrected.
    """

    x: Weights
    tracked: Mapping[str, Weights] = field(default_factory=dict)
    tracked_mean: Weights | None = None
    moments: Moments | None = None


@dataclass(frozen=True)
class Strategy:
    """A strategy by its parts.

    local: the steps of a site; corrected: its gradients, its directions, or nothing; server_rate: η_g, what the
    server takes of the mean difference; server: AMSGrad of it, or None for the mean itself; is_trimmed: the mean is
    without the largest and smallest answer in each weight, for five answers or more; is_tracked: whether sites that are
    corrected answer the mean of what is corrected, too. (Those of a region do not, see `hierarchy`.)
    Raises InputError for a trimmed mean where sites step by AMSGrad or are corrected, by which a site reaches past it.
    """

    local: Descent
    corrected: Corrected | None = None
    server_rate: float = 1.0
    server: AMSGrad | None = None
    is_trimmed: bool = False
    is_tracked: bool = True

    def __post_init__(self) -> None:
        if self.is_trimmed and (self.local.optimizer is not None or self.corrected is not None):
            raise InputError("trimmed mean: expected plain gradient descent at the sites, without corrections")

    def begin(self, x: Weights, sites: Sequence[str]) -> ServerState:
        """The state before the first round of these sites."""
        moments = None if self.server is None else self.server.begin(x)
        if self.corrected is None:
            return ServerState(x, moments=moments)
        return ServerState(x, {site: np.zeros_like(x) for site in sorted(sites)}, np.zeros_like(x), moments)

    @property
    def answered(self) -> tuple[str, ...]:
        """Names of the vectors that a site answers."""
        return ("difference", "tracked") if self.corrected is not None and self.is_tracked else ("difference",)

    def tasks(self, state: ServerState, asked: Sequence[str]) -> dict[str, Task]:
        """What each of the sites that are asked is sent."""
        return {site: self.task(state, site) for site in asked}

    def task(self, state: ServerState, site: str) -> Task:
        """What a site is sent."""
        if state.tracked_mean is None:
            return Task(state.x)
        return Task(state.x, state.tracked_mean - state.tracked[site])

    def answer(self, task: Task, gradient: Gradient) -> Answer:
        """What a site answers."""
        if self.corrected is None:
            return Answer(*self.local.run(task.x, gradient))
        # tracked as it came: a mean of corrected gradients would correct itself, and diverge
        run = self.local.run(task.x, gradient, task.correction, self.corrected, is_tracked=self.is_tracked)
        return Answer(*run)

    def aggregate(self, state: ServerState, answers: Mapping[str, Answer]) -> ServerState:
        """The state after a round, from the answers of at least one site; in whatever order they came."""
        answered = sorted(answers)
        average = trimmed_mean if self.is_trimmed else mean
        step = average([answers[site].difference for site in answered])
        x, moments = stepped(state.x, step, self.server_rate, self.server, state.moments)
        if state.tracked_mean is None:
            return ServerState(x, moments=moments)
        tracked = {**state.tracked}
        for site in answered:
            found = answers[site].tracked
            assert found is not None
            tracked[site] = found
        tracked_mean = mean([tracked[site] for site in sorted(tracked)]).astype(x.dtype)
        return ServerState(x, tracked, tracked_mean, moments)


def stepped(
    x: Weights, step: Weights, rate: float, optimizer: AMSGrad | None, moments: Moments | None
) -> tuple[Weights, Moments | None]:
    """(x, moments) after the server went along a mean difference, float64; x is rounded once."""
    if optimizer is None or moments is None:
        return (x + rate * step).astype(x.dtype), None
    direction, moments = optimizer.step(moments, step.astype(x.dtype))
    return x + rate * direction, moments
