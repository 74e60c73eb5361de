"""From weights to a training step: the loss of a plain (DDP) loop, and the first pass of two-pass weights.

The loss is the trainer's own, with each sample's token losses multiplied by its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from gneiss.reweight.reweighter import SampleReweighter
from gneiss.reweight.tokens import Samples, samples_of

Batch = TypeVar("Batch")


@dataclass(frozen=True, eq=False)
class ReweightedLoss:
    """The loss of a micro-batch, weighted and unweighted.

    `loss`: float32 scalar, to call `backward` on; `unweighted`: the same reduction with all weights 1, without
    gradient, for logging; `weights`: (samples,) float32; `samples`: their inputs.
    """

    loss: Tensor
    unweighted: Tensor
    weights: Tensor
    samples: Samples


def weighted_sum(losses: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Σ weight · loss over unmasked tokens of samples with a weight above 0: a NaN of weight 0 adds nothing.

    Its gradient adds nothing either as far as the loss; where NaN came from the model's activations, the gradient of
    shared parameters is NaN whatever the weight, and the step is to be skipped.
    Parameters: `losses`: (samples, tokens); `mask`: (samples, tokens) bool; `weights`: (samples,). Returns a scalar.

    >>> losses = torch.tensor([[1.0, 2.0], [torch.nan, 1.0]])
    >>> weighted_sum(losses, torch.ones(2, 2, dtype=torch.bool), torch.tensor([1.5, 0.0])).item()
    4.5
    """
    weights = weights[:, None]
    return (losses.where(mask & (weights > 0), 0) * weights).sum()


def reweighted_loss(
    reweighter: SampleReweighter,
    losses: Tensor,
    mask: Tensor,
    *,
    log_prior: Tensor | None = None,
    domain: Tensor | None = None,
    weights: Tensor | None = None,
    denominator: Tensor | None = None,
) -> ReweightedLoss:
    """The weighted loss of a micro-batch; every rank calls it, with empty tensors where it has no samples.

    Parameters: `losses`: (samples, tokens) token losses with gradient; `mask`: (samples, tokens) bool; `log_prior`,
    `domain`: as in SampleReweighter.weights; `weights`: (samples,), if they are known already (two passes);
    `denominator`: the divisor of the sum, by default this rank's unmasked tokens. With
    gneiss.reweight.distributed.tokens_per_rank, the mean of gradients that DDP takes is that over all ranks' tokens.

    >>> losses = torch.tensor([[1.0, 1.0], [3.0, 3.0]], requires_grad=True)
    >>> found = reweighted_loss(SampleReweighter("linupper"), losses, torch.ones(2, 2, dtype=torch.bool))
    >>> round(found.loss.item(), 4), found.unweighted.item()
    (2.4621, 2.0)
    """
    samples = samples_of(losses, mask, log_prior=log_prior, domain=domain)
    if weights is None:
        weights = reweighter.weights(samples.losses, tokens=samples.tokens, log_prior=log_prior, domain=domain)
    denominator = mask.sum().clamp(min=1) if denominator is None else denominator
    return ReweightedLoss(
        loss=weighted_sum(losses, mask, weights) / denominator,
        unweighted=losses.detach().where(mask, 0).sum() / denominator,
        weights=weights,
        samples=samples,
    )


def two_pass_weights(
    reweighter: SampleReweighter, forward: Callable[[Batch], Samples], micro_batches: Sequence[Batch]
) -> list[Tensor]:
    """The weights of all micro-batches of an optimizer step, from a forward pass without gradients.

    Parameters: `reweighter`: with scope `step-two-pass`; `forward`: from a micro-batch to its samples (`samples_of`);
    `micro_batches`: of this rank and step, at least one, which may be empty. Returns (samples,) float32 for each.
    The random state is restored, so that dropout masks are the same in the following passes.
    Raises ValueError for another scope.

    >>> reweighter = SampleReweighter("linupper", scope="step-two-pass")
    >>> forward = lambda losses: samples_of(losses, torch.ones_like(losses, dtype=torch.bool))
    >>> first, second = two_pass_weights(reweighter, forward, [torch.tensor([[1.0]]), torch.tensor([[2.0], [3.0]])])
    >>> len(first), len(second), round((first.sum() + second.sum()).item(), 5)
    (1, 2, 3.0)
    """
    if reweighter.scope != "step-two-pass":
        raise ValueError(f"two passes need scope 'step-two-pass', found {reweighter.scope!r}")
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        found = [forward(batch) for batch in micro_batches]
    weights = reweighter.weights(
        torch.cat([samples.losses for samples in found]),
        tokens=torch.cat([samples.tokens for samples in found]),
        log_prior=_joined([samples.log_prior for samples in found]),
        domain=_joined([samples.domain for samples in found]),
    )
    return list(torch.split(weights, [len(samples) for samples in found]))


def _joined(columns: Sequence[Tensor | None]) -> Tensor | None:
    present = [column for column in columns if column is not None]
    return torch.cat(present) if present else None
