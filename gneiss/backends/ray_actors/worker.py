"""What runs on the nodes: the actor, and tasks without a CPU of their own that look at actors of their node."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import mkstemp
from typing import Any

from gneiss.backends.care import Care, watched
from gneiss.backends.machine import Vitals, log_folder, memory_kills, vitals
from gneiss.backends.memory import held_bytes
from gneiss.backends.recorder import Record, Recorder, read_record
from gneiss.errors import GneissError


@dataclass(frozen=True)
class Home:
    """Where an actor lives: its node, its process, the file of its recorder, and the memory kills there."""

    node: str
    pid: int
    record: str
    kills: int | None


class Worker:
    """The actor: opens a step, then works. Errors that concern the run come back as values, not as retries."""

    def __init__(self) -> None:
        self._work: Callable[[Any], Any] | None = None
        descriptor, self._record = mkstemp(prefix="gneiss-recorder-", dir=log_folder())
        self._recorder = Recorder(descriptor)

    def home(self) -> Home:
        """Where it lives."""
        import ray

        return Home(ray.get_runtime_context().get_node_id(), os.getpid(), self._record, memory_kills())

    def open(self, step: Any) -> GneissError | int:
        """Open a step; what it holds then."""
        self._work = None  # so that two are never held
        try:
            self._work = step.open()
        except GneissError as error:
            return error
        return held_bytes()

    def work(self, task: Any, care: Care) -> GneissError | tuple[Any, int | None, int]:
        """Apply the step to a task; with the answer, the memory kills of its node, and what it holds."""
        assert self._work is not None
        try:
            with watched(care, self._recorder):
                answer = self._work(task)
            return answer, memory_kills(), held_bytes()
        except GneissError as error:
            return error


def look_at(homes: Sequence[tuple[int, str]]) -> list[Vitals | None]:
    """How actors of this node are, by process and record; None for one that is dead."""
    return [vitals(pid, _record(record)) for pid, record in homes]


def examine(record: str) -> tuple[int | None, Record]:
    """The memory kills of this node, and the last record of a dead actor, whose file then goes."""
    found = _record(record)
    with suppress(OSError):
        os.unlink(record)
    return memory_kills(), found


def _record(path: str) -> Record:
    """What the recorder of an actor of this node says; nothing where its file is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            return read_record(file.fileno())
    except OSError:
        return Record()


def send_signal(pid: int, number: int, record: str = "") -> None:
    """Send a signal to a process of this node; record: a file that then nobody needs any more."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    if record:
        with suppress(OSError):
            os.unlink(record)
