"""Recorders: what a worker says of its work and its end is there when it is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gneiss.backends.recorder import ASK, Record, Recorder, Work, name_of, read_record

CODE = """
import os, sys, time
from gneiss.backends.recorder import Recorder, Work
recorder = Recorder(int(sys.argv[1]))
recorder.begin(Work("filter of a", 3, 7, 1000))
def work():
    print("at work", flush=True)
    if sys.argv[2] == "crash":
        import ctypes, resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)
    while sys.argv[2] == "loop":
        pass
    os._exit(3)
work()
"""


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = os.memfd_create("test")
    yield descriptor
    os.close(descriptor)


@pytest.mark.processes
@pytest.mark.parametrize("how", ["leave", "crash", "loop"])
def test_what_a_dead_worker_did_is_known(how: str, file: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE, str(file), how], pass_fds=[file], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        if how == "loop":
            process.send_signal(ASK)
            while not read_record(file).stack.endswith("work"):
                assert process.poll() is None
            process.kill()
    record = read_record(file)
    assert process.returncode == {"leave": 3, "crash": -signal.SIGSEGV, "loop": -signal.SIGKILL}[how]
    assert record.work == Work("filter of a", 3, 7, 1000)
    assert record.began_cpu_seconds > 0
    assert record.crash == ("Segmentation fault" if how == "crash" else "")
    lines = record.stack.splitlines()
    assert [line.rpartition(" ")[2] for line in lines[:2]] == ([] if how == "leave" else ["<module>", "work"])


def test_what_is_done_or_of_an_earlier_task_is_not_said(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faulthandler.enable", lambda *_: None)  # the handlers of this process are pytest's
    monkeypatch.setattr("faulthandler.register", lambda *_: None)
    assert read_record(file) == Record()
    recorder = Recorder(os.dup(file))
    assert read_record(file) == Record()
    recorder.begin(Work("x", 1, 1))
    os.write(file, b"Fatal Python error: Aborted\n\n")
    assert read_record(file).crash == "Aborted"
    recorder.end()
    assert read_record(file).work is None
    recorder.begin(Work("y", 2, 9))
    recorder.clear()
    assert read_record(file) == Record()


def test_a_record_that_is_half_written_says_nothing(file: int) -> None:
    os.ftruncate(file, 4096)
    os.pwrite(file, b"\x20\0\0\0\xff\xff\xff\xff" + b"a" * 32, 0)
    assert read_record(file).work is None


def test_the_last_of_several_stacks_and_a_long_one_is_bounded() -> None:
    assert Record(stacks="").stack == Record(stacks="no stack\n").stack == ""
    old = 'Current thread 0x1 (most recent call first):\n  File "old.py", line 1 in f\n\n'
    new = 'Thread 0x2 (most recent call first):\n  File "other.py", line 1 in f\n\n'
    new += (
        'Current thread 0x1 [name] (most recent call first):\n  File "b.py", line 2 in g\n  File "a.py", line 1 in f\n'
    )
    assert Record(stacks=old + new).stack == '  File "a.py", line 1, in f\n  File "b.py", line 2, in g'
    assert Record(stacks="x\nFatal Python error: Bus error\n").crash == "Bus error"
    assert len(Record(stacks="Fatal Python error: " + "y" * 10**4).crash) == 300


def test_names_are_bounded_and_stay_different() -> None:
    assert name_of("short") == "short"
    long = ["ü" * 2000, "ü" * 2001]
    assert len({*map(name_of, long)}) == 2
    assert all(len(name_of(name).encode()) < 1000 for name in long)
