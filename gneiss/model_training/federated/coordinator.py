"""The coordinator: asks sites, waits, averages, and keeps what every round came to, so that a kill loses little.

It is the same for all engines. In rounds, the same documents, federation and versions give the same weights, whatever
the order in which answers come. By arrival the order counts: it is in the lines on rounds, and a replay of these gives
the same weights again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gneiss.errors import InputError, MachineError
from gneiss.model_training.federated.asking import (
    Correspondence,
    Traffic,
    check_counts,
    check_figures,
    gathered,
    held_out,
    said_of,
    task_message,
)
from gneiss.model_training.federated.by_arrival import by_arrival, replayed
from gneiss.model_training.federated.checkpoint import Record, read_checkpoint
from gneiss.model_training.federated.engines import Engine
from gneiss.model_training.federated.federation import Described, Federation, claim_federation
from gneiss.model_training.federated.in_rounds import LinearTraining, State, Training, in_rounds
from gneiss.model_training.federated.message import Message
from gneiss.model_training.federated.strategies.by_name import ARRIVALS
from gneiss.model_training.federated.strategies.steps import Weights
from gneiss.output.claim import held
from gneiss.store.place import Place

#: How long to wait for the answers of a round, or by arrival for any.
ANSWER_SECONDS = 3600.0


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training. records: a line on every round; held_out: site → how the weights do there in the end."""

    weights: Weights
    records: tuple[Record, ...]
    held_out: Mapping[str, Mapping[str, Any]]


def train(
    federation: Federation,
    engine: Engine,
    output: Place,
    *,
    answer_seconds: float = ANSWER_SECONDS,
    replay: Place | None = None,
) -> Trained:
    """Train, or go on with what was begun in an output.

    Parameters: `answer_seconds`: how long to wait for a round, or by arrival for any answer; `replay`: the folder of a
    training by arrival, whose arrivals are done again from the beginning.
    Raises OutputError for an output of another training, MachineError where too few sites answer, ModelError for
    weights that grow without bound, InputError for a replay that is none.
    """
    if federation.strategy not in ARRIVALS:
        if replay:
            raise InputError(f"strategy {federation.strategy}: rounds need no replay: run it again")
        state, records, figures = train_in_rounds(LinearTraining(federation), engine, output, answer_seconds)
        return Trained(state.x, records, figures)
    with _correspondence(federation, engine, output) as out:
        if replay:
            weights, found = replayed(federation, out, output, replay, answer_seconds)
        else:
            begun = read_checkpoint(output, federation.key)
            weights, found = by_arrival(federation, out, output, begun, answer_seconds)
        task = task_message(federation, "evaluate", federation.rounds, weights)
        return Trained(weights, tuple(found), _evaluated(federation, out, task, answer_seconds))


def train_in_rounds(
    training: Training[State], engine: Engine, output: Place, answer_seconds: float = ANSWER_SECONDS
) -> tuple[State, tuple[Record, ...], Mapping[str, Mapping[str, Any]]]:
    """(state, records, held_out): train whatever it is in rounds, or go on with what was begun; see `train`."""
    federation = training.federation
    with _correspondence(federation, engine, output) as out:
        begun = read_checkpoint(output, federation.key)
        state, records = in_rounds(training, out, output, begun, answer_seconds)
        return state, tuple(records), _evaluated(federation, out, training.evaluation(state), answer_seconds)


@contextmanager
def _correspondence(federation: Described, engine: Engine, output: Place) -> Iterator[Correspondence]:
    """In the block the output is of this training and of no other process."""
    if missing := sorted(set(federation.sites) - set(engine.sites())):
        raise MachineError(f"site {missing[0]}: cannot be reached; start it, and run again")
    with held(output):
        claim_federation(output, federation)
        yield Correspondence(engine)


def _evaluated(
    federation: Described, out: Correspondence, task: Message, answer_seconds: float
) -> Mapping[str, Mapping[str, Any]]:
    answers, _ = gathered(out, dict.fromkeys(federation.sites, task), check_figures, answer_seconds, Traffic())
    return held_out(answers)


def count_labels(
    federation: Described, engine: Engine, answer_seconds: float = ANSWER_SECONDS
) -> dict[str, tuple[int, int]]:
    """Site → its documents of the low and of the high label. Raises MachineError where a site does not answer."""
    tasks = dict.fromkeys(federation.sites, task_message(federation, "count", 0))
    answers, lost = gathered(Correspondence(engine), tasks, check_counts, answer_seconds, Traffic())
    if lost:
        raise MachineError(f"counting labels: {said_of(lost)}; start these sites, and run again")
    return {site: (answers[site].meta["labels"][0], answers[site].meta["labels"][1]) for site in sorted(answers)}
