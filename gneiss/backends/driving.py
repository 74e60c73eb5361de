"""Driving a pool of workers: which gets which task, what a death means for it, and who is waited for no longer.

A task is given to a worker that has opened its step, and to no other. A worker that dies by what its task did (out of
memory, a crash, a hang) is charged to the documents that it was at, as its recorder says, or else to the task; one that
is lost with its machine or killed from outside is not, however often that happens.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias

from gneiss.backends import MOST_ATTEMPTS, MOST_LOSSES, Done, Headcount, Patience, Step, Task, fields_of
from gneiss.backends.care import MOST_ENDS, NO_CARE, Care, End
from gneiss.backends.machine import Death, Vitals
from gneiss.backends.recorder import Work
from gneiss.errors import MachineError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placed:
    """A worker has a place, and opens its step; where: its process."""

    worker: int
    where: str


@dataclass(frozen=True)
class Opened:
    """A worker can take tasks."""

    worker: int


@dataclass(frozen=True)
class Answered:
    """A worker has finished its task; peak_bytes: of its memory meanwhile, where that is known."""

    worker: int
    answer: Any
    peak_bytes: int = 0


@dataclass(frozen=True)
class Seen:
    """What a look at a worker showed."""

    worker: int
    vitals: Vitals


@dataclass(frozen=True)
class Died:
    """A worker is dead."""

    worker: int
    death: Death


Event: TypeAlias = Placed | Opened | Answered | Seen | Died


class Pool(Protocol):
    """Workers by number, and what happens to them. A number is never used twice."""

    def start(self) -> int:
        """Start a worker."""

    def give(self, worker: int, task: Any, care: Care) -> None:
        """Let a worker that has opened its step, and has no task, do one, with this care."""

    def look(self, workers: Collection[int]) -> None:
        """Look at workers that have a place: each living one is Seen later, or the look came to nothing."""

    def ask(self, worker: int) -> None:
        """Ask a worker for its stack, which is in its record at a later look."""

    def end(self, worker: int) -> None:
        """Kill a worker, whatever state it is in."""

    def events(self, seconds: float) -> Sequence[Event]:
        """What has happened, waiting for it no longer than this. Raises GneissError that a worker met."""

    def close(self) -> None:
        """Be done with all workers; those that have no task may live on for another pool."""


def drive(
    pool: Pool,
    step: Step[Task, Done],
    tasks: Sequence[Task],
    most: Callable[[], int],
    patience: Patience,
    clock: Callable[[], float] = time.monotonic,
    headcount: Headcount | None = None,
) -> Generator[Done, None, None]:
    """Apply a step to all tasks; yields in order of completion, and closes the pool at the end, whatever that is.

    Who has finished a task gets the next one before the answer is yielded: no worker waits for what is done with it.

    most: how many workers there may be, 1 or more; asked now and again, since machines come and go; headcount: kept,
    and looked at: whoever sets `is_over` ends the run.
    Raises MachineError when workers die before they are ready, or when none has room.
    """
    crew = _Crew(pool, getattr(step, "stage", ""), tasks, patience, headcount or Headcount())
    left, looked, waits_until = len(tasks), clock(), 0.0
    workers, asked = most(), clock()
    longest = min(patience.look_seconds, patience.join_seconds)
    try:
        while left and not crew.headcount.is_over:
            if clock() - asked >= patience.join_seconds:
                before, workers, asked = workers, most(), clock()
                if workers != before:
                    _log.info("there is room for %d workers now, before for %d", workers, before)
            waits_until = max(waits_until, clock() + crew.back_off(workers))
            if (wait := waits_until - clock()) <= 0:
                crew.fill(min(max(1, workers - crew.thrift.fewer), left))
            done: list[Done] = []
            for event in pool.events(min(longest, wait) if wait > 0 else longest):
                match crew.seen(event) if isinstance(event, Seen) else event:
                    case Answered(number, answer) if crew.finished(number):
                        left -= 1
                        done.append(answer)
                    case Died(number, death):
                        asked = -math.inf  # its machine may be lost
                        if (given_up := crew.bury(number, death)) is not None:
                            left -= 1
                            done.append(step.lost(*given_up))
                    case Placed(number, where):
                        crew.placed(number, where)
                    case Opened(number):
                        crew.opened(number)
            crew.give()
            yield from done
            if (passed := clock() - looked) >= patience.look_seconds:
                crew.look(min(passed, 2 * patience.look_seconds))  # this process may have been stopped meanwhile
                looked += passed
    finally:
        pool.close()


@dataclass
class _Worker:
    """A worker as the driver knows it.

    failed_starts: of it and of those it replaces, in a row; quiet_seconds: without a place, or a sign of life;
    task_seconds: at its task; said_seconds: of these, when that was last said; at, at_seconds: the work of the last
    looks, by when it began, and for how long it was that; is_late: whether that is too long.
    """

    number: int
    failed_starts: int
    where: str = ""
    is_opened: bool = False
    task: int | None = None
    cpu_seconds: float = 0.0
    quiet_seconds: float = 0.0
    is_said: bool = False
    task_seconds: float = 0.0
    said_seconds: float = 0.0
    at: tuple[Work, float] | None = None
    at_seconds: float = 0.0
    is_late: bool = False

    def shows_life(self, cpu_seconds: float) -> None:
        """Be patient with it again."""
        self.cpu_seconds, self.quiet_seconds, self.is_said = cpu_seconds, 0.0, False


@dataclass
class _Thrift:
    """How many workers fewer there are after kills for lack of memory; one comes back after ever more tasks."""

    fewer: int = 0
    kills: int = 0
    tasks: int = 0

    def killed(self) -> None:
        """One more was killed."""
        self.fewer, self.kills, self.tasks = self.fewer + 1, self.kills + 1, 0

    def finished(self) -> None:
        """A task has ended well."""
        self.tasks += 1
        if self.fewer and self.tasks >= 2**self.kills:
            self.fewer, self.tasks = self.fewer - 1, 0


class _Crew(Generic[Task]):
    """The workers that there are, and the tasks that are not finished."""

    def __init__(self, pool: Pool, stage: str, tasks: Sequence[Task], patience: Patience, headcount: Headcount) -> None:
        self._pool, self._stage, self._tasks, self._patience = pool, stage, tasks, patience
        self.headcount = headcount
        headcount.now, headcount.is_over = 0, False
        self._workers: dict[int, _Worker] = {}
        self._ready: dict[int, None] = {}  # those that can take a task, in order
        self._waiting = deque(range(len(tasks)))
        self._deaths: Counter[int] = Counter()
        self._care: dict[int, Care] = {}
        self._losses, self._is_losing = 0, False
        self._failed_starts: list[int] = []
        self._passed = 0.0
        self.thrift = _Thrift()

    def fill(self, workers: int) -> None:
        """Start workers until there are this many."""
        while len(self._workers) < workers:
            number = self._pool.start()
            self._workers[number] = _Worker(number, self._failed_starts.pop() if self._failed_starts else 0)

    def give(self) -> None:
        """Give tasks to those that can take one."""
        while self._waiting and self._ready:
            worker = self._workers[number := next(iter(self._ready))]
            del self._ready[number]
            worker.task = self._waiting.popleft()
            worker.shows_life(worker.cpu_seconds)
            worker.task_seconds = worker.said_seconds = 0.0
            self._pool.give(number, self._tasks[worker.task], self._care.get(worker.task, NO_CARE))

    def placed(self, number: int, where: str) -> None:
        """A worker has a process: others may get a place soon, so that their time restarts."""
        if worker := self._workers.get(number):
            self.headcount.now += not worker.where
            worker.where = where
            for silent in (worker, *(other for other in self._workers.values() if not other.where)):
                silent.shows_life(0.0)

    def opened(self, number: int) -> None:
        """A worker is ready."""
        if worker := self._workers.get(number):
            worker.is_opened = True
            self._ready[number] = None

    def finished(self, number: int) -> bool:
        """A worker has answered; False if it is known to be lost, and its task another one's."""
        if number not in self._workers:
            return False
        if (task := self._workers[number].task) is not None:
            self._care.pop(task, None)
        self._workers[number].task = None
        self._ready[number] = None
        self._losses = 0
        self.thrift.finished()
        return True

    def back_off(self, workers: int) -> float:
        """How long new workers have to wait, in seconds, where all are lost again and again and no task is finished."""
        times, self._is_losing = self._losses // workers if self._is_losing else 0, False
        if times <= MOST_LOSSES:
            return 0.0
        seconds = min(2.0 ** (times - MOST_LOSSES), self._patience.back_off_seconds)
        _log.warning(
            "%d workers were lost one after another, and no task was finished between; new ones are started in %.0f s."
            " The machines are charged with that, not the data. When interrupted, the same command resumes",
            self._losses, seconds,
        )  # fmt: skip
        return seconds

    def bury(self, number: int, death: Death) -> tuple[Task, str] | None:
        """A worker is dead: its task goes to another one, at the end, or is given up: then that task and the reason."""
        worker = self._workers.pop(number, None)
        self._ready.pop(number, None)
        if worker is None:
            return None
        self.headcount.now -= bool(worker.where)
        if not death.is_own:
            self._losses += 1
            self._is_losing = True
        if not worker.is_opened:
            self._count_failed_start(worker, death)
        if death.is_for_memory and self._workers:
            self.thrift.killed()
            _log.warning("a worker was killed for lack of memory: %d go on without it for a while", len(self._workers))
        if (task := worker.task) is None:
            return None
        given, at = self._tasks[task], death.record.work
        care = self._care.get(task, NO_CARE)
        if at is not None:
            end = End(at, death.is_own, death.did, death.is_late, death.said, death.record.stack)
            self._care[task] = care = care.after(end)
        elif death.is_own:
            self._deaths[task] += 1
        if care.is_too_much:
            return given, f"its workers died {MOST_ENDS} times of its documents ({death.said})"
        if self._deaths[task] == MOST_ATTEMPTS:
            return given, f"its worker died {MOST_ATTEMPTS} times ({death.said})"
        _log.warning(
            "%s: its worker died (%s)%s; the task is given to another one%s",
            self._name(given), death.said, f" at {at}" if at else "", _how(care, at), extra=fields_of(given),
        )  # fmt: skip
        self._waiting.append(task)
        return None

    def look(self, passed: float) -> None:
        """Look at workers that should be doing something; count the seconds that others have waited for a place."""
        self._passed = passed
        self._pool.look([worker.number for worker in self._workers.values() if worker.where])
        waiting = [worker for worker in self._workers.values() if not worker.where]
        for worker in waiting:
            worker.quiet_seconds += passed
        placed, longest = (
            len(self._workers) - len(waiting),
            max((worker.quiet_seconds for worker in waiting), default=0.0),
        )
        if any(worker.quiet_seconds >= self._patience.say_seconds and not worker.is_said for worker in waiting):
            _log.warning(
                "waiting for a place for %d of %d workers: something else holds the CPUs or the memory of the machines,"
                " or there are too few (with `ray job submit --entrypoint-num-cpus` the driver does); %s",
                len(waiting), len(self._workers), f"{placed} go on meanwhile" if placed else "none has one yet",
            )  # fmt: skip
            for worker in waiting:
                worker.is_said = True
        if not placed and longest >= self._patience.place_seconds:
            raise MachineError(
                f"no worker has had a place for {longest:.0f} s; free CPUs and memory, or add machines: the same"
                " command resumes"
            )

    def seen(self, event: Seen) -> Died | None:
        """What a look showed: a worker that gives no sign of life for long is killed."""
        worker, vitals = self._workers.get(event.worker), event.vitals
        if worker is None or self._is_idle(worker):
            return None
        if late := self._late(worker, vitals):
            return late
        self._say_long(worker, vitals)
        worker.quiet_seconds += self._passed
        used = abs(vitals.cpu_seconds - worker.cpu_seconds)  # less than before where a child has ended
        if used >= self._patience.busy_share * worker.quiet_seconds and not vitals.is_stopped:
            worker.shows_life(vitals.cpu_seconds)
            return None
        if worker.quiet_seconds >= self._patience.say_seconds and not worker.is_said:
            worker.is_said = True
            self._say_quiet(worker, vitals)
            self._pool.ask(worker.number)
        if worker.quiet_seconds < self._patience.kill_seconds or not self._is_killable(worker, vitals):
            return None
        how = "stopped" if vitals.is_stopped else "hung, without CPU time"
        said, did = f"{how} for {worker.quiet_seconds:.0f} s, then killed", "stopped" if vitals.is_stopped else "hung"
        return self._killed(worker, Death(said, not vitals.is_stopped, vitals.record, f"{did} its worker"))

    def _late(self, worker: _Worker, vitals: Vitals) -> Died | None:
        """A worker that is at the same documents for too long is asked for its stack, and at the next look killed."""
        record, limit = vitals.record, self._patience.document_seconds
        at = None if record.work is None else (record.work, record.began_cpu_seconds)
        if worker.at != at:
            worker.at, worker.at_seconds, worker.is_late = at, 0.0, False
        elif not vitals.is_stopped and not vitals.waits_for_a_disk:
            worker.at_seconds += self._passed
        if at is None:
            return None
        seconds, times = vitals.own_cpu_seconds - at[1], 1 + at[0].size_bytes / 1e6
        said, did = f"{seconds:.0f} s of CPU time", f"took longer than {limit:g} s"
        if seconds <= limit * times:
            longest = limit * self._patience.document_waits
            if worker.at_seconds <= longest * times:
                return None
            said, did = f"{worker.at_seconds:.0f} s, most of them idle", f"took longer than {longest:g} s, idle"
        if not worker.is_late:
            worker.is_late = True
            self._pool.ask(worker.number)
            return None
        return self._killed(worker, Death(said, True, record, did, is_late=True))

    def _say_long(self, worker: _Worker, vitals: Vitals) -> None:
        """Say of a task that takes long where it is: once it has taken so long, then whenever that has doubled."""
        worker.task_seconds += self._passed
        if worker.task is None or worker.task_seconds < max(self._patience.long_seconds, 2 * worker.said_seconds):
            return
        worker.said_seconds = worker.task_seconds
        task = self._tasks[worker.task]
        at = f", at {vitals.record.work}" if vitals.record.work else ""
        _log.warning(
            "%s: its worker (%s) has been running for %.0f min%s, and has used %.0f s of CPU time",
            self._name(task), worker.where, worker.task_seconds / 60, at, vitals.cpu_seconds, extra=fields_of(task),
        )  # fmt: skip

    def _killed(self, worker: _Worker, death: Death) -> Died:
        self._pool.end(worker.number)
        if death.record.stacks:
            _log.warning("the stack of the worker (%s) before it is killed:\n%s", worker.where, death.record.stack)
        return Died(worker.number, death)

    def _name(self, task: Task) -> str:
        """What messages call a task; one that is a number by its stage too."""
        name = " ".join(f"{name} {value}" for name, value in fields_of(task).items())
        return name if hasattr(task, "id") or not self._stage else f"stage {self._stage}, {name}"

    def _is_idle(self, worker: _Worker) -> bool:
        return worker.is_opened and worker.task is None

    def _is_killable(self, worker: _Worker, vitals: Vitals) -> bool:
        """Whoever waits for storage, or opens a step (another worker may be fetching its model), is left in peace."""
        return vitals.is_stopped or (worker.is_opened and not vitals.waits_for_a_disk)

    def _say_quiet(self, worker: _Worker, vitals: Vitals) -> None:
        did = (
            "has been stopped"
            if vitals.is_stopped
            else "has waited for storage"
            if vitals.waits_for_a_disk
            else "has used no CPU time"
        )
        what = (
            "a worker that is not ready yet"
            if worker.task is None
            else f"{self._name(self._tasks[worker.task])}: its worker"
        )
        then = f"; after {self._patience.kill_seconds:.0f} s it is killed" if self._is_killable(worker, vitals) else ""
        at = f", at {vitals.record.work}" if vitals.record.work else ""
        fields = {} if worker.task is None else fields_of(self._tasks[worker.task])
        _log.warning("%s (%s) %s for %.0f s%s%s", what, worker.where, did, worker.quiet_seconds, at, then, extra=fields)

    def _count_failed_start(self, worker: _Worker, death: Death) -> None:
        failed = worker.failed_starts + death.is_own
        if failed == MOST_ATTEMPTS:
            raise MachineError(
                f"{failed} workers died before they were ready ({death.said}). (A script that calls gneiss.run must do"
                " so under `if __name__ == '__main__':`, as workers import it.)"
            )
        self._failed_starts.append(failed)


def _how(care: Care, at: Work | None) -> str:
    """How the next worker goes about the work that the last one died at."""
    if at is None:
        return ""
    if any((end.work.name, end.work.first) == (at.name, at.first) for end in care.blamed()):
        return ", without this document"
    return "" if at.is_of_one_document else ", one document at a time"
