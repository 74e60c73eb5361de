"""A simulated clock: sites that answer sooner or later, without waiting for any."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gneiss.model_training.federated.strategies.buffered import Buffered, BufferedState
from gneiss.model_training.federated.strategies.steps import Weights

#: Weights, site, number of the task → the difference that the site answers.
Local: TypeAlias = "Callable[[Weights, str, int], Weights]"
#: Site, random numbers → seconds that a task takes there.
Duration: TypeAlias = "Callable[[str, np.random.Generator], float]"


@dataclass(frozen=True, eq=False)
class Event:
    """An arrival: when, from where, of which task, how old (see `Arrival`), and the state after it."""

    seconds: float
    site: str
    task: int
    delay: int
    state: BufferedState


def arrivals(
    rule: Buffered,
    x: Weights,
    sites: Sequence[str],
    local: Local,
    duration: Duration,
    *,
    concurrency: int,
    seed: int = 0,
) -> Iterator[Event]:
    """Every arrival in order of time, without end, when `concurrency` tasks are always in flight.

    A site that is idle, drawn at random, gets the current weights at every arrival; what arrives at one instant is
    received before any task is given. What a site was sent is as it was then.
    """
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    state = rule.begin(x)
    idle = sorted(sites)
    in_flight: list[tuple[float, int, str, BufferedState]] = []
    given, seconds = 0, 0.0
    while True:
        while idle and len(in_flight) < concurrency:
            site = idle.pop(int(draw.integers(len(idle))))
            heapq.heappush(in_flight, (seconds + duration(site, draw), given, site, state))
            given += 1
        seconds = in_flight[0][0]
        while in_flight and in_flight[0][0] == seconds:
            _, task, site, base = heapq.heappop(in_flight)
            delay = state.updates - base.updates
            state = rule.receive(state, site, base.updates, local(base.x, site, task))
            idle = sorted([*idle, site])
            yield Event(seconds, site, task, delay, state)
