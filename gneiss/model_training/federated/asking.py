"""Tasks for sites, and the answers that count: those in time, of the right form, from sites that were asked."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gneiss.errors import InputError, ModelError, printable
from gneiss.model_training.federated.engines import Engine, Lost
from gneiss.model_training.federated.federation import Described, Federation
from gneiss.model_training.federated.message import LARGEST, Message, number, packed, require_arrays, whole_number
from gneiss.model_training.federated.privacy import protection_of
from gneiss.model_training.federated.strategies.by_name import Rounds
from gneiss.model_training.federated.strategies.steps import Weights
from gneiss.model_training.federated.strategies.strategy import Answer, Task
from gneiss.model_training.federated.tasks import TRAIN, steps_meta

_log = logging.getLogger(__name__)
MOST_DOCUMENTS = 10**12


@dataclass
class Traffic:
    """What goes to sites and comes back: numbers of arrays, and bytes of messages."""

    floats_down: int = 0
    floats_up: int = 0
    bytes_down: int = 0
    bytes_up: int = 0

    def down(self, message: Message) -> None:
        """A task goes."""
        self.floats_down += _floats(message)
        self.bytes_down += len(packed(message))

    def up(self, message: Message) -> None:
        """An answer has come."""
        self.floats_up += _floats(message)
        self.bytes_up += len(packed(message))


@dataclass
class Correspondence:
    """The tasks that are under way: site → its round. A site that has not answered yet is not asked again."""

    engine: Engine
    under_way: dict[str, int] = field(default_factory=dict)

    def ask(self, site: str, task: Message, traffic: Traffic) -> None:
        """Send a task."""
        self.under_way[site] = task.meta["round"]
        traffic.down(task)
        self.engine.ask(site, task)

    def answer(
        self, timeout_s: float, check: Callable[[Message], None], traffic: Traffic
    ) -> tuple[str, Message] | Lost | None:
        """The next answer, checked; one that does not pass, or is of another round, is as good as lost.

        Raises GneissError, but for InputError of `check`.
        """
        found = self.engine.answer(timeout_s)
        if found is None:
            return None
        if isinstance(found, Lost):
            self.under_way.pop(found.site, None)
            return self._lost(found.site, found.reason)
        site, message = found
        traffic.up(message)
        round_ = self.under_way.pop(site, None)
        if round_ is None or message.meta.get("round") != round_:
            return self._lost(site, "an answer to what it was not asked")
        try:
            check(message)
        except InputError as error:
            return self._lost(site, str(error))
        return site, message

    def _lost(self, site: str, reason: str) -> Lost:
        lost = Lost(site, printable(reason[:300]))
        _log.warning("site %s: lost: %s", site, lost.reason)
        return lost


def gathered(
    out: Correspondence, tasks: Mapping[str, Message], check: Callable[[Message], None], timeout_s: float,
    traffic: Traffic,
) -> tuple[dict[str, Message], dict[str, str]]:  # fmt: skip
    """(answers, lost): ask sites and wait for all, or until the time is over; lost: site → why."""
    lost = {site: f"at the task of round {out.under_way[site]} still" for site in tasks if site in out.under_way}
    waiting = sorted(set(tasks) - lost.keys())
    for site in waiting:
        out.ask(site, tasks[site], traffic)
    answers: dict[str, Message] = {}
    deadline = time.monotonic() + timeout_s
    while left := [site for site in waiting if site not in answers and site not in lost]:
        found = out.answer(max(0.0, deadline - time.monotonic()), check, traffic)
        if found is None:
            lost |= dict.fromkeys(left, f"no answer within {timeout_s:g} s")
        elif isinstance(found, Lost):
            lost.setdefault(found.site, found.reason)
        elif found[0] in left:
            answers[found[0]] = found[1]
    return answers, {site: lost[site] for site in sorted(lost) if site in tasks}


def task_message(federation: Described, kind: str, round_: int, x: Weights | None = None) -> Message:
    """A task without steps."""
    return Message({"kind": kind, "round": round_, "features": federation.features}, {} if x is None else {"x": x})


def training_message(federation: Federation, rule: Rounds, task: Task, round_: int) -> Message:
    """A task with steps, of a site or of a region."""
    said = {
        **task_message(federation, TRAIN, round_).meta,
        **steps_meta(rule),
        "batch": federation.batch,
        "l2": federation.l2,
        "seed": federation.seed,
    }
    return Message(said, task.arrays)


def check_counts(message: Message) -> None:
    """Raise InputError for what is no answer to `count`."""
    require_arrays(message, {})
    labels = message.meta.get("labels")
    if (
        not isinstance(labels, list)
        or len(labels) != 2
        or not all(type(count) is int and 0 <= count <= MOST_DOCUMENTS for count in labels)
    ):
        raise InputError(f"message: labels: expected two counts, found {printable(repr(labels)[:80])}")


def check_figures(message: Message) -> None:
    """Raise InputError for what is no answer to `evaluate`."""
    require_arrays(message, {})
    require_figures(message)


def check_trained(shape: tuple[int, ...], answered: Sequence[str]) -> Callable[[Message], None]:
    """What raises InputError for what is no answer to `train`: vectors of these names, and figures."""

    def check(message: Message) -> None:
        require_arrays(message, dict.fromkeys(answered, shape))
        require_figures(message)
        protection_of(message.meta)

    return check


def require_figures(message: Message) -> None:
    """Raise InputError where an answer does not say how weights do on documents held out."""
    found = message.meta.get("held_out")
    if not isinstance(found, dict):
        raise InputError(f"message: held_out: expected figures, found {printable(repr(found)[:80])}")
    figures = Message(found)
    documents = whole_number(figures, "documents", 0, MOST_DOCUMENTS)
    whole_number(figures, "correct", 0, documents)
    number(figures, "loss_sum", 0, 1e300)


def answer_of(message: Message) -> Answer:
    """The answer that a checked message is."""
    return Answer(message.arrays["difference"], message.arrays.get("tracked"))


def held_out(answers: Mapping[str, Message]) -> dict[str, Any]:
    """Site → its figures, in order."""
    return {site: answers[site].meta["held_out"] for site in sorted(answers)}


def protections(answers: Mapping[str, Message]) -> dict[str, Any]:
    """Site → what its vectors are protected by, as it says; nothing where none is."""
    found = {site: own for site in sorted(answers) if (own := answers[site].meta.get("protection"))}
    return {"protection": found} if found else {}


def times_asked(records: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Site → how many tasks it had at most, from the lines on rounds: a lost answer may have left its site, too.

    By arrival the lines have those that came and those that were lost, and one more may be under way at the end.

    >>> times_asked([{"asked": ["a", "b"], "lost": {"b": "no answer"}}, {"asked": ["a"], "lost": {}}])
    Counter({'a': 2, 'b': 1})
    """
    asked = Counter(site for record in records for site in record.get("asked", ()))
    arrived = Counter(arrival[0] for record in records for arrival in record.get("arrivals", ()))
    for record in records if arrived else ():
        arrived.update(record["lost"].keys())
    return asked + arrived + Counter(dict.fromkeys(arrived, 1))


def zeros(federation: Federation) -> Weights:
    """The weights that a training begins with."""
    return np.zeros(federation.shape, np.float32)


def require_bounded(x: Weights, round_: int) -> None:
    """Raise ModelError for weights that no site would take."""
    largest = float(abs(x).max())
    if not largest <= LARGEST:
        raise ModelError(
            f"round {round_}: a weight is {largest:g}, expected at most {LARGEST:g}: training diverges; lower the rate"
        )


def said_of(lost: Mapping[str, str]) -> str:
    """Some of the sites that are lost, and why."""
    return "; ".join(f"{site}: {reason}" for site, reason in list(lost.items())[:3]) or "none was lost"


def _floats(message: Message) -> int:
    return sum(array.size for array in message.arrays.values())
