"""Rounds of a strategy in one process: whom to ask, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from gneiss.model_training.federated.linear import draw_of
from gneiss.model_training.federated.strategies.steps import Gradient, Weights
from gneiss.model_training.federated.strategies.strategy import ServerState, Strategy

#: A site's documents: random numbers → the gradients of its mini-batches.
SiteGradient: TypeAlias = "Callable[[np.random.Generator], Gradient]"


def asked_number(share: float, sites: int) -> int:
    """How many sites a share of them is, one at least."""
    return max(1, round(share * sites))


def asked_sites(sites: Sequence[str], share: float, seed: int, round_: int) -> tuple[str, ...]:
    """The sites of a round, in order: a share of them, at least one.

    >>> asked_sites(["a", "b", "c", "d"], 0.5, seed=1, round_=0)
    ('a', 'b')
    """
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, round_])))
    ordered = sorted(sites)
    chosen = draw.permutation(len(ordered))[: asked_number(share, len(ordered))]
    return tuple(ordered[at] for at in sorted(chosen.tolist()))


def rounds(
    strategy: Strategy, x: Weights, sites: Mapping[str, SiteGradient], *, share: float = 1.0, seed: int = 0
) -> Iterator[ServerState]:
    """The state after each round, without end. share: of the sites that are asked in a round."""
    state = strategy.begin(x, tuple(sites))
    round_ = 0
    while True:
        answers = {
            site: strategy.answer(strategy.task(state, site), sites[site](draw_of(seed, round_, site)))
            for site in asked_sites(tuple(sites), share, seed, round_)
        }
        state = strategy.aggregate(state, answers)
        yield state
        round_ += 1
