"""Normalizers: from the losses of a batch to h in [-1, 1]."""

from __future__ import annotations

import math

from torch import Tensor

#: Ranges of losses below this count as zero; the paper's code has the same floor.
SMALLEST_RANGE = 1e-6


def minmax(losses: Tensor, valid: Tensor) -> Tensor:
    """The smallest loss at -1, the largest at 1, as in the paper; one outlier flattens all others.

    Parameters: `losses`: (samples,) floats; `valid`: (samples,) bool, others take no part and are 0.
    Source: arXiv 2502.06733.

    >>> import torch
    >>> minmax(torch.tensor([1.0, 2.0, 3.0, torch.nan]), torch.tensor([True, True, True, False])).tolist()
    [-1.0, 0.0, 1.0, 0.0]
    """
    low = losses.where(valid, math.inf).amin()
    high = losses.where(valid, -math.inf).amax()
    return _between(losses, low, high).where(valid, 0)


def quantile(losses: Tensor, valid: Tensor, share: float = 0.05) -> Tensor:
    """A low quantile at -1, a high one at 1, clipped outside: outliers on either side have little effect.

    Parameters: `losses`: (samples,) floats; `valid`: (samples,) bool, others take no part and are 0; `share`: of the
    valid samples, cut at each end. Both quantiles are samples, rounded inwards, so that even in a batch of four neither
    is an extreme.

    >>> import torch
    >>> h = quantile(torch.tensor([1.0, 2.0, 3.0, 4.0, 1e9]), torch.ones(5, dtype=torch.bool))
    >>> h.tolist()
    [-1.0, -1.0, 0.0, 1.0, 1.0]
    """
    present = losses.where(valid, math.nan)
    low = present.nanquantile(share, interpolation="higher")
    high = present.nanquantile(1 - share, interpolation="lower")
    return _between(losses, low, high).clamp(-1, 1).where(valid, 0)


def standardized(losses: Tensor, valid: Tensor, mean: Tensor, deviation: Tensor, width: float = 2.0) -> Tensor:
    """The mean at 0, `width` standard deviations below and above it at -1 and 1, clipped.

    Parameters: `losses`: (samples,) floats; `valid`: (samples,) bool, others are 0; `mean`, `deviation`: scalars, of
    losses seen before (gneiss.reweight.running); `width`: standard deviations.

    >>> import torch
    >>> mean, deviation = torch.tensor(3.0), torch.tensor(0.5)
    >>> standardized(torch.tensor([1.0, 3.0, 3.5, 1e9]), torch.ones(4, dtype=torch.bool), mean, deviation).tolist()
    [-1.0, 0.0, 0.5, 1.0]
    """
    scale = (width * deviation).clamp(min=SMALLEST_RANGE)
    return ((losses - mean) / scale).clamp(-1, 1).where(valid, 0)


def _between(losses: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return 2 * (losses - low) / (high - low).clamp(min=SMALLEST_RANGE) - 1
