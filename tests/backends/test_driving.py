"""Which worker gets which task, and what deaths, silence and missing places mean, with workers that are played here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from gneiss.backends import MOST_ATTEMPTS, MOST_LOSSES, Headcount, Patience
from gneiss.backends.care import ENDS_OF_ONE, ENDS_OF_ONE_BY_WHATEVER, MOST_ENDS, Care
from gneiss.backends.driving import Answered, Died, Event, Opened, Placed, Seen, drive
from gneiss.backends.machine import Death, Vitals
from gneiss.backends.recorder import Record, Work
from gneiss.errors import MachineError

CRASH = Death("Segmentation fault", is_own=True)
LOST = Death("lost with its node", is_own=False)
PATIENCE = Patience(
    look_seconds=10, join_seconds=10, say_seconds=30, kill_seconds=100, place_seconds=1000, long_seconds=1e6
)
STACK = """
Current thread 0x00007f (most recent call first):
  File "a.py", line 2 in inner
  File "b.py", line 3 in outer

"""
STOPPED, WORKING, STORAGE = "stopped", "running", "disk-sleep"


class Doubling:
    """The step: twice the number, or what became of it."""

    def open(self) -> Callable[[int], Any]:
        raise NotImplementedError("these workers are played")

    def lost(self, task: int, reason: str) -> Any:
        return task, reason


@dataclass
class Stage:
    """A pool in which nothing takes time but waiting.

    places: how many workers have a place; dies: worker, task → how it ends, or None; stuck: worker, task → how a worker
    looks that never answers, or None; cpu, own: what a look at it shows, by look.
    """

    places: int = 99
    dies: Callable[[int, int], Death | None] = lambda _, __: None
    dies_opening: Callable[[int], Death | None] = lambda _: None
    stuck: Callable[[int, int], str | None] = lambda _, __: None
    stuck_opening: Callable[[int], str | None] = lambda _: None
    cpu: Callable[[int], float] = lambda _: 1.0
    own: Callable[[int], tuple[float, Record]] = lambda _: (0.0, Record())
    now: float = 0.0
    closed: int = 0
    looks: int = 0
    started: int = 0
    living: dict[int, str] = field(default_factory=dict)
    given: list[tuple[int, int]] = field(default_factory=list)
    cares: list[Care] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    coming: list[Event] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def start(self) -> int:
        self.started += 1
        self.living[self.started] = WORKING
        if len(self.living) > self.places:
            return self.started
        self.coming.append(Placed(self.started, f"process {self.started}"))
        if death := self.dies_opening(self.started):
            self._die(self.started, death)
        elif state := self.stuck_opening(self.started):
            self.living[self.started] = state
        else:
            self.coming.append(Opened(self.started))
        return self.started

    def give(self, worker: int, task: int, care: Care) -> None:
        assert worker in self.living, "no task is given to the dead"
        self.given.append((worker, task))
        self.cares.append(care)
        if death := self.dies(worker, task):
            self._die(worker, death)
        elif state := self.stuck(worker, task):
            self.living[worker] = state
        else:
            self.coming.append(Answered(worker, 2 * task))

    def _die(self, worker: int, death: Death) -> None:
        del self.living[worker]
        self.coming.append(Died(worker, death))

    def look(self, workers: Collection[int]) -> None:
        self.looks += 1
        assert set(workers) <= set(self.living)
        own, record = self.own(self.looks)
        vitals = {number: Vitals(self.living[number], self.cpu(self.looks), own, record) for number in workers}
        self.coming += [Seen(number, vital) for number, vital in vitals.items()]

    def ask(self, worker: int) -> None:
        self.asked.append(worker)

    def end(self, worker: int) -> None:
        del self.living[worker]
        self.ended.append(worker)

    def events(self, seconds: float) -> Sequence[Event]:
        assert self.now < 1e5, "this run would go on for ever"
        if not self.coming:
            self.now += seconds
        coming, self.coming = self.coming, []
        return coming

    def close(self) -> None:
        self.closed += 1


class Named(Doubling):
    """The same, of a stage."""

    stage = "double"


def driven(pool: Stage, tasks: int, workers: int, patience: Patience = PATIENCE) -> list[Any]:
    return list(drive(pool, Doubling(), range(tasks), lambda: workers, patience, pool.clock))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_all_tasks_are_done_once() -> None:
    pool = Stage()
    assert sorted(driven(pool, 20, 3)) == list(range(0, 40, 2))
    assert sorted(task for _, task in pool.given) == list(range(20))
    assert {worker for worker, _ in pool.given} == {1, 2, 3}
    assert (pool.started, pool.closed) == (3, 1)


def test_whoever_takes_an_answer_keeps_no_worker_from_its_next_task() -> None:
    pool, given = Stage(), []
    for _ in drive(pool, Doubling(), range(5), lambda: 1, PATIENCE, pool.clock):
        given.append(len(pool.given))
    assert given == [2, 3, 4, 5, 5]


# Deaths


@pytest.mark.parametrize("deaths", range(1, MOST_ATTEMPTS + 3))
def test_a_task_that_its_workers_die_of_is_given_up_after_all_others(deaths: int) -> None:
    seen: list[int] = []

    def dies(_: int, task: int) -> Death | None:
        seen.append(task)
        return CRASH if task == 1 and seen.count(1) <= deaths else None

    pool = Stage(dies=dies)
    answers = driven(pool, 5, 2)
    reason = f"its worker died {MOST_ATTEMPTS} times (Segmentation fault)"
    assert ((1, reason) in answers) == (deaths >= MOST_ATTEMPTS)
    assert seen.count(1) == min(deaths + 1, MOST_ATTEMPTS)
    assert [task for task in seen if task != 1] == [0, 2, 3, 4]
    assert seen[-1] == 1


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_lost_machine_is_charged_to_no_task(workers: int) -> None:
    """All workers are lost at once, again and again; between that each task also dies twice by itself."""
    lives: dict[int, int] = {}

    def dies(_: int, task: int) -> Death | None:
        lives[task] = lives.get(task, 0) + 1
        return LOST if lives[task] % 3 and lives[task] < 9 else CRASH if lives[task] in (3, 6) else None

    assert sorted(driven(Stage(dies=dies), 6, workers)) == list(range(0, 12, 2))
    assert set(lives.values()) == {9}


@pytest.mark.parametrize("workers", [1, 4])
def test_where_all_workers_are_lost_again_and_again_new_ones_wait(
    workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[float] = []

    def dies(worker: int, _: int) -> Death | None:
        lost.append(pool.now)
        return LOST if worker <= 12 * workers else None

    pool = Stage(dies=dies)
    assert sorted(driven(pool, 4, workers)) == [0, 2, 4, 6]
    starts = sorted({*lost})
    assert starts[:2] == [0, 2], f"the first {MOST_LOSSES} times nobody waits"
    assert [b - a for a, b in pairwise(starts)] == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert "workers were lost one after another" in said(caplog)[-1]
    assert "60 s" in said(caplog)[-1] or workers > 1


def test_a_task_that_is_finished_ends_the_waiting() -> None:
    pool = Stage(dies=lambda worker, _: LOST if worker % 3 else None)
    assert len(driven(pool, 30, 1)) == 30
    assert pool.now == 0


def test_workers_that_die_before_they_are_ready_end_the_run() -> None:
    pool = Stage(dies_opening=lambda _: CRASH)
    with pytest.raises(MachineError, match=rf"{MOST_ATTEMPTS} workers died before they were ready \({CRASH.said}\)"):
        driven(pool, 3, 1)
    assert pool.started == MOST_ATTEMPTS


def test_workers_that_are_lost_before_they_are_ready_do_not() -> None:
    assert driven(Stage(dies_opening=lambda number: LOST if number < 20 else None), 1, 1) == [0]


def test_a_node_that_takes_many_opening_workers_with_it_does_not_end_the_run() -> None:
    assert sorted(driven(Stage(dies_opening=lambda number: LOST if number <= 30 else None), 40, 30)) == [
        2 * task for task in range(40)
    ]


def test_no_more_workers_are_started_than_there_is_work_for() -> None:
    pool = Stage(dies=lambda worker, _: LOST if worker == 1 else None)
    driven(pool, 2, 2)
    assert pool.started == 2, "the second worker takes the task that is left"


# Documents


@dataclass
class Documents(Stage):
    """A pool whose tasks are batches of documents, computed as a careful worker does.

    batches: of rows, in each task; kills: task, row → the death that it means, or None.
    """

    batches: Sequence[range] = (range(8), range(8, 12))
    kills: Callable[[int, int], Death | None] = lambda _, __: None
    work: list[tuple[int, int]] = field(default_factory=list)

    def give(self, worker: int, task: int, care: Care) -> None:
        blamed = {end.work.first for end in care.blamed()}
        for rows in self.batches:
            alone = care.suspects("filter", rows[0], rows[-1])
            for part in [range(row, row + 1) for row in rows] if alone else [rows]:
                left = [row for row in part if row not in blamed]
                self.work += [(task, row) for row in left]
                for row in left:
                    if death := self.kills(task, row):
                        at = Work("filter", part[0], part[-1])
                        self.dies = lambda _, __, death=death, at=at: replace(death, record=Record(at))  # type: ignore[misc]
                        return Stage.give(self, worker, task, care)
        self.dies = lambda _, __: None
        return Stage.give(self, worker, task, care)


@pytest.mark.parametrize(("death", "deaths"), [(CRASH, ENDS_OF_ONE), (LOST, ENDS_OF_ONE_BY_WHATEVER)])
@pytest.mark.parametrize("workers", [1, 3])
def test_documents_that_kill_their_workers_are_found_and_left_out(death: Death, deaths: int, workers: int) -> None:
    poison = {(1, 3), (1, 5), (1, 11), (2, 0)}
    pool = Documents(kills=lambda task, row: death if (task, row) in poison else None)
    assert sorted(driven(pool, 4, workers)) == [0, 2, 4, 6], "no task is given up"
    assert all(pool.work.count(at) in (deaths, deaths + 1) for at in poison), "with another's batch at most once more"
    last = [care for (_, task), care in zip(pool.given, pool.cares, strict=True) if task == 1][-1]
    assert sorted(end.work.first for end in last.blamed()) == [3, 5, 11]


def test_a_document_at_which_its_worker_died_less_often_is_not_left_out() -> None:
    """As where others held the memory: the second time alone it is well."""
    deaths: list[int] = []

    def kills(task: int, row: int) -> Death | None:
        if (task, row) == (0, 5) and len(deaths) < ENDS_OF_ONE - 1:
            deaths.append(row)
            return CRASH
        return None

    pool = Documents(kills=kills)
    assert driven(pool, 1, 1) == [0]
    assert pool.cares[-1].blamed() == []


def test_a_task_of_whose_documents_workers_die_without_end_is_given_up() -> None:
    pool = Documents(batches=[range(20)], kills=lambda task, _: CRASH if task == 0 else None)
    reason = f"its workers died {MOST_ENDS} times of its documents (Segmentation fault)"
    assert driven(pool, 2, 1) == [2, (0, reason)]
    assert len(pool.given) == MOST_ENDS + 1


@pytest.mark.parametrize("seconds", [30.0, 31.0])
def test_a_worker_that_is_at_a_document_for_too_long_is_asked_for_its_stack_and_killed(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    at = Work("filter", 7, 9, size_bytes=500_000)  # half a MB has half as long again
    pool = Stage(stuck=lambda *_: WORKING if pool.started == 1 else None, cpu=lambda look: 10.0 * look)
    pool.own = lambda look: (1.5 * seconds + look / 100, Record(at, 0.0, STACK)) if look < 30 else (0.0, Record())
    if seconds == 30.0:
        pool.own = lambda look: (1.5 * seconds, Record(at, 0.0))
        pool.events = lambda wait: _finish_at(pool, 400.0, wait)  # type: ignore[method-assign]
    assert driven(pool, 1, 1) == [0]
    if seconds == 30.0:
        assert (pool.ended, pool.asked) == ([], [])
        return
    assert (pool.ended, pool.asked) == ([1], [1])
    (end,) = pool.cares[-1].ends
    assert (end.work, end.is_late, end.did, end.is_own) == (at, True, "took longer than 30 s", True)
    assert end.stack == '  File "b.py", line 3, in outer\n  File "a.py", line 2, in inner'
    assert pool.cares[-1].suspects("filter", 100, 200), "the filter may be slow: from there on"
    assert not pool.cares[-1].suspects("filter", 0, 6)
    assert said(caplog)[-1].startswith("task 0: its worker died (47 s of CPU time) at filter, rows 7 to 9; the task is")


def test_a_worker_that_sleeps_at_a_document_is_killed_for_the_time_that_passes() -> None:
    at = Work("filter", 7, 7, size_bytes=500_000)
    pool = Stage(stuck=lambda *_: WORKING if pool.started == 1 else None, cpu=lambda look: 10.0 * look)
    pool.own = lambda _: (1.0, Record(at, 0.5, STACK))
    patience = replace(PATIENCE, document_seconds=2.0)
    assert driven(pool, 1, 1, patience) == [0]
    assert (pool.ended, pool.asked) == ([1], [1])
    (end,) = pool.cares[-1].ends
    assert (end.work, end.is_late, end.did) == (at, True, "took longer than 20 s, idle")
    assert end.said == "50 s, most of them idle"


def test_one_document_after_another_may_take_long_together() -> None:
    pool = Stage(stuck=lambda *_: WORKING, cpu=lambda look: 10.0 * look)
    pool.own = lambda look: (1.0, Record(Work("filter", 7, 7), look / 1000))
    pool.events = lambda wait: _finish_at(pool, 5000.0, wait)  # type: ignore[method-assign]
    assert driven(pool, 1, 1, replace(PATIENCE, document_seconds=1.0)) == [0]
    assert pool.ended == []


def test_where_a_long_task_is_is_said_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    pool = Stage(stuck=lambda *_: WORKING, cpu=lambda look: 10.0 * look)
    pool.events = lambda wait: _finish_at(pool, 4000.0, wait)  # type: ignore[method-assign]
    assert list(drive(pool, Named(), range(1), lambda: 1, replace(PATIENCE, long_seconds=1200), pool.clock)) == [0]
    assert [line.partition(" min")[0] for line in said(caplog)] == [
        f"stage double, task 0: its worker (process 1) has been running for {minutes}" for minutes in (20, 40)
    ]


def test_after_kills_for_want_of_memory_fewer_go_on_for_ever_more_tasks(caplog: pytest.LogCaptureFixture) -> None:
    killed = Death("killed by the kernel: out of memory", is_own=True, is_for_memory=True)
    pool = Stage(dies=lambda worker, _: killed if worker in (2, 4) else None)
    there: list[int] = []
    for _ in drive(pool, Doubling(), range(20), lambda: 3, PATIENCE, pool.clock):
        there.append(len(pool.living))
    assert (pool.started, there[0], min(there), there[-1]) == (5, 2, 2, 3)
    text = "a worker was killed for lack of memory: 2 go on without it for a while"
    assert [line for line in said(caplog) if "memory: " in line and line.startswith("a ")] == [text, text]


def test_one_worker_always_goes_on() -> None:
    killed = Death("killed by the kernel: out of memory", is_own=True, is_for_memory=True)
    pool = Stage(dies=lambda worker, _: killed if worker < 9 else None)
    assert len(driven(pool, 5, 2)) == 5


# Places


def test_tasks_go_to_workers_that_have_a_place(caplog: pytest.LogCaptureFixture) -> None:
    pool = Stage(places=2)
    assert len(driven(pool, 9, 4)) == 9
    assert {worker for worker, _ in pool.given} == {1, 2}


def test_workers_without_a_place_are_said_once_and_keep_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A long task goes on meanwhile; that it is done, the third look at it shows."""
    pool = Stage(places=1, stuck=lambda _, task: WORKING if task == 1 else None, cpu=lambda look: 10.0 * look)
    driving = drive(pool, Doubling(), range(2), lambda: 2, PATIENCE, pool.clock)
    assert next(driving) == 0
    pool.events = lambda seconds: _finish_at(pool, 200.0, seconds)  # type: ignore[method-assign]
    assert list(driving) == [2]
    assert said(caplog) == [
        "waiting for a place for 1 of 2 workers: something else holds the CPUs or the memory of the machines, or there"
        " are too few (with `ray job submit --entrypoint-num-cpus` the driver does); 1 go on meanwhile"
    ]


def _finish_at(pool: Stage, time: float, seconds: float) -> Sequence[Event]:
    if pool.now >= time:
        return [Answered(pool.given[-1][0], 2 * pool.given[-1][1])]
    return Stage.events(pool, seconds)


def test_without_any_place_the_run_ends_after_long(caplog: pytest.LogCaptureFixture) -> None:
    pool = Stage(places=0)
    with pytest.raises(MachineError, match="no worker has had a place for 1000 s"):
        driven(pool, 3, 2)
    assert len(said(caplog)) == 1
    assert said(caplog)[0].endswith("none has one yet")


def test_a_replacement_without_a_place_keeps_no_task_from_an_idle_worker() -> None:
    """A node is lost in the middle: one of two workers, and the place of its replacement."""
    pool = Stage()

    def dies(worker: int, _: int) -> Death | None:
        if worker != 2:
            return None
        pool.places = 1
        return LOST

    pool.dies = dies
    assert sorted(driven(pool, 6, 2)) == [0, 2, 4, 6, 8, 10]
    assert {worker for worker, _ in pool.given} == {1, 2}


def test_workers_are_as_many_as_there_is_room_for_at_the_time() -> None:
    """One machine joins, two are lost with their workers, one joins again; a task takes ten seconds."""
    room = {0: 2, 50: 3, 100: 1, 150: 2}
    at_work: dict[float, tuple[int, int]] = {}
    headcount = Headcount()

    def most() -> int:
        return max((since, workers) for since, workers in room.items() if since <= pool.now)[1]

    def events(seconds: float) -> Sequence[Event]:
        pool.now += 10
        answers = [event for event in pool.coming if isinstance(event, Answered)]
        at_work[pool.now] = len(answers), headcount.now
        if pool.now == 100:
            for answer in answers[:2]:
                pool.coming.remove(answer)
                pool._die(answer.worker, LOST)
        coming, pool.coming = [event for event in pool.coming if not isinstance(event, Seen)], []
        return coming

    pool = Stage()
    pool.events = events  # type: ignore[method-assign]
    assert sorted(drive(pool, Doubling(), range(40), most, PATIENCE, pool.clock, headcount)) == list(range(0, 80, 2))
    assert len(pool.given) == 42, "each task of a lost worker is given once more"
    assert [at_work[at] for at in (50, 80, 140, 180)] == [(2, 2), (3, 3), (1, 1), (2, 2)]


# Silence


def test_a_run_that_nobody_needs_any_more_ends_without_its_tasks() -> None:
    headcount = Headcount()

    def over_later(worker: int, task: int) -> str | None:
        headcount.is_over = task == 2
        return WORKING if task == 2 else None

    pool = Stage(stuck=over_later)
    assert list(drive(pool, Doubling(), range(5), lambda: 1, PATIENCE, pool.clock, headcount)) == [0, 2]
    assert (pool.closed, len(pool.given)) == (1, 3)
    again = Stage()
    assert list(drive(again, Doubling(), range(2), lambda: 1, PATIENCE, again.clock, headcount)) == [0, 2]


def test_a_stopped_worker_is_said_then_killed_and_its_task_given_to_another(caplog: pytest.LogCaptureFixture) -> None:
    pool = Stage(stuck=lambda worker, _: STOPPED if worker == 1 else None)
    assert sorted(driven(pool, 3, 1)) == [0, 2, 4]
    assert pool.ended == [1]
    assert said(caplog) == [
        "task 0: its worker (process 1) has been stopped for 30 s; after 100 s it is killed",
        "task 0: its worker died (stopped for 100 s, then killed); the task is given to another one",
    ]


def test_a_task_in_which_workers_hang_is_given_up_and_one_whose_workers_are_stopped_is_not() -> None:
    hangs = Stage(stuck=lambda _, task: WORKING if task == 1 else None)
    reason = f"its worker died {MOST_ATTEMPTS} times (hung, without CPU time for 100 s, then killed)"
    assert [answer for answer in driven(hangs, 3, 2) if isinstance(answer, tuple)] == [(1, reason)]
    stopped = Stage(stuck=lambda worker, task: STOPPED if task == 1 and worker < MOST_ATTEMPTS + 3 else None)
    assert sorted(driven(stopped, 3, 1)) == [0, 2, 4]


@pytest.mark.parametrize("share", [0.02, 1.0])
def test_a_long_task_is_left_in_peace(share: float, caplog: pytest.LogCaptureFixture) -> None:
    pool = Stage(stuck=lambda *_: WORKING, cpu=lambda look: share * PATIENCE.look_seconds * look)
    pool.events = lambda seconds: _finish_at(pool, 50_000.0, seconds)  # type: ignore[method-assign]
    assert driven(pool, 1, 1) == [0]
    assert (pool.ended, said(caplog)) == ([], [])


def test_what_waits_for_storage_is_said_and_not_killed(caplog: pytest.LogCaptureFixture) -> None:
    pool = Stage(stuck=lambda *_: STORAGE)
    pool.events = lambda seconds: _finish_at(pool, 5000.0, seconds)  # type: ignore[method-assign]
    assert driven(pool, 1, 1) == [0]
    assert pool.ended == []
    assert said(caplog) == ["task 0: its worker (process 1) has waited for storage for 30 s"]


def test_a_worker_that_opens_for_long_is_killed_only_if_it_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    pool = Stage(stuck_opening=lambda number: {1: STOPPED, 2: "sleeping"}.get(number))
    assert sorted(driven(pool, 6, 2)) == [0, 2, 4, 6, 8, 10]
    assert pool.ended == [1]
    assert said(caplog)[:2] == [
        "a worker that is not ready yet (process 1) has been stopped for 30 s; after 100 s it is killed",
        "a worker that is not ready yet (process 2) has used no CPU time for 30 s",
    ]


def test_the_time_in_which_the_driver_was_stopped_too_is_nobodys_silence() -> None:
    """As with Ctrl-Z, or a laptop that sleeps: at every look an hour has passed."""
    pool = Stage(stuck=lambda *_: STOPPED)

    def events(seconds: float) -> Sequence[Event]:
        pool.now += 3600
        return _finish_at(pool, 3600 * 4, seconds)

    pool.events = events  # type: ignore[method-assign]
    assert driven(pool, 1, 1) == [0]
    assert pool.ended == []
