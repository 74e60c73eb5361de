"""The board: which head has scored which shard, who is next, and whom nobody waits for any longer.

A shard is settled once the scores of all heads for it are known. Where the coded head and all heads but one have
answered, the last one is waited for twice as long as usual; then its scores are decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

#: The name of the coded head among heads.
CODED = "coded"
#: How many of the last tasks say what is usual.
USUAL_TASKS = 200


@dataclass(frozen=True)
class Waiting:
    """How long to wait for a head that is the only one without an answer.

    times: the usual time, which is the median over the last tasks of seconds a document; least_seconds: in any case.
    """

    times: float = 2.0
    least_seconds: float = 5.0


@dataclass(frozen=True)
class Overdue:
    """A shard, by number, whose scores of a head, by name, are to be decoded."""

    shard: int
    head: str


class Board:
    """Keeps who has answered. Whoever uses it from several threads holds a lock.

    Parameters: `heads`: names; `has_coded`: whether there is a coded head beside them; `documents`: of each shard.
    """

    def __init__(
        self,
        heads: Sequence[str],
        has_coded: bool,
        documents: Sequence[int],
        waiting: Waiting,
        clock: Callable[[], float],
    ) -> None:
        self._heads, self._documents, self._waiting, self._clock = tuple(heads), documents, waiting, clock
        self.lanes = (*heads, *([CODED] if has_coded else []))
        self._answered: list[dict[str, float]] = [{} for _ in documents]
        self._settled: set[int] = set()
        self._decoded: set[int] = set()
        self._watched: set[int] = set()  # with an answer, neither settled nor decoded
        self._next: dict[str, int] = dict.fromkeys(self.lanes, 0)
        self._gone: set[str] = set()
        self._begun: dict[tuple[str, int], float] = {}
        self._seconds: deque[float] = deque(maxlen=USUAL_TASKS)

    @property
    def is_done(self) -> bool:
        """Whether all shards are settled."""
        return len(self._settled) == len(self._documents)

    def next_of(self, lane: str) -> int | None:
        """The shard that a head is to score next, which begins now; None where none is left for it."""
        for shard in range(self._next[lane], len(self._documents)):
            self._next[lane] = shard  # those before it are done with, and stay so
            if shard not in self._settled and lane not in self._answered[shard]:
                self._begun[lane, shard] = self._clock()
                return shard
        return None

    def answered(self, lane: str, shard: int) -> None:
        """A head has scored a shard, in this process or before it."""
        now = self._clock()
        if (begun := self._begun.pop((lane, shard), None)) is not None:
            self._seconds.append((now - begun) / max(1, self._documents[shard]))
        self._answered[shard][lane] = now
        if shard not in self._settled and shard not in self._decoded:
            self._watched.add(shard)
        if all(head in self._answered[shard] for head in self._heads):
            self.settle(shard)

    def lanes_of(self, shard: int) -> list[str]:
        """Who has scored a shard."""
        return [lane for lane in self.lanes if lane in self._answered[shard]]

    def gone(self, lane: str) -> None:
        """A head will not come back."""
        self._gone.add(lane)

    def settle(self, shard: int) -> None:
        """All scores of a shard are known."""
        self._settled.add(shard)
        self._watched.discard(shard)

    def overdue(self) -> list[Overdue]:
        """The shards whose scores of one head are to be decoded now; each is named once."""
        found = []
        for shard in sorted(self._watched):
            if (due := self._due(shard)) is not None and due <= self._clock():
                self._decoded.add(shard)
                self._watched.discard(shard)
                answered = self._answered[shard]
                found.append(Overdue(shard, next(head for head in self._heads if head not in answered)))
        return found

    def seconds_to_wait(self, most: float) -> float:
        """How long nothing is overdue, if no head answers."""
        dues = [due for shard in self._watched if (due := self._due(shard)) is not None]
        return min(most, max(0.0, min(dues, default=most + self._clock()) - self._clock()))

    def unsettled(self) -> list[int]:
        """The shards that wait for a head."""
        return [shard for shard in range(len(self._documents)) if shard not in self._settled]

    def _due(self, shard: int) -> float | None:
        """When a shard is overdue; None while more than one answer is lacking."""
        answered = self._answered[shard]
        lacking = [head for head in self._heads if head not in answered]
        if len(lacking) != 1 or CODED not in answered:
            return None
        if lacking[0] in self._gone:
            return 0.0
        usual = median(self._seconds) * self._documents[shard] if self._seconds else 0.0
        return max(answered.values()) + max(self._waiting.times * usual, self._waiting.least_seconds)
