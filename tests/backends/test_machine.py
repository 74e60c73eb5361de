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
from gneiss.backends.machine import Death, death_by_exit_code, fatal_error, log_file, memory_kills, vitals


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
            for its in children:
                os.kill(int(its), signal.SIGKILL)


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
    assert death_by_exit_code(code, before, after) == Death(said, is_own)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (b"", ""),
        (b"warning: all is well\n", ""),
        (b"x\nFatal Python error: Segmentation fault\n\nStack:\n", "Segmentation fault"),
        (b"Fatal Python error: Aborted\nFatal Python error: Bus error", "Bus error"),
        (b"y" * 10**6 + b"\nFatal Python error: Aborted\n", "Aborted"),
        (b"Fatal Python error: " + b"\xff" * 1000, "\ufffd" * 300),
    ],
)
def test_a_crash_is_found_at_the_end_of_a_log(written: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(written)
    assert fatal_error(str(tmp_path / "log")) == found


def test_where_nobody_writes_or_counts_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fatal_error(str(tmp_path / "none")) is None
    assert fatal_error("") is None
    assert log_file() == "" or Path(log_file()).is_file()
    for text, count in (("nr_free 3\noom_kill 7\noom_kill_x 9\n", 7), ("nr_free 3\n", None)):
        (tmp_path / "vmstat").write_text(text)
        monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "vmstat")
        assert memory_kills() == count
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "none")
    assert memory_kills() is None
