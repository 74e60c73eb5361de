"""Local processes: each worker has a pipe of its own, so that the driver knows which task a dead worker had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from gneiss.backends import MOST_ATTEMPTS, Done, Step, Task
from gneiss.errors import GneissError, MachineError


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: int | None = None


@dataclass(frozen=True)
class LocalProcesses:
    """Workers on this machine."""

    def run(self, step: Step[Task, Done], tasks: Sequence[Task], workers: int) -> Iterator[Done]:
        """Apply a step to all tasks; see Backend."""
        waiting = list(range(len(tasks)))[::-1]
        attempts = [0] * len(tasks)
        pool = [_start(step) for _ in range(min(workers, len(tasks)))]
        try:
            left = len(tasks)
            while left:
                for worker in pool:
                    if worker.task is None and waiting:
                        worker.task = waiting.pop()
                        _give(worker, tasks[worker.task])
                for pipe in connection.wait([worker.pipe for worker in pool if worker.task is not None]):
                    index = next(i for i, worker in enumerate(pool) if worker.pipe is pipe)
                    task, answer = pool[index].task, _receive(pool[index])
                    assert task is not None
                    pool[index].task = None
                    if isinstance(answer, BaseException):
                        raise answer
                    if answer is None:
                        attempts[task] += 1
                        reason = f"its worker died {attempts[task]} times (exit code {pool[index].process.exitcode}); out of memory?"
                        pool[index] = _start(step)
                        if attempts[task] < MOST_ATTEMPTS:
                            waiting.append(task)
                            continue
                        answer = (step.lost(tasks[task], reason),)
                    left -= 1
                    yield answer[0]
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
    """A one-tuple with the answer, an exception that ends the run, or None when the worker is dead."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        return None


def _work(pipe: Connection, step: Any) -> None:
    try:
        work = step.open()
        while True:
            pipe.send((work(pipe.recv()),))
    except EOFError:
        return  # the driver has closed the pipe, or is gone
    except GneissError as error:
        pipe.send(error)
    except Exception as error:
        pipe.send(MachineError(f"a worker failed: {type(error).__name__}: {error}"))
        raise
