"""Adapters trained across sites: FedLoRA, FFA-LoRA and FedARA, as functions of arrays.

| strategy | trained, sent and averaged | at the start | ranks |
| --- | --- | --- | --- |
| FedLoRA (LoRA: Hu et al., ICLR 2022) | A, B | B = 0 | all, in every round |
| FFA-LoRA (Sun et al., ICLR 2024) | B; A is random, the same everywhere | B = 0 | all, in every round |
| FedARA (Wu et al., arXiv 2501.14406) | A, E, B | E = 0 | sites vote some away; a matrix without any is left alone |

The head of the encoder is trained, sent and averaged with each. Sites step by AdamW. A mean of products B·A is not the
product of the means, so that FedLoRA's server and FedARA's make an error that FFA-LoRA's does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gneiss.arrays import BoolArray
from gneiss.errors import InputError
from gneiss.model_training.federated.encoder.adapters import AdapterSpace, Score
from gneiss.model_training.federated.encoder.ranks import Budget, Importance, arbitrated, most_important
from gneiss.model_training.federated.strategies.steps import Gradient, Weights


@dataclass(frozen=True)
class AdamW:
    """Adam with bias correction, and weights that shrink apart from it (Loshchilov and Hutter, ICLR 2019)."""

    rate: float = 2e-3
    decay: float = 0.9
    square_decay: float = 0.999
    epsilon: float = 1e-8
    shrinkage: float = 0.01

    def run(self, x: Weights, gradient: Gradient, steps: int) -> tuple[Weights, Importance]:
        """(weights, importance) after so many steps from x."""
        w, mean, square, importance = x, np.zeros_like(x), np.zeros_like(x), Importance.begin(x)
        for step in range(1, steps + 1):
            found = gradient(w)
            importance = importance.after(w, found)
            mean = self.decay * mean + (1 - self.decay) * found
            square = self.square_decay * square + (1 - self.square_decay) * (found * found)
            direction = (mean / (1 - self.decay**step)) / (
                np.sqrt(square / (1 - self.square_decay**step)) + self.epsilon
            )
            w = w - self.rate * (direction + self.shrinkage * w)
        return w, importance


@dataclass(frozen=True, eq=False)
class AdapterState:
    """What the server knows between rounds. x: weights of live ranks and the head; alive: (ranks,)."""

    x: Weights
    alive: BoolArray


@dataclass(frozen=True, eq=False)
class AdapterTask:
    """What a site is sent. ranks: how many it may vote to keep; None where there is no vote."""

    x: Weights
    alive: BoolArray
    ranks: int | None = None


@dataclass(frozen=True, eq=False)
class AdapterAnswer:
    """What a site sends back: how far it went from x, of how many documents, and which ranks it keeps, (ranks,)."""

    difference: Weights
    documents: int
    keeps: BoolArray | None = None


@dataclass(frozen=True)
class LowRank:
    """A strategy. steps: of a site in a round; budget: of ranks, None to keep all; least_share: of the sites' votes.

    Raises InputError for a budget where adapters have no E.
    """

    space: AdapterSpace
    steps: int = 8
    optimizer: AdamW = AdamW()
    budget: Budget | None = None
    least_share: float = 0.5
    score: Score = "importance"

    def __post_init__(self) -> None:
        if self.budget is not None and self.space.form != "svd":
            raise InputError(f"adapters: expected the form svd where ranks are voted on, found {self.space.form}")
        if self.budget is not None and self.budget.first != self.space.ranks:
            raise InputError(f"budget: expected {self.space.ranks} ranks at first, found {self.budget.first}")

    def begin(self) -> AdapterState:
        """The state before the first round."""
        return AdapterState(self.space.begin(), np.ones(self.space.ranks, np.bool_))

    def task(self, state: AdapterState, round_: int) -> AdapterTask:
        """What sites are sent in a round. There is no vote where as many ranks live as may."""
        ranks = None if self.budget is None else self.budget.ranks(round_)
        is_voted = ranks is not None and ranks < int(state.alive.sum())
        return AdapterTask(state.x, state.alive, ranks if is_voted else None)

    def answer(self, task: AdapterTask, gradient: Gradient, documents: int) -> AdapterAnswer:
        """What a site answers. gradient: of live weights; documents: that it trains on."""
        w, importance = self.optimizer.run(task.x, gradient, self.steps)
        if task.ranks is None:
            return AdapterAnswer(w - task.x, documents)
        keeps = task.alive.copy()
        keeps[task.alive] = most_important(self.space.rank_scores(w, task.alive, importance, self.score), task.ranks)
        return AdapterAnswer(w - task.x, documents, keeps)

    def aggregate(self, state: AdapterState, answers: Mapping[str, AdapterAnswer]) -> AdapterState:
        """The state after a round: the mean by documents, float64, rounded once; then ranks that lost the vote go."""
        ordered = [answers[site] for site in sorted(answers)]
        documents = sum(answer.documents for answer in ordered)
        total = np.zeros(state.x.shape)
        for answer in ordered:
            total += answer.documents * answer.difference.astype(np.float64)
        x = (state.x + total / documents).astype(state.x.dtype)
        votes = [answer.keeps for answer in ordered if answer.keeps is not None]
        if not votes:
            return replace(state, x=x)
        survivors = arbitrated(state.alive, votes, self.least_share)
        return AdapterState(self.space.kept(x, state.alive, survivors), survivors)


def fedlora(space: AdapterSpace, steps: int, rate: float) -> LowRank:
    """FedLoRA: A and B are averaged."""
    return LowRank(replace(space, form="lora"), steps, AdamW(rate))


def ffa_lora(space: AdapterSpace, steps: int, rate: float) -> LowRank:
    """FFA-LoRA: A stays at its random value."""
    return LowRank(replace(space, form="frozen_a"), steps, AdamW(rate))


def fedara(
    space: AdapterSpace,
    steps: int,
    rate: float,
    rounds: int,
    ranks_left: int = 3,
    least_share: float = 0.5,
    score: Score = "importance",
) -> LowRank:
    """FedARA. ranks_left: of each matrix in the end, on average; as many as there are for no vote at all."""
    budget = Budget.of(space.ranks, ranks_left * len(space.matrices), rounds)
    return LowRank(replace(space, form="svd"), steps, AdamW(rate), budget, least_share, score)
