"""Local processes: each worker has a pipe of its own, so that the driver knows which task a dead worker had."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from gneiss.backends import MOST_ATTEMPTS, Done, Room, Step, Task
from gneiss.backends.resources import Resources
from gneiss.errors import DefectError, GneissError, MachineError

_OPENED = "opened"
_log = logging.getLogger(__name__)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: int | None = None
    is_opened: bool = False


@dataclass(frozen=True)
class LocalProcesses:
    """Workers on this machine."""

    def room(self, resources: Resources) -> Room:
        """See Backend."""
        import psutil

        by_memory = psutil.virtual_memory().available // resources.memory_bytes
        return Room(len(os.sched_getaffinity(0)) // resources.cpus, by_memory)

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """See Backend."""
        waiting = list(range(len(tasks)))[::-1]
        deaths, deaths_unopened = [0] * len(tasks), 0
        pool = [_start(step) for _ in range(workers)]
        try:
            left = len(tasks)
            while left:
                for worker in pool:
                    if worker.task is None and waiting:
                        worker.task = waiting.pop()
                        _give(worker, tasks[worker.task])
                speaking = connection.wait([worker.pipe for worker in pool if worker.task is not None])
                for index, worker in enumerate(pool):
                    if worker.pipe not in speaking:
                        continue
                    said = _receive(worker)
                    if isinstance(said, BaseException):
                        raise said
                    if said == _OPENED:
                        worker.is_opened, deaths_unopened = True, 0
                        continue
                    task, worker.task = worker.task, None
                    assert task is not None
                    if said is None:
                        pool[index] = _start(step)
                        if worker.is_opened:
                            deaths[task] += 1
                        else:
                            deaths_unopened += 1
                        ended = f"(exit code {worker.process.exitcode}); out of memory?"
                        if deaths_unopened == MOST_ATTEMPTS:
                            raise MachineError(
                                f"{MOST_ATTEMPTS} workers died before they were ready {ended} (A script that calls"
                                " gneiss.run must do so under `if __name__ == '__main__':`, as workers import it.)"
                            )
                        if deaths[task] < MOST_ATTEMPTS:
                            _log.warning("a worker died %s Its task is given to another one", ended)
                            waiting.append(task)
                            continue
                        said = (step.lost(tasks[task], f"its worker died {deaths[task]} times {ended}"),)
                    left -= 1
                    yield said[0]
        finally:
            for worker in pool:
                worker.pipe.close()
                worker.process.terminate()
            for worker in pool:
                worker.process.join()


def _start(step: Any) -> _Worker:
    context = get_context("spawn")  # forked children inherit locked locks of numba and Arrow threads
    mine, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, step), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, mine)


def _give(worker: _Worker, task: Any) -> None:
    with suppress(OSError):  # the worker is dead already: receiving from it says so
        worker.pipe.send(task)


def _receive(worker: _Worker) -> Any:
    """_OPENED, a one-tuple with the answer, an exception that ends the run, or None when the worker is dead."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        return None


def _work(pipe: Connection, step: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears an interrupt too, and ends its workers
    try:
        work = step.open()
        pipe.send(_OPENED)
        while True:
            pipe.send((work(pipe.recv()),))
    except (EOFError, BrokenPipeError):
        return  # the driver has closed the pipe, or is gone
    except GneissError as error:
        pipe.send(error)
    except Exception as error:  # noqa: BLE001 - the driver is told, and keeps the traceback
        pipe.send(DefectError.of("a worker failed", error))
