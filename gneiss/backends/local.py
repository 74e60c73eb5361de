"""Local processes: each worker has a pipe of its own, and a thread of the driver that speaks through it.

So the driver waits for no single worker: one that is stopped while it reads or writes blocks its thread only.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

from gneiss.backends import Done, Patience, Room, Step, Task
from gneiss.backends.driving import Answered, Died, Event, Opened, Placed, Seen, drive
from gneiss.backends.machine import death_by_exit_code, memory_kills, vitals
from gneiss.backends.resources import Resources
from gneiss.errors import DefectError, GneissError

_OPENED = "opened"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalProcesses:
    """Workers on this machine."""

    patience: Patience = field(default_factory=Patience)

    def room(self, resources: Resources) -> Room:
        """See Backend."""
        import psutil

        by_memory = psutil.virtual_memory().available // resources.memory_bytes
        return Room(len(os.sched_getaffinity(0)) // resources.cpus, by_memory)

    def admit(self, workers: int, resources: Resources) -> None:
        """See Backend. Processes always find a place."""

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """See Backend."""
        return drive(_Processes(step, self.patience), step, tasks, workers, self.patience)


@dataclass(frozen=True)
class _Silent:
    """The pipe of a worker is at its end, or its process is gone."""

    worker: int


_Said: TypeAlias = Event | GneissError | _Silent


@dataclass
class _Process:
    """A worker: its process, what is to be sent to it, and the memory kills of this machine before its task."""

    process: BaseProcess
    tasks: SimpleQueue[tuple[Any] | None]
    kills: int | None


class _Processes:
    """See Pool."""

    def __init__(self, step: Any, patience: Patience) -> None:
        self._step, self._patience = step, patience
        self._living: dict[int, _Process] = {}
        self._events: SimpleQueue[_Said] = SimpleQueue()
        self._started = 0

    def start(self) -> int:
        """See Pool."""
        context = get_context("spawn")  # forked children inherit locked locks of numba and Arrow threads
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._step), daemon=True)
        process.start()
        theirs.close()
        self._started += 1
        worker = _Process(process, SimpleQueue(), memory_kills())
        self._living[self._started] = worker
        Thread(target=_converse, args=(mine, worker.tasks, self._started, self._events), daemon=True).start()
        self._events.put(Placed(self._started, f"process {process.pid}"))
        return self._started

    def give(self, worker: int, task: Any) -> None:
        """See Pool."""
        self._living[worker].kills = memory_kills()
        self._living[worker].tasks.put((task,))

    def look(self, workers: Collection[int]) -> None:
        """See Pool."""
        for worker in workers:
            seen = vitals(self._living[worker].process.pid or 0)
            self._events.put(_Silent(worker) if seen is None else Seen(worker, seen))

    def end(self, worker: int) -> None:
        """See Pool."""
        self._end([self._living.pop(worker)], BaseProcess.kill)

    def events(self, seconds: float) -> Sequence[Event]:
        """See Pool."""
        try:
            event = self._events.get(timeout=seconds)
        except Empty:
            return ()
        if isinstance(event, GneissError):
            raise event
        if not isinstance(event, _Silent):
            return (event,)
        if (worker := self._living.pop(event.worker, None)) is None:
            return ()
        worker.process.join(self._patience.end_seconds)
        self._end([worker], BaseProcess.kill)
        death = death_by_exit_code(worker.process.exitcode, worker.kills, memory_kills())
        return (Died(event.worker, death),)

    def close(self) -> None:
        """See Pool. They are asked, then killed; an interrupt meanwhile kills them at once."""
        living = list(self._living.values())
        try:
            self._end(living, BaseProcess.terminate)
        finally:
            self._end(living, BaseProcess.kill)
        for process in (its.process for its in living if its.process.is_alive()):
            _log.warning("process %d does not end, though killed: it waits for storage; it is left behind", process.pid)

    def _end(self, workers: Sequence[_Process], how: Callable[[BaseProcess], None]) -> None:
        """End workers that live, and wait for that as long as patience has it."""
        living = [its for its in workers if its.process.is_alive()]
        for its in living:
            how(its.process)
        deadline = time.monotonic() + self._patience.end_seconds
        for its in living:
            its.process.join(max(0.0, deadline - time.monotonic()))
        for its in workers:
            its.tasks.put(None)


def _converse(pipe: Connection, tasks: SimpleQueue[tuple[Any] | None], worker: int, events: SimpleQueue[_Said]) -> None:
    """Send tasks and receive answers, until the worker is dead or the driver has done with it."""
    with pipe:
        try:
            while not isinstance(said := pipe.recv(), GneissError):
                events.put(Answered(worker, said[0]) if isinstance(said, tuple) else Opened(worker))
                if (task := tasks.get()) is None:
                    return
                pipe.send(task[0])
            events.put(said)
        except (EOFError, OSError):
            events.put(_Silent(worker))
        except Exception as error:  # noqa: BLE001 - the driver is told, and keeps the traceback
            events.put(DefectError.of("a task or its answer cannot be sent", error))


def _work(pipe: Connection, step: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears an interrupt too, and ends its workers
    try:
        work = step.open()
        task = _exchange(pipe, _OPENED)
        while True:
            task = _exchange(pipe, (work(task),))
    except GneissError as error:
        _exchange(pipe, error)
    except Exception as error:  # noqa: BLE001 - the driver is told, and keeps the traceback
        _exchange(pipe, DefectError.of("a worker failed", error))


def _exchange(pipe: Connection, said: Any) -> Any:
    """Say something to the driver, and hear the next task; ends this process when the driver is gone."""
    try:
        pipe.send(said)
        return pipe.recv()
    except (EOFError, ConnectionError):
        sys.exit()
