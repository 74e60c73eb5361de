"""torchtitan's loss: a sum of token losses, divided by the tokens of all ranks; does not need torchtitan.

Weights have mean one over the tokens of all ranks, so torchtitan's own token count remains the right divisor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gneiss.reweight.reweighter import SampleReweighter
from gneiss.reweight.tokens import token_losses
from gneiss.reweight.trainers import reweighted_loss


def torchtitan_loss(
    reweighter: SampleReweighter,
    pred: Tensor,
    labels: Tensor,
    global_valid_tokens: Tensor | float | None = None,
    *,
    sequence_length: int | None = None,
    log_prior: Tensor | None = None,
    domain: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """torchtitan's cross-entropy with weighted samples; `functools.partial` binds the reweighter to its signature.

    Parameters: `pred`: logits, (tokens, vocabulary) or (samples, tokens, vocabulary); `labels`: (tokens,) or (samples,
    tokens) integers, not to be shifted, -100 for no loss; `global_valid_tokens`: the divisor of the sum, by default
    none; `sequence_length`: tokens of a sample, needed if batches have no sample dimension;
    `log_prior`, `domain`: (samples,), as in SampleReweighter.weights; other arguments (`positions`) are ignored.
    Returns the loss and no metrics. The gradient is that of the weighted loss; the value is the unweighted one, since
    torchtitan logs what it differentiates. Without gradients (validation) nothing is weighted.
    Raises ValueError for shapes that do not fit. Source: torchtitan/components/loss.py, `CrossEntropyLoss`.

    >>> pred = torch.zeros(4, 2, requires_grad=True)  # two samples of two tokens
    >>> loss, _ = torchtitan_loss(SampleReweighter(), pred, torch.tensor([0, 1, 1, -100]), 3, sequence_length=2)
    >>> round(loss.item(), 4)
    0.6931
    """
    if pred.shape[:-1] != labels.shape or labels.ndim not in (1, 2):
        raise ValueError(
            f"pred: expected logits (tokens, vocabulary) or (samples, tokens, vocabulary) for labels of shape"
            f" {tuple(labels.shape)}, found {tuple(pred.shape)}"
        )
    length = labels.shape[-1] if sequence_length is None else sequence_length
    if labels.ndim == 1 and sequence_length is None:
        raise ValueError("sequence_length: pred and labels are flat; pass the number of tokens of a sample")
    if length < 1 or labels.shape[-1] % length:
        raise ValueError(
            f"sequence_length: {length} does not divide the {labels.shape[-1]} tokens of labels; every sample must be"
            " whole: use torchtitan's CrossEntropyLoss, not its chunked loss, and no context parallelism"
        )
    rows = labels.reshape(-1, length)
    losses, mask = token_losses(pred.reshape(*rows.shape, pred.shape[-1]), rows, shift=False)
    found = reweighted_loss(
        reweighter,
        losses,
        mask,
        log_prior=log_prior,
        domain=domain,
        weights=None if torch.is_grad_enabled() else losses.new_ones(len(losses)),
        denominator=torch.as_tensor(1 if global_valid_tokens is None else global_valid_tokens, device=losses.device),
    )
    return found.loss + (found.unweighted - found.loss).detach(), {}
