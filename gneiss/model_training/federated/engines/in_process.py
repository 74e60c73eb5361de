"""Sites in this process, on a clock of their own: simulations, in which it does not matter how long anything takes."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np

from gneiss.model_training.federated.clock import Duration
from gneiss.model_training.federated.engines import Lost, Site, received
from gneiss.model_training.federated.message import Message, packed, unpacked


def a_second(_site: str, _draw: np.random.Generator) -> float:
    """All sites are as fast."""
    return 1.0


class InProcess:
    """See Engine. seconds: on its clock, since it was made.

    Parameters: `duration`: of tasks; `seed`: of its random numbers; `most_bytes`: of a message.
    """

    def __init__(
        self, sites: Mapping[str, Site], most_bytes: int, duration: Duration = a_second, seed: int = 0
    ) -> None:
        self._sites, self._most_bytes, self._duration = sites, most_bytes, duration
        self._draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
        self._under_way: list[tuple[float, int, str, bytes]] = []
        self._asked = 0
        self.seconds = 0.0

    def sites(self) -> tuple[str, ...]:
        """See Engine."""
        return tuple(sorted(self._sites))

    def ask(self, site: str, task: Message) -> None:
        """See Engine. The site works at once; its answer is there when the clock says so."""
        answer = packed(self._sites[site].work(unpacked(packed(task), self._most_bytes)))
        arrival = self.seconds + self._duration(site, self._draw)
        heapq.heappush(self._under_way, (arrival, self._asked, site, answer))
        self._asked += 1

    def answer(self, timeout_s: float) -> tuple[str, Message] | Lost | None:
        """See Engine. Waiting moves the clock."""
        if not self._under_way or self._under_way[0][0] > self.seconds + timeout_s:
            self.seconds += timeout_s
            return None
        self.seconds, _, site, answer = heapq.heappop(self._under_way)
        return received(site, answer, self._most_bytes)
