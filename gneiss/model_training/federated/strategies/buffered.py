"""Buffered asynchronous strategies: the server steps whenever enough answers have arrived, from whatever weights.

FedAsync (Xie et al., arXiv 1903.03934), FedBuff (Nguyen et al., AISTATS 2022), FADAS and its delay-adaptive form (Wang
et al., ICML 2024, arXiv 2407.18365). Sites step by plain gradient descent. An answer is the difference from the weights
that the site was sent, however old: the site computes it, so no base can be mistaken.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from gneiss.model_training.federated.strategies.steps import AMSGrad, Moments, Weights, mean
from gneiss.model_training.federated.strategies.strategy import stepped

#: FedAsync's a.
MIXING = 0.6


@dataclass(frozen=True, eq=False)
class Arrival:
    """An answer; delay: τ, server updates since the weights that it started from."""

    site: str
    delay: int
    difference: Weights


@dataclass(frozen=True, eq=False)
class BufferedState:
    """What the server knows: weights, how many updates made them, what waits for the next, and AMSGrad's moments."""

    x: Weights
    updates: int = 0
    buffer: tuple[Arrival, ...] = ()
    moments: Moments | None = None


@dataclass(frozen=True)
class Buffered:
    """A rule for arrivals.

    rate: η; buffer_size: M, answers that make an update; server: AMSGrad on their mean, or None for the mean with
    weights (1 + τ)^-½; longest_delay: τ_c, beyond which an update has the rate η/τ_max, None for always η.
    """

    rate: float
    buffer_size: int
    server: AMSGrad | None = None
    longest_delay: int | None = None

    def begin(self, x: Weights) -> BufferedState:
        """The state before the first arrival."""
        return BufferedState(x, moments=None if self.server is None else self.server.begin(x))

    def receive(self, state: BufferedState, site: str, base: int, difference: Weights) -> BufferedState:
        """The state after an arrival; base: `updates` of the state from which the site was sent its weights."""
        buffer = (*state.buffer, Arrival(site, state.updates - base, difference))
        if len(buffer) < self.buffer_size:
            return BufferedState(state.x, state.updates, buffer, state.moments)
        ordered = sorted(buffer, key=lambda arrival: arrival.site)  # the order within an update changes nothing
        if self.server is None:
            step = mean([arrival.difference / sqrt(1 + arrival.delay) for arrival in ordered])
        else:
            step = mean([arrival.difference for arrival in ordered])
        x, moments = stepped(state.x, step, self.rate_for(buffer), self.server, state.moments)
        return BufferedState(x, state.updates + 1, (), moments)

    def rate_for(self, buffer: tuple[Arrival, ...]) -> float:
        """η of the update that a buffer makes. (The paper's min(η, 1/τ_max) never binds at the η that it uses.)"""
        longest = max(arrival.delay for arrival in buffer)
        if self.longest_delay is None or longest <= self.longest_delay:
            return self.rate
        return self.rate / longest
