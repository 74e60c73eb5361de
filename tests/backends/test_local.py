"""Local processes that die, hang or are stopped; small steps, and the patience of a test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from gneiss.backends import MOST_ATTEMPTS, Patience, local
from gneiss.backends.local import LocalProcesses
from gneiss.backends.memory import MachineMemory
from gneiss.backends.resources import Resources, worker_resources
from tests.backends import misbehaving
from tests.backends.misbehaving import SHORT, Hoarding, Meeting, Misbehaving, Processes, Sized

pytestmark = pytest.mark.processes


def answers(
    does: Callable[[], None], folder: Path, times: int, *, workers: int = 2, patience: Patience = SHORT
) -> list[Any]:
    """The answers of four tasks, and that nothing is left behind."""
    step = Misbehaving(does, folder, times)
    with closing(LocalProcesses(patience).run(step, range(4), workers, Resources(1))) as run:
        found = list(run)
    assert active_children() == []
    return sorted(found, key=lambda answer: (isinstance(answer, tuple), str(answer)))


@pytest.mark.parametrize("does", [misbehaving.stop, misbehaving.stop_in_the_middle_of_the_answer])
def test_a_stopped_worker_is_said_killed_and_replaced(
    does: Callable[[], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert answers(does, tmp_path, 1) == [0, 1, 2, 3]
    first, second = (record.getMessage() for record in caplog.records)
    assert "task 1: its worker (process " in first
    assert ") has been stopped for " in first
    assert second.startswith("task 1: its worker died (stopped for ")


def test_a_task_in_which_workers_hang_is_given_up(tmp_path: Path) -> None:
    *others, (task, reason) = answers(misbehaving.lock_twice, tmp_path, 9)
    assert (others, task) == ([0, 2, 3], 1)
    assert reason.startswith(f"its worker died {MOST_ATTEMPTS} times (hung, without CPU time for ")


@pytest.mark.parametrize(
    "does", [misbehaving.spin_in_a_child, pytest.param(misbehaving.spin, marks=pytest.mark.exhaustive)]
)
def test_a_task_that_takes_longer_than_patience_lasts_is_left_in_peace(
    does: Callable[[], None], tmp_path: Path
) -> None:
    assert answers(does, tmp_path, 1) == [0, 1, 2, 3]
    assert (tmp_path / "1").stat().st_size == 1


@pytest.mark.parametrize(
    ("does", "said"), [(misbehaving.segfault, "Segmentation fault"), (misbehaving.leave, "exit code 3")]
)
def test_a_task_that_its_workers_die_of_is_given_up_with_the_reason(
    does: Callable[[], None], said: str, tmp_path: Path
) -> None:
    assert answers(does, tmp_path, MOST_ATTEMPTS - 1, patience=Patience()) == [0, 1, 2, 3]
    (tmp_path / "1").unlink()
    reason = f"its worker died {MOST_ATTEMPTS} times ({said})"
    assert answers(does, tmp_path, 9, patience=Patience())[-1] == (1, reason)


@pytest.mark.parametrize("does", [misbehaving.kill, misbehaving.terminate])
def test_who_kills_workers_from_outside_costs_no_task(does: Callable[[], None], tmp_path: Path) -> None:
    assert answers(does, tmp_path, MOST_ATTEMPTS + 2, patience=Patience()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("counts", "said"),
    [(iter(range(10**6)), "killed by the kernel: out of memory"), (iter(lambda: None, 1), "killed; out of memory?")],
)
def test_a_kill_is_charged_to_its_task_where_the_kernel_says_so_or_does_not_count(
    counts: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gneiss.backends.local.memory_kills", lambda: next(counts))
    reason = f"its worker died {MOST_ATTEMPTS} times ({said})"
    assert answers(misbehaving.kill, tmp_path, 9, patience=Patience())[-1] == (1, reason)


def test_a_run_that_is_closed_ends_stopped_workers_too(tmp_path: Path) -> None:
    step = Misbehaving(misbehaving.stop, tmp_path, 1)
    run = LocalProcesses(Patience(end_seconds=0.5)).run(step, range(4), 2, Resources(1))
    assert sorted(next(run) for _ in range(3)) == [0, 2, 3]
    while not (tmp_path / "1").exists():
        time.sleep(0.01)
    assert active_children() != []
    run.close()
    assert active_children() == []


def test_kept_workers_live_on_from_stage_to_stage_and_no_longer(tmp_path: Path) -> None:
    with LocalProcesses().kept() as kept:
        first = set(kept.run(Processes("first"), range(40), 2, Resources(1)))
        second = set(kept.run(Processes("second"), range(40), 2, Resources(1)))
        assert {name for name, _ in second} == {"second"}
        assert {pid for _, pid in second} <= {child.pid for child in active_children()}
        assert len({pid for _, pid in first | second}) <= 2
    assert active_children() == []


def test_a_kept_worker_that_died_between_stages_is_replaced(tmp_path: Path) -> None:
    with LocalProcesses().kept() as kept:
        assert set(kept.run(Processes("first"), range(4), 1, Resources(1)))
        for process in active_children():
            process.kill()
            process.join()
        assert {name for name, _ in kept.run(Processes("second"), range(4), 1, Resources(1))} == {"second"}


def test_a_worker_that_has_a_task_when_its_stage_is_closed_does_not_live_on(tmp_path: Path) -> None:
    with LocalProcesses(SHORT).kept() as kept:
        run = kept.run(Misbehaving(misbehaving.lock_twice, tmp_path, 1), range(4), 2, Resources(1))
        assert sorted(next(run) for _ in range(3)) == [0, 2, 3]
        while not (tmp_path / "1").exists():
            time.sleep(0.01)
        run.close()
        assert len(active_children()) == 1
        assert {name for name, _ in kept.run(Processes("second"), range(4), 2, Resources(1))} == {"second"}


@pytest.mark.parametrize("needed_mb", [100, 2000])
def test_a_worker_that_holds_more_between_tasks_than_it_was_to_need_is_replaced(needed_mb: int) -> None:
    first, *others = LocalProcesses().run(Hoarding(800_000_000), range(3), 1, Resources(needed_mb * 1_000_000))
    assert len(set(others)) == 1
    assert (first in others) == (needed_mb == 2000)
    assert active_children() == []


def test_there_are_more_workers_where_tasks_take_less_than_was_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is memory for one as planned, for three as it turns out, and there are CPUs for more."""
    needs = worker_resources(2_000_000_000, largest_bytes=100)
    monkeypatch.setattr(local, "machine_memory", lambda: MachineMemory(4 * 10**9, int(1.5 * needs.memory_bytes)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    backend = LocalProcesses(Patience(join_seconds=0.01), grows=True)
    found = list(backend.run(Meeting(tmp_path, 3), [Sized(number, 100) for number in range(4)], 1, needs))
    assert len(set(found)) == 3
