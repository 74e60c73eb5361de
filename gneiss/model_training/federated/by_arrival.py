"""The coordinator of strategies by arrival: no site is waited for; and the same again, as its log has it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np

from gneiss.errors import InputError, MachineError, first_line
from gneiss.model_training.federated.asking import (
    Correspondence,
    Traffic,
    answer_of,
    check_trained,
    held_out,
    protections,
    require_bounded,
    said_of,
    training_message,
    zeros,
)
from gneiss.model_training.federated.checkpoint import (
    ROUNDS_FOLDER,
    Checkpoint,
    Record,
    buffered_arrays,
    buffered_state,
    read_log,
    write_checkpoint,
)
from gneiss.model_training.federated.engines import Lost
from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.federated.message import Message
from gneiss.model_training.federated.strategies.buffered import Arrival, Buffered, BufferedState
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, ROUNDS
from gneiss.model_training.federated.strategies.steps import Weights
from gneiss.model_training.federated.strategies.strategy import Strategy, Task
from gneiss.store.place import Place

#: How often in a row a site may be lost before it is asked no more.
_MOST_LOSSES = 3


@dataclass
class _Update:
    """What has come since the last update. arrivals: site, number of its task, and updates before that was given."""

    traffic: Traffic = field(default_factory=Traffic)
    began: float = field(default_factory=time.monotonic)
    arrivals: list[tuple[str, int, int]] = field(default_factory=list)
    answers: dict[str, Message] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


class _Updates:
    """The state of a training by arrival, what has come for its next update, and the lines on those before."""

    def __init__(self, federation: Federation, output: Place, begun: Checkpoint | None) -> None:
        self._federation, self._output = federation, output
        self._rule: Buffered = ARRIVALS[federation.strategy](federation.rates)
        self.records: list[Record] = [] if begun is None else [*begun.records]
        self.state: BufferedState = (
            self._rule.begin(zeros(federation)) if begun is None else buffered_state(begun.arrays, begun.rounds)
        )
        self.next = _Update()

    def receive(self, site: str, task: int, base: int, message: Message) -> None:
        """An answer has arrived; with enough of them, the next update is made and kept."""
        before, difference = self.state, answer_of(message).difference
        self.next.arrivals.append((site, task, base))
        self.next.answers[site] = message
        self.state = self._rule.receive(before, site, base, difference)
        if self.state.updates == before.updates:
            return
        require_bounded(self.state.x, before.updates)
        made, buffer = self.next, (*before.buffer, Arrival(site, before.updates - base, difference))
        self.records.append(
            {
                "round": before.updates,
                "arrivals": [list(arrival) for arrival in made.arrivals],
                "lost": made.lost,
                **asdict(made.traffic),
                "held_out": held_out(made.answers),
                **protections(made.answers),
                "longest_delay": max(arrival.delay for arrival in buffer),
                "rate": self._rule.rate_for(buffer),
                "seconds": round(time.monotonic() - made.began, 3),
            }
        )
        write_checkpoint(self._output, self._federation.key, buffered_arrays(self.state), self.records)
        self.next = _Update()


def by_arrival(
    federation: Federation, out: Correspondence, output: Place, begun: Checkpoint | None, answer_seconds: float
) -> tuple[Weights, list[Record]]:
    """Give a task to a site that is idle whenever one has answered, until there are enough updates.

    A site that does not answer for long leaves its place to another one. Raises MachineError when none is left.
    """
    updates, local = _Updates(federation, output, begun), _local(federation)
    check = check_trained(federation.shape, local.answered)
    task = 1 + max((arrival[1] for record in updates.records for arrival in record["arrivals"]), default=-1)
    bases: dict[str, tuple[int, int]] = {}  # of what is under way: the task, and the updates before it
    late: set[str] = set()
    losses: Counter[str] = Counter()
    while updates.state.updates < federation.rounds:
        idle = [site for site in federation.sites if site not in bases and losses[site] < _MOST_LOSSES]
        while idle and len(bases.keys() - late) < federation.concurrency:
            site = idle.pop(_drawn(federation.seed, task, len(idle)))
            bases[site] = task, updates.state.updates
            out.ask(site, training_message(federation, local, Task(updates.state.x), task), updates.next.traffic)
            task += 1
        if not bases.keys() - late:
            raise MachineError(
                f"round {updates.state.updates}: no site answers ({said_of(updates.next.lost)}); start them: the same"
                " command goes on"
            )
        found = out.answer(answer_seconds, check, updates.next.traffic)
        if found is None:
            late = set(bases)
        elif isinstance(found, Lost):
            losses[found.site] += 1
            updates.next.lost[found.site] = found.reason
            bases.pop(found.site, None)
            late.discard(found.site)
        else:
            site, message = found
            losses[site] = 0
            late.discard(site)
            updates.receive(site, *bases.pop(site), message)
    while bases.keys() - late and (found := out.answer(answer_seconds, check, Traffic())) is not None:
        bases.pop(found.site if isinstance(found, Lost) else found[0], None)
    return updates.state.x, updates.records


def replayed(
    federation: Federation, out: Correspondence, output: Place, log: Place, answer_seconds: float
) -> tuple[Weights, list[Record]]:
    """Do again what a log says: the same sites, from the same weights, in the same order.

    Raises InputError for what is no log of this many updates, MachineError where a site does not answer.
    """
    updates, local = _Updates(federation, output, None), _local(federation)
    check, bases = check_trained(federation.shape, local.answered), {0: updates.state.x}
    arrivals = _arrivals(log, federation)
    for at, (site, task, base) in enumerate(arrivals):
        if base not in bases:
            raise InputError(f"{log}/{ROUNDS_FOLDER}: task {task} starts from update {base}, which is not made by then")
        out.ask(site, training_message(federation, local, Task(bases[base]), task), updates.next.traffic)
        found = out.answer(answer_seconds, check, updates.next.traffic)
        if found is None or isinstance(found, Lost):
            raise MachineError(f"task {task}: site {site} does not answer; start it, and replay again")
        updates.receive(site, task, base, found[1])
        bases[updates.state.updates] = updates.state.x
        if at % 100 == 0:
            needed = {base for _, _, base in arrivals[at + 1 :]} | {updates.state.updates}
            bases = {base: x for base, x in bases.items() if base in needed or base > updates.state.updates}
    if updates.state.updates != federation.rounds:
        raise InputError(
            f"{log}/{ROUNDS_FOLDER}: expected the arrivals of {federation.rounds} updates, found those of"
            f" {updates.state.updates}"
        )
    return updates.state.x, updates.records


def _local(federation: Federation) -> Strategy:
    """How sites step."""
    return ROUNDS["fedavg"](federation.rates)


def _drawn(seed: int, task: int, count: int) -> int:
    """Which of the sites that are idle gets a task."""
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, task])))
    return int(draw.integers(count))


def _arrivals(log: Place, federation: Federation) -> list[tuple[str, int, int]]:
    try:
        found = [(str(site), int(task), int(base)) for line in read_log(log) for site, task, base in line["arrivals"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{log}/{ROUNDS_FOLDER}: expected lines with arrivals: {first_line(error)}") from error
    if foreign := sorted({site for site, _, _ in found} - set(federation.sites)):
        raise InputError(f"{log}/{ROUNDS_FOLDER}: site '{foreign[0]}' is not of this training")
    return found
