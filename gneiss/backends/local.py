"""Local processes: each worker has a pipe of its own, and a thread of the driver that speaks through it.

So the driver waits for no single worker: one that is stopped while it reads or writes blocks its thread only.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context, reduction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, Literal, TypeAlias

from gneiss.backends import Done, Headcount, Patience, Room, Step, Task, bytes_of
from gneiss.backends.care import NO_CARE, Care, watched
from gneiss.backends.driving import Answered, Died, Event, Opened, Placed, Seen, drive
from gneiss.backends.machine import death_by_exit_code, gpus_here, memory_kills, vitals, worn_out
from gneiss.backends.memory import held_bytes, machine_memory, peak_bytes
from gneiss.backends.recorder import ASK, Recorder, read_record
from gneiss.backends.resources import Peaks, Resources
from gneiss.backends.samples import Sample
from gneiss.errors import DefectError, GneissError, MachineError

_OPENED = "opened"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalProcesses:
    """Workers on this machine.

    grows: there are as many as find room, by what their tasks were seen to take; idle: those that live on, where
    workers are kept; peaks: what tasks took.
    """

    patience: Patience = field(default_factory=Patience)
    grows: bool = False
    peaks: Peaks = field(default_factory=Peaks, compare=False, repr=False)
    headcount: Headcount = field(default_factory=Headcount, compare=False, repr=False)
    idle: list[_Process] | None = field(default=None, compare=False, repr=False)

    def room(self, resources: Resources, held_bytes: int = 0) -> Room:
        """See Backend. held_bytes: what workers that there are already hold of the memory.

        Without a GPU workers do without.
        """
        places = resources.places(machine_memory().free_bytes + held_bytes)
        if resources.gpus and (gpus := gpus_here()):
            places = min(places, resources.sharing(gpus))
        return Room(len(os.sched_getaffinity(0)) // resources.cpus, places)

    def admit(self, workers: int, resources: Resources, local: Sequence[str]) -> None:
        """See Backend. More processes than there may be memory for are only warned of: the estimate is a high one."""
        total = machine_memory().total_bytes
        if not (places := resources.places(total)):
            raise MachineError(
                f"a worker needs about {resources.said}, but this machine, or the container around it, has"
                f" {total / 1e9:.1f} GB: use {resources.less_than(total)}"
            )
        if workers > places:
            _log.warning(
                "there may be memory for %d of %d workers only, as each takes about %s: if one is killed for lack of"
                " it, fewer continue",
                places, workers, resources.said,
            )  # fmt: skip

    def show(self, samples: Iterable[Sample]) -> None:
        """See Backend. Nobody watches."""

    def present(self) -> int:
        """See Backend."""
        return self.headcount.now

    def stop(self) -> None:
        """See Backend."""
        self.headcount.is_over = True

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """See Backend."""
        with self.kept() as kept:
            assert kept.idle is not None
            processes = _Processes(step, resources, self.patience, self.peaks, kept.idle)
            most = partial(self._most, workers, resources, processes)
            yield from drive(processes, step, tasks, most, self.patience, headcount=self.headcount)

    def _most(self, workers: int, resources: Resources, processes: _Processes) -> int:
        """How many workers there may be now: asked for, or with room."""
        if not self.grows:
            return workers
        room = self.room(resources.corrected(self.peaks), processes.held_bytes)
        return max(1, min(room.by_cpus, room.by_memory))

    @contextmanager
    def kept(self) -> Iterator[LocalProcesses]:
        """See Backend."""
        if self.idle is not None:
            yield self
            return
        idle: list[_Process] = []
        try:
            yield replace(self, idle=idle)
        finally:
            _end_all(idle, self.patience)


@dataclass(frozen=True)
class _Silent:
    """The pipe of a worker is at its end, or its process is gone."""

    worker: int


_Said: TypeAlias = Event | GneissError | _Silent


@dataclass(frozen=True)
class _Message:
    """What a worker is to do, the number by which a pool knows it, and where that hears of it; care: of a task."""

    worker: int
    what: Literal["open", "work"]
    value: Any
    heard: SimpleQueue[_Said]
    care: Care = NO_CARE


@dataclass
class _Process:
    """A process, what is to be sent to it, and its recorder.

    has_task: whether it is at one; kills: memory kills before that; opened_bytes: what it held when it was ready;
    task_bytes: the input of its last task.
    """

    process: BaseProcess
    messages: SimpleQueue[_Message | None]
    recorder: IO[bytes]
    has_task: bool = False
    kills: int | None = None
    opened_bytes: int = 0
    task_bytes: int = 0


class _Processes:
    """See Pool. idle: processes that other pools were done with, or will be given."""

    def __init__(self, step: Any, resources: Resources, patience: Patience, peaks: Peaks, idle: list[_Process]) -> None:
        self._step, self._resources, self._patience, self._peaks, self._idle = step, resources, patience, peaks, idle
        self._living: dict[int, _Process] = {}
        self._events: SimpleQueue[_Said] = SimpleQueue()
        self._started = 0

    @property
    def held_bytes(self) -> int:
        """The memory of its processes."""
        return sum(held_bytes(process.process.pid or 0) for process in (*self._living.values(), *self._idle))

    def start(self) -> int:
        """See Pool."""
        while self._idle and not self._idle[-1].process.is_alive():
            _end([self._idle.pop()], BaseProcess.kill, self._patience)
        worker = self._idle.pop() if self._idle else _new_process()
        self._started += 1
        self._living[self._started] = worker
        worker.kills = memory_kills()
        worker.messages.put(_Message(self._started, "open", self._step, self._events))
        self._events.put(Placed(self._started, f"process {worker.process.pid}"))
        return self._started

    def give(self, worker: int, task: Any, care: Care) -> None:
        """See Pool."""
        process = self._living[worker]
        process.kills, process.has_task, process.task_bytes = memory_kills(), True, bytes_of(task)
        process.messages.put(_Message(worker, "work", task, self._events, care))

    def look(self, workers: Collection[int]) -> None:
        """See Pool."""
        for worker in workers:
            process = self._living[worker]
            seen = vitals(process.process.pid or 0, read_record(process.recorder.fileno()))
            self._events.put(_Silent(worker) if seen is None else Seen(worker, seen))

    def ask(self, worker: int) -> None:
        """See Pool."""
        with suppress(ProcessLookupError):
            os.kill(self._living[worker].process.pid or 0, ASK)

    def end(self, worker: int) -> None:
        """See Pool."""
        _end([self._living.pop(worker)], BaseProcess.kill, self._patience)

    def events(self, seconds: float) -> Sequence[Event]:
        """See Pool."""
        try:
            event = self._events.get(timeout=seconds)
        except Empty:
            return ()
        if isinstance(event, GneissError):
            raise event
        if isinstance(event, Opened | Answered) and (process := self._living.get(event.worker)):
            process.has_task = False
            held = held_bytes(process.process.pid or 0)
            if isinstance(event, Opened):
                process.opened_bytes = held
                return (event,)
            self._peaks.add(process.task_bytes, event.peak_bytes)
            if death := worn_out(held, process.opened_bytes, self._resources):
                self.end(event.worker)
                return (event, Died(event.worker, death))
        if not isinstance(event, _Silent):
            return (event,)
        if (worker := self._living.pop(event.worker, None)) is None:
            return ()
        worker.process.join(self._patience.end_seconds)
        record = read_record(worker.recorder.fileno())
        _end([worker], BaseProcess.kill, self._patience)
        death = death_by_exit_code(worker.process.exitcode, worker.kills, memory_kills())
        return (Died(event.worker, replace(death, record=record)),)

    def close(self) -> None:
        """See Pool."""
        living = list(self._living.values())
        self._idle += [process for process in living if not process.has_task]
        _end_all([process for process in living if process.has_task], self._patience)


def _new_process() -> _Process:
    context = get_context("spawn")  # forked children inherit locked locks of numba and Arrow threads
    mine, theirs = context.Pipe()
    recorder = os.fdopen(os.memfd_create("gneiss-recorder"), "rb", buffering=0)
    process = context.Process(target=_work, args=(theirs, _Shared(recorder.fileno())), daemon=True)
    process.start()
    theirs.close()
    started = _Process(process, SimpleQueue(), recorder)
    Thread(target=_converse, args=(mine, started.messages), daemon=True).start()
    return started


def _end_all(living: Sequence[_Process], patience: Patience) -> None:
    """Ask processes to end, then kill them; an interrupt meanwhile kills them at once."""
    try:
        _end(living, BaseProcess.terminate, patience)
    finally:
        _end(living, BaseProcess.kill, patience)
    for process in (one.process for one in living if one.process.is_alive()):
        _log.warning("process %d does not end, though killed: it waits for storage; it is left behind", process.pid)


def _end(processes: Sequence[_Process], how: Callable[[BaseProcess], None], patience: Patience) -> None:
    """End processes that live, and wait for that as long as patience has it."""
    living = [process for process in processes if process.process.is_alive()]
    for process in living:
        how(process.process)
    deadline = time.monotonic() + patience.end_seconds
    for process in living:
        process.process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.messages.put(None)
        if not process.process.is_alive():
            process.recorder.close()


def _converse(pipe: Connection, messages: SimpleQueue[_Message | None]) -> None:
    """Send messages and receive answers, until the process is dead or the driver has done with it."""
    with pipe:
        while (message := messages.get()) is not None:
            try:
                pipe.send((message.what, message.value, message.care))
                answer = pipe.recv()
            except (EOFError, OSError):
                message.heard.put(_Silent(message.worker))
                return
            except Exception as error:  # noqa: BLE001 - the driver is told, and keeps the traceback
                message.heard.put(DefectError.of("a task or its answer cannot be sent", error))
                return
            if answer == _OPENED:
                message.heard.put(Opened(message.worker))
            else:
                message.heard.put(answer if isinstance(answer, GneissError) else Answered(message.worker, *answer))


class _Shared:
    """An open file that travels to a process that is being started, where it is a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> Any:
        return _received, (reduction.DupFd(self._descriptor),)


def _received(duplicate: Any) -> int:
    descriptor: int = duplicate.detach()
    return descriptor


def _work(pipe: Connection, descriptor: int) -> None:
    """Open steps and do tasks, as they are sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears an interrupt too, and ends its workers
    recorder = Recorder(descriptor)
    work: Callable[[Any], Any] | None = None
    answer: Any
    what, value, care = _hear(pipe)
    while True:
        try:
            if what == "open":
                work = None  # so that two are never held
                work, answer = value.open(), _OPENED
            else:
                assert work is not None
                with watched(care, recorder):
                    answer = (work(value), peak_bytes())
        except GneissError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - the driver is told, and keeps the traceback
            answer = DefectError.of("a worker failed", error)
        what, value, care = _hear(pipe, answer)


def _hear(pipe: Connection, answer: Any = None) -> Any:
    """Give an answer, if there is one, and hear the next message; ends this process when the driver is gone."""
    try:
        if answer is not None:
            pipe.send(answer)
        return pipe.recv()
    except (EOFError, ConnectionError):
        sys.exit()
