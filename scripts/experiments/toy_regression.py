"""Linear regressions in which the steps to a given excess risk can be counted, by strategy.

The first is the paper's (arXiv 2502.06733): noise-free, an ill-conditioned Gaussian. The others ask what is left of its
ordering when step sizes are tuned, when samples are redundant, and when labels are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from types import MappingProxyType

import torch
from torch import Tensor

from gneiss.reweight.reweighter import SampleReweighter
from gneiss.reweight.strategies import Strategy, linupper

TARGET_RISK = 1e-3
#: A run whose risk is above that has diverged; it starts below 10.
DIVERGED_RISK = 1e3
#: A little above the best step size runs diverge, on other seeds also at it: all take this share of their best.
STEP_SIZE_MARGIN = 0.9


@dataclass(frozen=True, eq=False)
class Regression:
    """y = x·θ for a θ on the unit sphere, fresh samples in every step, loss (x·θ_t - y)², θ_0 = 0.

    scales: (kinds, d) standard deviations of the coordinates of x, by kind of sample; shares: of each kind;
    outlier_share: of labels, to which normal noise with the standard deviation outlier_scale is added.
    """

    scales: Tensor
    shares: tuple[float, ...]
    batch: int
    outlier_share: float = 0.0
    outlier_scale: float = 1.0

    def batches(self, generator: torch.Generator) -> tuple[Tensor, Iterator[tuple[Tensor, Tensor]]]:
        """θ, (d,), and batches without end: x (batch, d) and y (batch,), float64."""
        shape = self.batch, self.scales.shape[1]
        target = torch.randn(shape[1], generator=generator, dtype=torch.float64)
        target = target / target.norm()
        bounds = torch.tensor(self.shares, dtype=torch.float64).cumsum(0)[:-1]

        def iterate() -> Iterator[tuple[Tensor, Tensor]]:
            while True:
                kind = torch.bucketize(torch.rand(self.batch, generator=generator, dtype=torch.float64), bounds)
                x = torch.randn(shape, generator=generator, dtype=torch.float64) * self.scales[kind]
                y = x @ target
                if self.outlier_share:
                    wrong = torch.rand(self.batch, generator=generator) < self.outlier_share
                    noise = torch.randn(self.batch, generator=generator, dtype=torch.float64)
                    y = y + wrong * noise * self.outlier_scale
                yield x, y

        return target, iterate()

    def excess_risk(self, error: Tensor) -> float:
        """E (x·error)² over all samples, for error = θ_t - θ."""
        variances = torch.tensor(self.shares, dtype=torch.float64) @ self.scales**2
        return float(variances @ error**2)


@dataclass(frozen=True)
class Weighting:
    """A strategy at a temperature."""

    strategy: str | Strategy
    r: float = 1.0

    @property
    def name(self) -> str:
        strategy = self.strategy if isinstance(self.strategy, str) else self.strategy.__name__
        return strategy if self.r == 1 else f"{strategy} r={self.r:g}"


def paper_regression(batch: int = 128, **outliers: float) -> Regression:
    """x ~ N(0, diag(1 / j)) for j = 1 to 100."""
    return Regression(torch.arange(1, 101, dtype=torch.float64).rsqrt()[None], (1.0,), batch, **outliers)


def redundant_regression(dimensions: int = 50, subspace: int = 5, scale: float = 3.0, share: float = 0.9) -> Regression:
    """A share of the samples lies in a small subspace, at a larger scale; the others are N(0, I)."""
    scales = torch.ones(2, dimensions, dtype=torch.float64)
    scales[0, :subspace], scales[0, subspace:] = scale, 0
    return Regression(scales, (share, 1 - share), 64)


def linupper_trimmed(h: Tensor) -> Tensor:
    """LinUpper over all but the tenth of the samples with the highest losses, which get weight 0."""
    stays = h <= torch.quantile(h, 0.9)
    low, high = h[stays].min(), h[stays].max()
    return linupper(2 * (h - low) / (high - low).clamp(min=1e-6) - 1).where(stays, -math.inf)


def risks(regression: Regression, weighting: Weighting, step_size: float, seed: int) -> Iterator[float]:
    """The excess risk after every step of weighted gradient descent, until it diverges; equal seeds, equal samples."""
    target, batches = regression.batches(torch.Generator().manual_seed(seed))
    reweighter = SampleReweighter(weighting.strategy, r=weighting.r)
    parameters = torch.zeros_like(target)
    for x, y in batches:
        residuals = x @ parameters - y
        weights = reweighter.weights(residuals**2).double()
        reweighter.step()
        parameters = parameters - step_size * 2 * (weights * residuals) @ x / len(x)
        risk = regression.excess_risk(parameters - target)
        if not risk < DIVERGED_RISK:
            return
        yield risk


def steps_to_target(
    regression: Regression, weighting: Weighting, step_size: float, seed: int, limit: int = 2000
) -> float:
    """Steps until the excess risk is at most 10⁻³; infinite where it diverges or the limit comes first."""
    found = islice(risks(regression, weighting, step_size, seed), limit)
    return next((step for step, risk in enumerate(found, 1) if risk <= TARGET_RISK), math.inf)


def tuned_step_size(
    regression: Regression, weighting: Weighting, grid: Sequence[float], seeds: Sequence[int], limit: int
) -> float:
    """The step size of a grid with the fewest steps, in the sum over seeds, times the margin.

    Raises ValueError where none gets to the target in `limit` steps for all seeds.
    """
    best, fewest = math.nan, limit * len(seeds) + 1.0
    for step_size in sorted(grid, reverse=True):  # from above, the best comes early, and cuts short what is slower
        left = fewest
        for seed in seeds:
            left -= steps_to_target(regression, weighting, step_size, seed, limit=min(limit, int(left)))
            if left <= 0:
                break
        if left > 0:
            best, fewest = step_size, fewest - left
    if math.isnan(best):
        raise ValueError(f"{weighting.name}: no step size from {min(grid):g} to {max(grid):g} gets to the target")
    return STEP_SIZE_MARGIN * best


def geometric(low: float, high: float, factor: float) -> list[float]:
    """From low to at most high, each the last times a factor.

    >>> geometric(1, 4, 2)
    [1, 2, 4]
    """
    return [low * factor**k for k in range(1 + math.floor(math.log(high / low) / math.log(factor) + 1e-9))]


#: Step sizes that are tried; the best of every weighting lies inside.
PAPER_GRID = tuple(geometric(0.4, 1.3, 1.04))
REDUNDANT_GRID = tuple(geometric(0.035, 0.15, 1.06))


@dataclass(frozen=True)
class Steps:
    """Steps to the target by seed, with the step size they were taken at."""

    step_size: float
    by_seed: tuple[float, ...]


Weightings = Mapping[str, Weighting]
PAPER: Weightings = MappingProxyType(
    {name: Weighting(name) for name in ("linupper", "quadratic", "linear", "uniform", "extremes")}
)
TUNED: Weightings = MappingProxyType({name: Weighting(name) for name in ("linupper", "quadratic", "uniform")})
REDUNDANT: Weightings = MappingProxyType({**TUNED, "linupper r=0.4": Weighting("linupper", 0.4)})
OUTLIERS: Weightings = MappingProxyType({**TUNED, "linupper_trimmed": Weighting(linupper_trimmed)})


def fixed_steps(
    regression: Regression, weightings: Weightings, step_size: float, seeds: Sequence[int]
) -> dict[str, Steps]:
    """Steps to the target at the same step size for all."""
    return {
        name: Steps(step_size, tuple(steps_to_target(regression, weighting, step_size, seed) for seed in seeds))
        for name, weighting in weightings.items()
    }


def tuned_steps(
    regression: Regression,
    weightings: Weightings,
    grid: Sequence[float],
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    limit: int,
) -> dict[str, Steps]:
    """Steps to the target, each at its own best step size, which is found on other seeds in up to `limit` steps."""
    found: dict[str, Steps] = {}
    for name, weighting in weightings.items():
        step_size = tuned_step_size(regression, weighting, grid, tuning_seeds, limit)
        found |= fixed_steps(regression, {name: weighting}, step_size, seeds)
    return found


def final_risks(
    regression: Regression, weightings: Weightings, step_size: float, seeds: Sequence[int], steps: int = 800
) -> dict[str, tuple[float, ...]]:
    """By seed, the excess risk in the mean over the last quarter of the steps, for labels that never fit."""

    def final(weighting: Weighting, seed: int) -> float:
        found = list(islice(risks(regression, weighting, step_size, seed), steps))
        return fmean(found[-(steps // 4) :]) if len(found) == steps else math.inf

    return {name: tuple(final(weighting, seed) for seed in seeds) for name, weighting in weightings.items()}


def saved(steps: Mapping[str, Steps], name: str) -> tuple[float, ...]:
    """By seed, the share of uniform's steps that another needs less."""
    pairs = zip(steps[name].by_seed, steps["uniform"].by_seed, strict=True)
    return tuple(1 - pair / uniform for pair, uniform in pairs)
