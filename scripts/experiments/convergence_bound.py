"""A bound on weighted gradient descent, checked term by term.

For f_i convex and L-smooth with one θ* that minimises all of them, weights w_t in the simplex, a step size η < 1 / L,
D = ‖θ_0 - θ*‖ and F the mean of the f_i:

    (1/T) Σ_t [F(θ_t) - F*]  ≤  D² / (2η(1 - ηL)T)  -  (1/T) Σ_t Σ_i (w_ti - 1/n)(f_i(θ_t) - f_i*)

The first term on the right is that of uniform weights, the second the gain. With f_i* = 0 a score that does not fall
with the loss makes the gain at least 0 (Chebyshev's sum inequality).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from toy_regression import Weighting

from gneiss.reweight.reweighter import SampleReweighter

#: Loss of a residual: both are convex, with a second derivative of at most 1 and the minimum 0.
LOSSES = ("squared", "pseudo-huber")
WEIGHTINGS = (
    *(Weighting(name) for name in ("uniform", "linupper", "linear", "quadratic", "extremes")),
    Weighting("linupper", 0.4),
)
#: Their scores do not fall with the loss.
NON_DECREASING = frozenset({"uniform", "linupper", "linear"})


@dataclass(frozen=True)
class Terms:
    """One run: mean_gap ≤ descent - gain is what the bound says."""

    loss: str
    weighting: Weighting
    seed: int
    mean_gap: float
    descent: float
    gain: float

    @property
    def bound(self) -> float:
        return self.descent - self.gain

    @property
    def holds(self) -> bool:
        return self.mean_gap <= self.bound

    @property
    def gain_is_due(self) -> bool:
        """Whether the gain has to be at least 0."""
        return self.weighting.strategy in NON_DECREASING


def terms(loss: str, weighting: Weighting, seed: int, *, samples: int = 64, d: int = 20, steps: int = 100) -> Terms:
    """Gradient descent over all samples in every step, at η = 1 / (2L), and what the bound has to say about it."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, d + 1, dtype=torch.float64).rsqrt()
    x = torch.randn(samples, d, generator=generator, dtype=torch.float64) * scales
    target = torch.randn(d, generator=generator, dtype=torch.float64)
    smoothness = float((x**2).sum(1).max())
    step_size = 0.5 / smoothness
    reweighter = SampleReweighter(weighting.strategy, r=weighting.r)
    parameters = torch.zeros_like(target)
    gaps, gains = [], []
    for _ in range(steps):
        losses, slopes = _losses(loss, x @ (parameters - target))
        weights = reweighter.weights(losses).double()
        reweighter.step()
        weights = weights / weights.sum()
        gaps.append(float(losses.mean()))
        gains.append(float((weights - 1 / samples) @ losses))
        parameters = parameters - step_size * (weights * slopes) @ x
    descent = float(target @ target) / (2 * step_size * (1 - step_size * smoothness) * steps)
    return Terms(loss, weighting, seed, sum(gaps) / steps, descent, sum(gains) / steps)


def _losses(loss: str, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and their derivatives by the residual, (samples,) each."""
    if loss == "squared":
        return residuals**2 / 2, residuals
    root = (1 + residuals**2).sqrt()
    return root - 1, residuals / root


def all_terms(seeds: Sequence[int]) -> list[Terms]:
    """Every loss and weighting for every seed."""
    return [terms(loss, weighting, seed) for loss in LOSSES for weighting in WEIGHTINGS for seed in seeds]
