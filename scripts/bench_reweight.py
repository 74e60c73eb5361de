"""What reweighting adds to a training step: CPU time of the weights against that of the step they are for.

    python scripts/bench_reweight.py [--batch N] [--quick] [--json FILE]

The step is forward, loss, backward and AdamW of a small transformer on one thread; what is added is everything that
reweighting does to it: mean losses of samples, weights (with the gather over two gloo processes, too), the product with
token losses, and `step()`. A larger model makes the step longer and the addition no longer, so the share falls.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from gneiss.reweight.reweighter import SampleReweighter
from gneiss.reweight.tokens import token_losses
from gneiss.reweight.trainers import reweighted_loss

WIDTH, LAYERS, LENGTH, VOCABULARY = 256, 4, 256, 8192
WORLD = 2
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "micro_step": {"scope": "micro-step"},
    "micro_step_preserve_cap": {"scope": "micro-step", "domain_mode": "preserve", "cap": 4.0},
    "step_ema": {"scope": "step-ema", "normalizer": "ema"},
}


class Model(nn.Module):
    """A decoder-only transformer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layers(self.embedding(ids), self.mask, is_causal=True))


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="sequences of a process and micro-step")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps, repeats = (3, 50) if arguments.quick else (9, 300)
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread",
        "model": f"{sum(p.numel() for p in Model().parameters()):,} parameters, {LAYERS} layers of {WIDTH}",
        "batch": f"{arguments.batch} sequences of {LENGTH} tokens, vocabulary of {VOCABULARY:,}",
        "counted": "CPU seconds of a process with all its threads (time.process_time), medians; the addition: a "
        "weighted loss forward and backward, weights and step(), less the same with a plain mean",
        "step_s": step_seconds(arguments.batch, steps),
    }
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.start_processes(
            ranks, (arguments.batch, repeats, Path(folder)), nprocs=WORLD, join=False, start_method="spawn"
        )
        while not context.join():
            pass
        gathered = [json.loads((Path(folder) / f"{rank}.json").read_text("utf-8")) for rank in range(WORLD)]
    for name in CONFIGURATIONS:
        alone = added_seconds(CONFIGURATIONS[name], arguments.batch, repeats)
        together = max(found[name] for found in gathered)
        for ranks_told, seconds in (("1_rank", alone), (f"{WORLD}_ranks", together)):
            figures[f"{name}_{ranks_told}_added_s"] = seconds
            figures[f"{name}_{ranks_told}_share_of_step"] = seconds / figures["step_s"]
    for name, value in figures.items():
        print(f"{name:44} {value:.3g}" if isinstance(value, float) else f"{name:44} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def step_seconds(batch: int, steps: int) -> float:
    """The median CPU time of a training step without weights."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, VOCABULARY, (batch, LENGTH))

    def step() -> None:
        optimizer.zero_grad()
        losses, mask = token_losses(model(ids), ids)
        ((losses * mask).sum() / mask.sum()).backward()
        optimizer.step()

    return timed(step, steps)


def added_seconds(options: dict[str, Any], batch: int, repeats: int) -> float:
    """The median CPU time that weights add to the loss of a step, both measured from token losses on."""
    torch.manual_seed(0)
    reweighter = SampleReweighter(r=0.4, **options)
    losses = torch.rand(batch, LENGTH, requires_grad=True)
    mask = torch.ones(batch, LENGTH, dtype=torch.bool)
    domain = torch.arange(batch) % 4

    def plain() -> None:
        ((losses * mask).sum() / mask.sum()).backward()

    def weighted() -> None:
        reweighted_loss(reweighter, losses, mask, domain=domain).loss.backward()
        reweighter.step()

    return timed(weighted, repeats) - timed(plain, repeats)


def timed(function: Callable[[], None], repeats: int) -> float:
    """The median CPU time of some calls, after two that do not count."""
    found = []
    for _ in range(repeats + 2):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return median(found[2:])


def ranks(rank: int, batch: int, repeats: int, folder: Path) -> None:
    """One of several processes that gather."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", timedelta(seconds=60), rank=rank, world_size=WORLD)
    found = {name: added_seconds(options, batch, repeats) for name, options in CONFIGURATIONS.items()}
    (folder / f"{rank}.json").write_text(json.dumps(found), "utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
