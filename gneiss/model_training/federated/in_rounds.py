"""Rounds of a coordinator, whatever is trained: ask sites, wait, average, and keep what every round came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from gneiss.errors import MachineError
from gneiss.model_training.federated.asking import (
    Correspondence,
    Traffic,
    answer_of,
    check_trained,
    gathered,
    held_out,
    protections,
    require_bounded,
    said_of,
    task_message,
    training_message,
    zeros,
)
from gneiss.model_training.federated.checkpoint import Checkpoint, Record, arrays_of, state_of, write_checkpoint
from gneiss.model_training.federated.federation import Described, Federation
from gneiss.model_training.federated.message import Message
from gneiss.model_training.federated.rounds import asked_sites
from gneiss.model_training.federated.strategies.by_name import Rounds, of_rounds
from gneiss.model_training.federated.strategies.strategy import ServerState
from gneiss.store.place import Place

State = TypeVar("State")


class Training(Protocol[State]):
    """A training in rounds: what sites are asked, and what comes of their answers. Its functions are pure."""

    @property
    def federation(self) -> Described: ...

    def begin(self) -> State:
        """The server's state before the first round."""

    def tasks(self, state: State, asked: Sequence[str], round_: int) -> dict[str, Message]:
        """What each of the sites of a round is asked."""

    def check(self, state: State) -> Callable[[Message], None]:
        """What raises InputError for what is no answer to a task in this state."""

    def aggregate(self, state: State, answers: Mapping[str, Message], round_: int) -> State:
        """The state after a round, of at least one answer. Raises ModelError for weights that grow without bound."""

    def evaluation(self, state: State) -> Message:
        """What a site is asked to say how it does on documents held out, in the end."""

    def arrays(self, state: State) -> dict[str, Any]:
        """A state as float32 arrays by name."""

    def state(self, arrays: Mapping[str, Any]) -> State:
        """The state that arrays are."""

    def said(self, state: State) -> dict[str, Any]:
        """What the line on a round says of the state after it."""


def in_rounds(
    training: Training[State], out: Correspondence, output: Place, begun: Checkpoint | None, answer_seconds: float
) -> tuple[State, list[Record]]:
    """(state, records) after all rounds; begun: what a training was that ended before.

    Raises MachineError where too few sites answer, OutputError, ModelError.
    """
    federation = training.federation
    state = training.begin() if begun is None else training.state(begun.arrays)
    records = [] if begun is None else [*begun.records]
    for round_ in range(len(records), federation.rounds):
        started, traffic = time.monotonic(), Traffic()
        asked = asked_sites(federation.sites, federation.share, federation.seed, round_)
        answers, lost = gathered(
            out, training.tasks(state, asked, round_), training.check(state), answer_seconds, traffic
        )
        if len(answers) < min(federation.min_answers, len(asked)):
            raise MachineError(
                f"round {round_}: {len(answers)} of {len(asked)} sites answered, expected {federation.min_answers} at"
                f" least ({said_of(lost)}); start them; the same command resumes this round"
            )
        state = training.aggregate(state, answers, round_)
        records.append(
            {
                "round": round_,
                "asked": list(asked),
                "lost": lost,
                **asdict(traffic),
                **training.said(state),
                "held_out": held_out(answers),
                **protections(answers),
                "seconds": round(time.monotonic() - started, 3),
            }
        )
        write_checkpoint(output, federation.key, training.arrays(state), records)
    return state, records


@dataclass(frozen=True)
class LinearTraining:
    """See Training: weights of a linear model, by a strategy of rounds, of sites or of regions."""

    federation: Federation

    @property
    def _rule(self) -> Rounds:
        federation = self.federation
        return of_rounds(federation.strategy, federation.rates, is_trimmed=federation.is_trimmed)

    def begin(self) -> ServerState:
        """See Training."""
        return self._rule.begin(zeros(self.federation), self.federation.sites)

    def tasks(self, state: ServerState, asked: Sequence[str], round_: int) -> dict[str, Message]:
        """See Training."""
        rule = self._rule
        tasks = rule.tasks(state, asked)
        return {site: training_message(self.federation, rule, task, round_) for site, task in tasks.items()}

    def check(self, state: ServerState) -> Callable[[Message], None]:
        """See Training."""
        return check_trained(self.federation.shape, self._rule.answered)

    def aggregate(self, state: ServerState, answers: Mapping[str, Message], round_: int) -> ServerState:
        """See Training."""
        after = self._rule.aggregate(state, {site: answer_of(answer) for site, answer in answers.items()})
        require_bounded(after.x, round_)
        return after

    def evaluation(self, state: ServerState) -> Message:
        """See Training."""
        return task_message(self.federation, "evaluate", self.federation.rounds, state.x)

    def arrays(self, state: ServerState) -> dict[str, Any]:
        """See Training."""
        return arrays_of(state)

    def state(self, arrays: Mapping[str, Any]) -> ServerState:
        """See Training."""
        return state_of(arrays)

    def said(self, state: ServerState) -> dict[str, Any]:
        """See Training."""
        return {}
