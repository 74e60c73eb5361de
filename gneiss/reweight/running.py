"""State between steps: mean and variance of losses, the level of unnormalised weights, and counts.

A step only accumulates sums, so the number of micro-steps and ranks does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from gneiss.reweight.distributed import sum_over_ranks

#: Losses are clipped to this many standard deviations from the mean, so that an outlier cannot spoil the moments.
WINSOR = 4.0
#: How much faster than the averages the level of weights moves, because a cap dampens changes of the level.
APPROACH = 4.0


def wide(device: torch.device) -> torch.dtype:
    """The widest float of a device: float64, but float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass
class Running:
    """Exponential moving averages over steps, as scalars on one device; plain means until 1 / (1 - decay) steps.

    `updates`: steps that had samples; `mean`, `variance`: of losses; `level`: mean of the weights before they are
    divided by it; `empty`, `nonfinite`: samples so far. `sums` are those of the current step, folded in by `fold`.

    >>> running = Running.on(torch.device("cpu"))
    >>> running.observe(torch.tensor([1.0, 3.0]), torch.tensor([True, True]))
    >>> running.fold(decay=0.99)
    >>> running.mean.item(), running.variance.item()
    (2.0, 1.0)
    """

    updates: Tensor
    mean: Tensor
    variance: Tensor
    level: Tensor
    empty: Tensor
    nonfinite: Tensor
    sums: Tensor = field(repr=False)

    @classmethod
    def on(cls, device: torch.device) -> Running:
        """The state before the first step."""
        zero = torch.zeros((), dtype=wide(device), device=device)
        return cls(zero, zero, zero, zero + 1, zero, zero, zero.new_zeros(7))

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of losses."""
        return self.variance.sqrt()

    def observe(self, losses: Tensor, valid: Tensor) -> None:
        """Add losses, (samples,), to the sums of this step; invalid ones are ignored."""
        away = (losses - self.mean).where(valid, 0)
        reach = torch.where(self.updates > 0, WINSOR * self.deviation, torch.inf)
        away = away.clamp(-reach, reach)
        self.sums[:3] += torch.stack([valid.sum(), away.sum(), away.square().sum()])

    def observe_weights(self, weights: Tensor, mass: Tensor) -> None:
        """Add weights and their masses, (samples,), to the sums of this step."""
        self.sums[3:5] += torch.stack([(weights * mass).sum(), mass.sum()])

    def count(self, empty: Tensor, nonfinite: Tensor) -> None:
        """Add the numbers of empty samples, and of samples without a finite loss."""
        self.sums[5:] += torch.stack([empty, nonfinite])

    def fold(self, decay: float, *, ranks: bool = False, group: Any = None) -> None:
        """End the step: fold its sums into the averages; with `ranks`, those of all ranks, which must all call it."""
        sums = sum_over_ranks(self.sums, group) if ranks else self.sums
        n, first, second, weight, mass, empty, nonfinite = sums.unbind()
        seen = n > 0
        gain = (1 / (self.updates + 1)).clamp(min=1 - decay)
        shift = gain * (first / n).where(seen, 0)
        spread = self.variance + gain * (second / n - self.variance).where(seen, 0)
        # Where the mean weight is above one, divide by more: a fixed point also with a cap, which slows the approach.
        gain = (APPROACH / self.updates).clamp(min=APPROACH * (1 - decay), max=1)
        self.level = self.level * (1 + gain * (weight / mass - 1).where(mass > 0, 0))
        self.mean, self.variance = self.mean + shift, (spread - shift * shift).clamp(min=0)
        self.updates, self.empty, self.nonfinite = self.updates + seen, self.empty + empty, self.nonfinite + nonfinite
        self.sums = torch.zeros_like(self.sums)

    def state_dict(self) -> dict[str, Any]:
        """Everything as numbers, exact in JSON."""
        return {f.name: getattr(self, f.name).tolist() for f in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device) -> Running:
        """The inverse of `state_dict`, on a device."""
        values = {f.name: torch.tensor(state[f.name], dtype=wide(device), device=device) for f in fields(cls)}
        return cls(**values)
