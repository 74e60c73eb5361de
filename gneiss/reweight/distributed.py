"""Communication between ranks: columns of samples, sums, and token counts.

The rank is the process group's, never an environment variable: LOCAL_RANK restarts on every machine.
Without an initialised process group there is one rank, and no communication.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def place(group: Any = None) -> tuple[int, int]:
    """The rank of this process in a process group (default: all processes), and the group's size.

    Raises ValueError for a group that this process is not in.

    >>> place()
    (0, 1)
    """
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise ValueError("group: this process is not in it; pass the data-parallel group that it is in")
    return rank, world


def gather_columns(columns: Sequence[Tensor], group: Any = None) -> tuple[list[Tensor], int]:
    """The samples of all ranks, rank 0 first, and where those of this rank start; ranks may differ in their number.

    Parameters: `columns`: float32 or int64, each (local samples,), the same dtypes in the same order on every rank;
    `group`: a process group. Every rank must call it, with empty columns if it has no samples. Bits are preserved.

    >>> gather_columns([torch.tensor([1.0, 2.0]), torch.tensor([7, 8])])
    ([tensor([1., 2.]), tensor([7, 8])], 0)
    """
    rank, world = place(group)
    if world == 1:
        return list(columns), 0
    rows = torch.stack([_as_integers(column) for column in columns], dim=1)
    counts = _all_gather(torch.tensor([len(rows)], device=rows.device), world, group)
    samples: list[int] = counts.tolist()
    longest = max(samples)
    if not longest:
        return list(columns), 0
    padded = rows.new_zeros(longest, rows.shape[1])
    padded[: len(rows)] = rows
    everyone = _all_gather(padded, world, group)
    if min(samples) < longest:
        everyone = everyone[(torch.arange(longest, device=rows.device) < counts[:, None]).flatten()]
    parts = everyone.unbind(1)
    return [_from_integers(part, like) for part, like in zip(parts, columns, strict=True)], sum(samples[:rank])


def sum_over_ranks(values: Tensor, group: Any = None) -> Tensor:
    """The elementwise sum over all ranks, as a new tensor; every rank must call it.

    >>> sum_over_ranks(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    total = values.clone()
    if place(group)[1] > 1:
        dist.all_reduce(total, group=group)
    return total


def tokens_per_rank(mask: Tensor, group: Any = None) -> Tensor:
    """The mean over ranks of the unmasked tokens: the divisor for each rank's sum of token losses.

    DDP's mean of the ranks' gradients is then exactly the gradient of the mean over all tokens, however uneven the
    ranks are. Parameters: `mask`: (samples, tokens) bool; every rank must call it. Returns a float32 scalar.

    >>> tokens_per_rank(torch.tensor([[True, True, False]]))
    tensor(2.)
    """
    return sum_over_ranks(mask.sum(), group).clamp(min=1) / place(group)[1]


def _all_gather(values: Tensor, world: int, group: Any) -> Tensor:
    """Tensors of equal shape from all ranks, concatenated."""
    received = values.new_empty(world * len(values), *values.shape[1:])
    gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor  # new name
    gather(received, values, group=group)
    return received


def _as_integers(column: Tensor) -> Tensor:
    return column if column.dtype == torch.int64 else column.contiguous().view(torch.int32).to(torch.int64)


def _from_integers(column: Tensor, like: Tensor) -> Tensor:
    return column if like.dtype == torch.int64 else column.to(torch.int32).view(torch.float32)
