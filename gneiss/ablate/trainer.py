"""The trainer: one loop for one model on one corpus, judged as it goes. Needs torch.

Where there are several processes, each takes its part of every batch and of every held-out set, and gradients and
losses are summed: what is learnt is what one process learns, but for the order of additions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gneiss.ablate.model import GPT
from gneiss.ablate.point import Point
from gneiss.ablate.sizes import Training
from gneiss.ablate.tokens import NO_LABEL, Judged
from gneiss.arrays import Int32Array
from gneiss.errors import InputError
from gneiss.reweight.distributed import place, sum_over_ranks
from gneiss.reweight.reweighter import SampleReweighter
from gneiss.reweight.tokens import token_losses
from gneiss.reweight.trainers import reweighted_loss

_JUDGED_SEQUENCES = 64
#: From the step to its share of the highest learning rate.
Schedule = Callable[[int], float]


def falling(training: Training) -> Schedule:
    """A warm-up, then a line to 0 at the end."""
    warm_up = max(1, round(training.warm_up_share * training.steps))
    return lambda step: min((step + 1) / warm_up, (training.steps - step) / max(1, training.steps - warm_up))


def constant(training: Training) -> Schedule:
    """A warm-up, then the highest rate: a base to anneal."""
    warm_up = max(1, round(training.warm_up_share * training.steps))
    return lambda step: min((step + 1) / warm_up, 1.0)


def annealing(training: Training) -> Schedule:
    """From the highest rate in a line to 0, without a warm-up."""
    return lambda step: 1 - step / training.steps


def train(
    model: GPT,
    sequences: Int32Array,
    domains: Mapping[str, Judged],
    training: Training,
    *,
    schedule: Schedule,
    seed: int,
    reweighter: SampleReweighter | None = None,
) -> list[Point]:
    """Train a model in place, and judge it at even distances and at the end.

    Parameters: `sequences`: int32 (steps · batch, length + 1); `domains`: what it is judged on; `schedule`: of the
    learning rate; `seed`: of the order of sequences; `reweighter`: weighs them by their losses, by default none.
    Raises InputError for a batch with fewer sequences than there are processes.
    """
    rank, world = place()
    if training.batch < world:
        raise InputError(f"batch {training.batch}: expected a sequence or more for each of {world} processes")
    device = torch.device(training.device)
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, training.highest_rate, betas=(0.9, 0.95))
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(seed))
    judged_at = {round(training.steps * (i + 1) / training.evaluations) for i in range(training.evaluations)}
    points = []
    for step in range(training.steps):
        rows = order[step * training.batch : (step + 1) * training.batch][rank::world].numpy()
        tokens = torch.from_numpy(sequences[rows]).to(device, torch.int64)
        for group in optimizer.param_groups:
            group["lr"] = training.highest_rate * schedule(step)
        with _precision(device):
            logits = model(tokens[:, :-1])
            if reweighter is None:
                loss = cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
            else:
                loss = reweighted_loss(reweighter, *token_losses(logits, tokens[:, 1:], shift=False)).loss
        optimizer.zero_grad()
        (loss * (len(rows) / training.batch)).backward()
        _sum_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if reweighter is not None:
            reweighter.step()
        if step + 1 in judged_at:
            points.append(Point((step + 1) * training.step_tokens, judge(model, domains, training.device)))
    return points


def judge(model: GPT, domains: Mapping[str, Judged], device: str = "cpu") -> dict[str, float]:
    """Bits per byte of each domain: the loss of all its tokens, in bits, over the bytes of its texts."""
    found = {}
    rank, world = place()
    for name, domain in domains.items():
        nats = 0.0
        for at in range(rank * _JUDGED_SEQUENCES, len(domain.inputs), world * _JUDGED_SEQUENCES):
            rows = slice(at, at + _JUDGED_SEQUENCES)
            with torch.inference_mode(), _precision(torch.device(device)):
                logits = model(torch.from_numpy(domain.inputs[rows]).to(device)).flatten(0, 1).float()
                labels = torch.from_numpy(domain.labels[rows]).to(device).flatten()
                losses: Tensor = cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
            nats += float(losses)
        nats = float(sum_over_ranks(torch.tensor(nats, dtype=torch.float64, device=device)))
        found[name] = nats / math.log(2) / domain.text_bytes
    return found


def _sum_gradients(model: GPT) -> None:
    """Each process has the gradients of its part of a batch, scaled to that part."""
    if place()[1] > 1:
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad = sum_over_ranks(parameter.grad)


def _precision(device: torch.device) -> torch.autocast:
    """bfloat16 for what a GPU multiplies; float32 on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
