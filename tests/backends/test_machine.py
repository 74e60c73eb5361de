"""What a machine knows of a worker, from processes and files of this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gneiss.backends import machine
from gneiss.backends.machine import Death, death_by_exit_code, gpus_here, memory_kills, vitals


def test_gpus_are_those_of_the_driver_that_the_environment_leaves(tmp_path: Path) -> None:
    assert gpus_here(tmp_path / "none", {}) == 0
    for name in ("0000:07:00.0", "0000:0f:00.0"):
        (tmp_path / name).mkdir()
    found = [gpus_here(tmp_path, given) for given in ({}, *({"CUDA_VISIBLE_DEVICES": of} for of in ("1", "", "0,1,2")))]
    assert found == [2, 1, 0, 2]


@contextmanager
def process(code: str) -> Iterator[int]:
    """Its id, while it lives."""
    with subprocess.Popen([sys.executable, "-c", code]) as started:
        try:
            yield started.pid
        finally:
            started.kill()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    found = vitals(pid)
    assert found is not None
    return found.cpu_seconds


@pytest.mark.processes
def test_a_process_that_computes_shows_it_itself_or_by_its_children() -> None:
    spinning = "while True: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spinning!r}], timeout=60)"
    for code in (spinning, child):
        with process(code) as pid:
            before = cpu_seconds(pid)
            until(lambda pid=pid, before=before: cpu_seconds(pid) > before + 0.3)  # type: ignore[misc]
            children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
            for child_pid in children:
                os.kill(int(child_pid), signal.SIGKILL)


@pytest.mark.processes
def test_a_process_that_is_stopped_and_one_that_is_gone() -> None:
    with process("import time; time.sleep(60)") as pid:
        assert not is_stopped(pid)
        os.kill(pid, signal.SIGSTOP)
        until(lambda: is_stopped(pid))
        os.kill(pid, signal.SIGKILL)
        until(lambda: vitals(pid) is None)  # though nobody has waited for it
    assert vitals(pid) is None


def is_stopped(pid: int) -> bool:
    found = vitals(pid)
    return found is not None and found.is_stopped


@pytest.mark.parametrize(
    ("code", "before", "after", "is_own", "said"),
    [
        (0, 1, 1, True, "exit code 0"),
        (1, None, None, True, "exit code 1"),
        (-signal.SIGSEGV, 1, 1, True, "Segmentation fault"),
        (-signal.SIGABRT, 1, 1, True, "Aborted"),
        (-signal.SIGKILL, 1, 2, True, "killed by the kernel: out of memory"),
        (-signal.SIGKILL, None, 2, True, "killed; out of memory?"),
        (-signal.SIGKILL, 1, 1, False, "killed from outside, not by the kernel for memory"),
        (-signal.SIGTERM, 1, 2, False, "killed from outside by signal 15"),
        (-signal.SIGHUP, None, None, False, "killed from outside by signal 1"),
        (-40, 1, 1, False, "killed from outside by signal 40"),
    ],
)
def test_what_a_process_died_of(code: int, before: int | None, after: int | None, is_own: bool, said: str) -> None:
    for_memory = said.endswith(("out of memory", "out of memory?"))
    assert death_by_exit_code(code, before, after) == Death(said, is_own, is_for_memory=for_memory)


def test_where_nobody_counts_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, count in (("nr_free 3\noom_kill 7\noom_kill_x 9\n", 7), ("nr_free 3\n", None)):
        (tmp_path / "vmstat").write_text(text)
        monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "vmstat")
        assert memory_kills() == count
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "none")
    assert memory_kills() is None
