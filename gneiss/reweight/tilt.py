"""The closed form of the weights: the exponential tilt of a prior, with mean one.

Of all weights with mean one, w ∝ π exp(s / r) maximises Σ w s - r Σ w log(w / π): the mean score minus r times the
KL divergence from the prior. A cap adds w ≤ cap, and the maximiser keeps its form below the cap.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def tilt(
    scores: Tensor,
    r: float,
    *,
    mass: Tensor | None = None,
    log_prior: Tensor | None = None,
    groups: Tensor | None = None,
    cap: float = math.inf,
) -> Tensor:
    """Weights w ∝ π exp(s / r) with Σ mass·w = Σ mass: exactly 1.0 each if s / r and π are constant.

    Parameters: `scores`: (samples,) floats; `r`: > 0, `math.inf` for the prior only; `mass`: (samples,) ≥ 0, what a
    sample counts for in the mean, 1 by default, 0: takes no part, weight 0; `log_prior`: (samples,), 0 by default,
    -inf for weight 0; `groups`: (samples,) integers, every group keeps the mass that the prior gives it (tilted in
    itself), by default all are one group; `cap`: ≥ 1, no weight is above `cap` times the mean of its group. What lies
    above it goes to the group's other samples, in proportion to their weights.
    Source: arXiv 2502.06733, there with Σ w = 1 and a uniform prior.

    >>> tilt(torch.tensor([0.0, 0.0, 1.0]), math.inf).tolist()
    [1.0, 1.0, 1.0]
    >>> w = tilt(torch.tensor([0.0, 0.0, math.log(4)]), 1.0)
    >>> [round(x, 6) for x in w.tolist()]
    [0.5, 0.5, 2.0]
    >>> [round(x, 6) for x in tilt(torch.tensor([0.0, 0.0, math.log(4)]), 1.0, cap=1.5).tolist()]
    [0.75, 0.75, 1.5]
    """
    mass = scores.new_ones(scores.shape) if mass is None else mass
    log_prior = scores.new_zeros(scores.shape) if log_prior is None else log_prior
    if not len(scores):
        return scores.new_zeros(0)
    # One row per group: sums over rows are deterministic, unlike scattered additions on a GPU.
    one = scores.new_zeros(scores.shape, dtype=torch.int64)
    _, group = torch.unique(groups, return_inverse=True) if groups is not None else (None, one)
    rows = int(group.max()) + 1 if groups is not None else 1
    member = (group == torch.arange(rows, device=scores.device)[:, None]) & (mass > 0)
    masses = mass.where(member, 0)
    size = masses.sum(1, keepdim=True)
    prior = masses * _exp(log_prior.expand(rows, -1), member, _peak(log_prior, mass > 0))
    target = _ratio(_ratio(prior.sum(1, keepdim=True), size), _ratio(prior.sum(), size.sum()))
    if groups is None:
        target = target.new_ones(target.shape)  # the mean over all is exactly one
    logits = (scores / r + log_prior).expand(rows, -1)
    tilted = _exp(logits, member, _peak(logits, member))
    weights = tilted * (target * _ratio(size, (masses * tilted).sum(1, keepdim=True)))
    if cap < math.inf:
        weights = capped(weights, masses, target, cap)
    return weights.sum(0)


def capped(weights: Tensor, mass: Tensor, mean: Tensor, cap: float) -> Tensor:
    """Weights of at most `cap` times their row's mean, the others of the row scaled up so that the mean stays.

    Parameters: `weights`, `mass`: (rows, samples), `mass` 0 for what is not in a row; `mean`: (rows, 1), the weighted
    mean of each row; `cap`: ≥ 1. This is min(c·w, cap·mean) with the c that keeps the mean; where too few weights are
    above zero for that, all of them are at the cap.

    >>> w = torch.tensor([[0.25, 0.25, 0.5, 3.0]])
    >>> capped(w, torch.ones(1, 4), torch.ones(1, 1), 2.0).tolist()
    [[0.5, 0.5, 1.0, 2.0]]
    """
    level = cap * mean
    order = weights.argsort(dim=1, stable=True)
    ordered, masses = weights.gather(1, order), mass.gather(1, order)
    # With all heavier samples at the cap, c is what is left over for this one and the lighter. Capping one more raises
    # c as long as that one is above the cap, and lowers it from then on: the c asked for is the largest.
    lighter = (masses * ordered).cumsum(1)
    heavier = mass.sum(1, keepdim=True) - masses.cumsum(1)
    left = mean * mass.sum(1, keepdim=True) - level * heavier
    factor = _ratio(left, lighter).amax(1, keepdim=True)
    # Weights near zero may need an infinite factor; one of zero stays zero.
    return (factor * weights).where(weights > 0, 0).minimum(level)


def _peak(logits: Tensor, member: Tensor) -> Tensor:
    """The largest logit of each row, 0 in a row without any."""
    peak = logits.where(member, -math.inf).amax(-1, keepdim=True)
    return peak.where(peak > -math.inf, 0)


def _exp(logits: Tensor, member: Tensor, peak: Tensor) -> Tensor:
    return (logits - peak).exp().where(member, 0)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, 0 where the divisor is 0."""
    return (above / below).where(below > 0, 0)
