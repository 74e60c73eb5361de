"""The coordinator: asks sites, waits, averages, and keeps what every round came to, so that a kill loses little.

It is the same for all engines. In rounds, the same documents, federation and versions give the same weights, whatever
the order in which answers come. By arrival the order counts: it is in `rounds.jsonl`, and a replay of that gives the
same weights again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gneiss.errors import InputError, MachineError
from gneiss.model_training.federated.asking import (
    Correspondence,
    Traffic,
    answer_of,
    check_counts,
    check_figures,
    check_trained,
    gathered,
    held_out,
    require_bounded,
    said_of,
    task_message,
    training_message,
    zeros,
)
from gneiss.model_training.federated.by_arrival import by_arrival, replayed
from gneiss.model_training.federated.checkpoint import (
    Checkpoint,
    Record,
    arrays_of,
    read_checkpoint,
    state_of,
    write_checkpoint,
)
from gneiss.model_training.federated.engines import Engine
from gneiss.model_training.federated.federation import ROUNDS, Federation, claim_federation
from gneiss.model_training.federated.rounds import asked_sites
from gneiss.model_training.federated.steps import Weights
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
    if missing := sorted(set(federation.sites) - set(engine.sites())):
        raise MachineError(f"site {missing[0]}: cannot be reached; start it, and run again")
    with held(output):
        claim_federation(output, federation)
        out = Correspondence(engine)
        begun = None if replay else read_checkpoint(output, federation.key)
        if federation.strategy in ROUNDS:
            if replay:
                raise InputError(f"strategy {federation.strategy}: rounds need no replay: run it again")
            weights, records = _rounds(federation, out, output, begun, answer_seconds)
        elif replay:
            weights, records = replayed(federation, out, output, replay, answer_seconds)
        else:
            weights, records = by_arrival(federation, out, output, begun, answer_seconds)
        tasks = dict.fromkeys(federation.sites, task_message(federation, "evaluate", federation.rounds, weights))
        answers, _ = gathered(out, tasks, check_figures, answer_seconds, Traffic())
        return Trained(weights, tuple(records), held_out(answers))


def count_labels(
    federation: Federation, engine: Engine, answer_seconds: float = ANSWER_SECONDS
) -> dict[str, tuple[int, int]]:
    """Site → its documents of the low and of the high label. Raises MachineError where a site does not answer."""
    tasks = dict.fromkeys(federation.sites, task_message(federation, "count", 0))
    answers, lost = gathered(Correspondence(engine), tasks, check_counts, answer_seconds, Traffic())
    if lost:
        raise MachineError(f"counting labels: {said_of(lost)}; start these sites, and run again")
    return {site: (answers[site].meta["labels"][0], answers[site].meta["labels"][1]) for site in sorted(answers)}


def _rounds(
    federation: Federation, out: Correspondence, output: Place, begun: Checkpoint | None, answer_seconds: float
) -> tuple[Weights, list[Record]]:
    strategy = ROUNDS[federation.strategy](federation.rates)
    state = strategy.begin(zeros(federation), federation.sites) if begun is None else state_of(begun.arrays)
    records = [] if begun is None else [*begun.records]
    for round_ in range(len(records), federation.rounds):
        started, traffic = time.monotonic(), Traffic()
        asked = asked_sites(federation.sites, federation.share, federation.seed, round_)
        tasks = {site: training_message(federation, strategy, strategy.task(state, site), round_) for site in asked}
        answers, lost = gathered(out, tasks, check_trained(federation, strategy), answer_seconds, traffic)
        if len(answers) < min(federation.min_answers, len(asked)):
            raise MachineError(
                f"round {round_}: {len(answers)} of {len(asked)} sites answered, expected {federation.min_answers} at"
                f" least ({said_of(lost)}); start them: the same command goes on with this round"
            )
        state = strategy.aggregate(state, {site: answer_of(answer) for site, answer in answers.items()})
        require_bounded(state.x, round_)
        records.append(
            {
                "round": round_,
                "asked": list(asked),
                "lost": lost,
                **asdict(traffic),
                "held_out": held_out(answers),
                "seconds": round(time.monotonic() - started, 3),
            }
        )
        write_checkpoint(output, federation.key, arrays_of(state), records)
    return state.x, records
