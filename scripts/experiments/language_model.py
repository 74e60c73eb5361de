"""A small language model trained five ways on the planted corpus, judged by its unweighted loss on clean text.

Pairs of runs with the same seed start from the same parameters; those on the same corpus see the same batches. Every
arm has its own learning rate, chosen on other seeds and another half of the held-out text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from planted_corpus import Corpora, Packed, Tokens
from torch import Tensor, nn

from gneiss.reweight import SampleReweighter, reweighted_loss
from gneiss.reweight.tokens import token_losses


@dataclass(frozen=True)
class Setup:
    """The model and how it is trained: AdamW, a rate that rises for `warm_up_steps` and then falls to 0, all evenly.

    What is judged is the moving average of the parameters (decay 0.9). In the middle of a run the rate is still high,
    which is against an arm that is early: its loss then is compared with uniform's at the end.
    """

    steps: int = 240
    batch: int = 32
    length: int = 32
    vocabulary: int = 512
    width: int = 64
    layers: int = 1
    heads: int = 2
    warm_up_steps: int = 20
    burn_in_steps: int = 10
    r: float = 0.4
    judged_every: int = 10
    judged_sequences: int = 192
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.steps % self.judged_every:
            raise ValueError(f"steps {self.steps}: expected a multiple of judged_every, {self.judged_every}")


@dataclass(frozen=True)
class Arm:
    """What one arm trains on, and what its samples are weighted by."""

    corpus: Literal["raw", "curated"]
    linupper: bool = False
    priors: bool = False


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "raw": Arm("raw"),
        "raw_linupper": Arm("raw", linupper=True),
        "raw_priors": Arm("raw", priors=True),
        "curated": Arm("curated"),
        "curated_linupper": Arm("curated", linupper=True),
    }
)


@dataclass(frozen=True)
class Curve:
    """A run. steps, losses: when it was judged, and its clean loss then; clean_share: of the samples' weight in the
    second half of the run."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    clean_share: float

    @property
    def final(self) -> float:
        return self.losses[-1]

    def steps_to(self, loss: float) -> float:
        """The first step with at most that loss, along straight lines; infinite if there is none."""
        for i, (step, found) in enumerate(zip(self.steps, self.losses, strict=True)):
            if found <= loss:
                if i == 0:
                    return step
                before, last = self.losses[i - 1], self.steps[i - 1]
                return last + (step - last) * (before - loss) / (before - found)
        return math.inf


@dataclass(frozen=True)
class Trained:
    """An arm after tuning: its learning rate, and a curve for each seed."""

    learning_rate: float
    curves: tuple[Curve, ...]


class Decoder(nn.Module):
    """A decoder-only transformer, from tokens (samples, length) to logits (samples, length, vocabulary)."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        width = setup.width
        self.tokens = nn.Embedding(setup.vocabulary, width)
        self.positions = nn.Embedding(setup.length, width)
        self.blocks = nn.ModuleList(Block(width, setup.heads) for _ in range(setup.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, setup.vocabulary, bias=False)
        nn.init.normal_(self.positions.weight, std=0.1)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class Block(nn.Module):
    """Causal attention and a perceptron, each added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend, self.mix = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        samples, length, _ = x.shape
        heads = self.attend(self.norms[0](x)).view(samples, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.mix(attended)
        perceived: Tensor = self.down(F.gelu(self.up(self.norms[1](x))))
        return x + perceived


def train(setup: Setup, packed: Packed, judged_on: Tokens, arm: Arm, learning_rate: float, seed: int) -> Curve:
    """One run. Where a corpus has fewer sequences than the run takes, it comes again in the same order."""
    torch.manual_seed(seed)
    model = Decoder(setup).to(setup.device)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / setup.warm_up_steps, 1 - step / setup.steps)
    )
    reweighter = SampleReweighter(
        "linupper" if arm.linupper else "uniform", r=setup.r, burn_in_steps=setup.burn_in_steps
    )
    order = np.random.default_rng(seed).permutation(len(packed))
    clean_weight, steps, losses = 0.0, [], []
    for step in range(1, setup.steps + 1):
        chosen = order.take(range((step - 1) * setup.batch, step * setup.batch), mode="wrap")
        tokens = torch.from_numpy(packed.tokens[chosen]).to(setup.device)
        log_prior = torch.from_numpy(packed.log_prior[chosen]).to(setup.device) if arm.priors else None
        found = reweighted_loss(
            reweighter, *token_losses(model(tokens[:, :-1]), tokens[:, 1:], shift=False), log_prior=log_prior
        )
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
        schedule.step()
        reweighter.step()
        torch._foreach_lerp_(average, [parameter.detach() for parameter in model.parameters()], 0.1)
        if step > setup.steps // 2:
            clean_weight += float(found.weights.cpu().numpy()[packed.clean[chosen]].sum())
        if step % setup.judged_every == 0:
            steps.append(step)
            losses.append(judge(model, average, judged_on, setup))
    return Curve(tuple(steps), tuple(losses), clean_weight / (setup.batch * (setup.steps - setup.steps // 2)))


def judge(model: Decoder, parameters: Sequence[Tensor], judged_on: Tokens, setup: Setup) -> float:
    """The mean loss per token, unweighted, of a model with these parameters on evenly chosen sequences."""
    chosen = np.linspace(0, len(judged_on) - 1, min(setup.judged_sequences, len(judged_on))).astype(int)
    tokens = torch.from_numpy(judged_on[chosen]).to(setup.device)
    named = dict(zip((name for name, _ in model.named_parameters()), parameters, strict=True))
    with torch.no_grad():
        logits = torch.func.functional_call(model, named, (tokens[:, :-1],))
    return float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))


def trained(
    setup: Setup,
    corpora: Corpora,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    arms: Mapping[str, Arm] = ARMS,
) -> dict[str, Trained]:
    """Tune and train every arm; where all learning rates but one are worse, that one is taken."""
    found = {}
    for name, arm in arms.items():
        packed: Packed = getattr(corpora, arm.corpus)

        def tuning_loss(learning_rate: float, arm: Arm = arm, packed: Packed = packed) -> float:
            return fmean(
                train(setup, packed, corpora.validation, arm, learning_rate, seed).final for seed in tuning_seeds
            )

        best = min(learning_rates, key=tuning_loss) if len(learning_rates) > 1 else learning_rates[0]
        curves = tuple(train(setup, packed, corpora.test, arm, best, seed) for seed in seeds)
        found[name] = Trained(best, curves)
    return found


def steps_shares(arms: Mapping[str, Trained], name: str) -> tuple[float, ...]:
    """By seed, the steps an arm takes to uniform's final clean loss on raw data, over those that uniform takes to it.

    Uniform takes all of its steps where its loss falls to the end, and fewer where it was there before.
    """
    pairs = zip(arms[name].curves, arms["raw"].curves, strict=True)
    return tuple(pair.steps_to(raw.final) / raw.steps_to(raw.final) for pair, raw in pairs)
