"""One rank of gloo groups of 1, 2 and 4, run by test_distributed.py: python gloo_process.py RANK FOLDER.

Every rank takes its share of the same global batches, and writes the weights and parameters it ends with.
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gneiss.reweight.distributed import place, sum_over_ranks, tokens_per_rank
from gneiss.reweight.reweighter import SampleReweighter
from gneiss.reweight.tokens import Samples, samples_of, token_losses
from gneiss.reweight.torchtitan import torchtitan_loss
from gneiss.reweight.trainers import reweighted_loss, two_pass_weights

SAMPLES, LENGTH, VOCABULARY, STEPS = 12, 10, 17, 4
#: Which samples rank r of w has at step t is SHARES[w][t]; ranks without any are there, too.
SHARES = {
    1: [[12], [12], [12], [12]],
    2: [[6, 6], [7, 5], [12, 0], [0, 12]],
    4: [[3, 3, 3, 3], [5, 4, 3, 0], [12, 0, 0, 0], [0, 1, 0, 11]],
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "paper": {"r": 0.4, "burn_in_steps": 1},
    "quantile": {"strategy": "linear", "normalizer": "quantile", "cap": 1.5},
    "ema": {"strategy": "quadratic", "normalizer": "ema"},
    "sequence": {"estimand": "sequence"},
    "domains": {"strategy": "linear", "domain_mode": "preserve", "cap": 1.2},
    "two-pass": {"scope": "step-two-pass", "strategy": "linear"},
    "running": {"scope": "step-ema", "normalizer": "ema", "strategy": "linear", "cap": 2.0},
}


def batch(step: int) -> dict[str, Tensor]:
    """A global batch: losses with a NaN, token counts with an empty sample, priors, domains, ids of tokens."""
    generator = torch.Generator().manual_seed(step)
    losses = 3 + torch.randn(SAMPLES, generator=generator)
    losses[step] = math.nan
    tokens = torch.randint(1, LENGTH, (SAMPLES,), generator=generator)
    tokens[2 * step + 1] = 0
    return {
        "losses": losses,
        "tokens": tokens,
        "log_prior": torch.randn(SAMPLES, generator=generator),
        "domain": torch.randint(0, 3, (SAMPLES,), generator=generator),
        "ids": torch.randint(0, VOCABULARY, (SAMPLES, LENGTH), generator=generator),
    }


def shared(step: int, rank: int, world: int) -> dict[str, Tensor]:
    """What a rank has of a global batch."""
    counts = SHARES[world][step]
    start = sum(counts[:rank])
    return {name: column[start : start + counts[rank]] for name, column in batch(step).items()}


def weights_of(options: dict[str, Any], rank: int, world: int) -> tuple[list[list[float]], list[int]]:
    reweighter = SampleReweighter(**options)
    found = []
    for step in range(STEPS):
        own = shared(step, rank, world)
        own.pop("ids")
        found.append(reweighter.weights(own.pop("losses"), **own).tolist())
        reweighter.step()
    return found, [reweighter.empty_samples, reweighter.nonfinite_samples]


def trained(options: dict[str, Any], micro_steps: int, rank: int, world: int) -> tuple[list[float], list[float]]:
    """The parameters after a few DDP steps, and the unweighted losses of this rank."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Embedding(VOCABULARY, 8), nn.Tanh(), nn.Linear(8, VOCABULARY))
    if world > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    reweighter = SampleReweighter(**options)

    def forward(own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        labels = own["ids"].where(torch.arange(LENGTH) < own["tokens"][:, None], -100)
        return token_losses(model(own["ids"]), labels)

    def samples(own: dict[str, Tensor]) -> Samples:
        return samples_of(*forward(own), log_prior=own["log_prior"], domain=own["domain"])

    logged = []
    for step in range(STEPS):
        own = shared(step, rank, world)
        # a micro-step takes every micro_steps-th sample, so that all micro-steps differ
        parts = [{name: column[i::micro_steps] for name, column in own.items()} for i in range(micro_steps)]
        weights = two_pass_weights(reweighter, samples, parts) if reweighter.scope == "step-two-pass" else None
        denominator = tokens_per_rank((torch.arange(LENGTH) < own["tokens"][:, None])[:, 1:])
        optimizer.zero_grad()
        for i, part in enumerate(parts):
            found = reweighted_loss(
                reweighter,
                *forward(part),
                log_prior=part["log_prior"],
                domain=part["domain"],
                weights=weights[i] if weights else None,
                denominator=denominator,
            )
            found.loss.backward()
            logged.append(found.unweighted.item())
        optimizer.step()
        reweighter.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist(), logged


def torchtitan_gradients(rank: int, world: int) -> list[list[float]]:
    """This rank's part of torchtitan's gradient at every step, which ranks add up (they do not take the mean)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(VOCABULARY, 8), nn.Tanh(), nn.Linear(8, VOCABULARY))
    reweighter = SampleReweighter("linear", r=0.4)
    found = []
    for step in range(STEPS):
        own = shared(step, rank, world)
        labels = own["ids"].where(torch.arange(LENGTH) < own["tokens"][:, None], -100)
        global_valid_tokens = sum_over_ranks((labels != -100).sum())
        pred = model(own["ids"].flatten())
        loss, _ = torchtitan_loss(reweighter, pred, labels.flatten(), global_valid_tokens, sequence_length=LENGTH)
        model.zero_grad()
        loss.backward()
        reweighter.step()
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).tolist())
    return found


def main(rank: int, world: int, folder: Path) -> None:
    if world > 1:
        dist.init_process_group(
            "gloo", f"file://{folder}/rendezvous-{world}", timedelta(seconds=60), rank=rank, world_size=world
        )
    assert place() == (rank, world)
    found: dict[str, Any] = {"weights": {}, "bad": {}, "trained": {}}
    for name, options in CONFIGURATIONS.items():
        refused = [gather for gather in dir(dist) if gather.startswith("all_gather")] if name == "running" else []
        with patch.multiple(dist, **dict.fromkeys(refused, _refused)) if refused else nullcontext():
            found["weights"][name], found["bad"][name] = weights_of(options, rank, world)
    for name, options, micro_steps in (
        ("paper", {"r": 0.4}, 1),
        ("two-pass", CONFIGURATIONS["two-pass"], 1),
        ("two-pass, 3 micro-steps", CONFIGURATIONS["two-pass"], 3),
        ("running", CONFIGURATIONS["running"], 1),
        ("running, 3 micro-steps", CONFIGURATIONS["running"], 3),
        ("uniform", {"strategy": "uniform"}, 1),
    ):
        found["trained"][name] = trained(options, micro_steps, rank, world)
    found["torchtitan"] = torchtitan_gradients(rank, world)
    if world == 4:
        # two data-parallel groups of two ranks each, as under tensor parallelism: the rank is the group's
        groups = [dist.new_group([0, 2]), dist.new_group([1, 3])]
        losses = torch.tensor([[1.0, 2.0, 3.0], [9.0, 1.0, 2.0]])[rank // 2]
        found["group"] = SampleReweighter("linear", group=groups[rank % 2]).weights(losses).tolist()
        try:
            place(groups[1 - rank % 2])
        except ValueError as error:
            found["stranger"] = str(error)
    (folder / f"{world}-{rank}.json").write_text(json.dumps(found), "utf-8")
    if world > 1:
        dist.destroy_process_group()


def _refused(*_: Any, **__: Any) -> None:
    raise AssertionError("a running normaliser gathers nothing")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for size in SHARES:
        if int(sys.argv[1]) < size:
            main(int(sys.argv[1]), size, Path(sys.argv[2]))
