"""Strategies: scores of samples as functions of the normalised loss h in [-1, 1].

The names are those of "Dynamic Loss-Based Sample Reweighting for Improved LLM Pretraining" (arXiv 2502.06733).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor

#: Normalised losses, (samples,) in [-1, 1] → scores, (samples,); a larger score gives a larger weight.
Strategy: TypeAlias = Callable[[Tensor], Tensor]


def uniform(h: Tensor) -> Tensor:
    """Every sample counts the same: 0.

    >>> import torch
    >>> uniform(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0.0, 0.0, 0.0]
    """
    return h.new_zeros(h.shape)


def linupper(h: Tensor) -> Tensor:
    """Down-weights low losses only: min(h + 1, 1).

    >>> import torch
    >>> linupper(torch.tensor([-1.0, -0.5, 0.0, 1.0])).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    return (h + 1).clamp(max=1)


def linear(h: Tensor) -> Tensor:
    """The higher the loss, the larger the weight: (h + 1) / 2.

    >>> import torch
    >>> linear(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return (h + 1) / 2


def quadratic(h: Tensor) -> Tensor:
    """Down-weights both ends: 1 - h².

    >>> import torch
    >>> quadratic(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    return 1 - h * h


def extremes(h: Tensor) -> Tensor:
    """Up-weights both ends: |h|. The paper's negative control.

    >>> import torch
    >>> extremes(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [1.0, 0.0, 1.0]
    """
    return h.abs()


#: Strategies by name.
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {f.__name__: f for f in (uniform, linupper, linear, quadratic, extremes)}
)


def strategy_of(strategy: str | Strategy) -> Strategy:
    """The strategy of a name; a function is returned unchanged.

    Raises ValueError for an unknown name.

    >>> strategy_of("linupper") is linupper
    True
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy == "upper":
        raise ValueError("strategy 'upper': published code has it for both; write 'linupper' or 'linear'")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r}: expected one of {', '.join(STRATEGIES)}, or a function of h")
    return STRATEGIES[strategy]
