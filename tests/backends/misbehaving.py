"""A step whose first attempts at one of its tasks do something to their process, and what that may be."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gneiss.backends import Patience

#: Of a worker that does nothing at all. A look takes some milliseconds, and one of a busy machine may take long.
SHORT = Patience(look_seconds=0.2, say_seconds=0.6, kill_seconds=2.0, end_seconds=1.0)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def lock_twice() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def spin(seconds: float = 4.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def spin_in_a_child() -> None:
    subprocess.run(
        [sys.executable, "-c", "import time\nend = time.monotonic() + 4\nwhile time.monotonic() < end: pass"]
    )


def segfault() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def leave() -> None:
    os._exit(3)


def stop_in_the_middle_of_the_answer() -> None:
    def half(connection: Connection, content: bytes) -> None:
        os.write(connection.fileno(), content[: len(content) // 2])
        stop()

    Connection._send = half  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Misbehaving:
    """A step that does something to its process in the first attempts at task 1; the answer is the task."""

    does: Callable[[], None]
    attempts: Path
    times: int

    def open(self) -> Callable[[int], Any]:
        """Open the step."""

        def work(task: int) -> int:
            with (self.attempts / str(task)).open("ab") as file:
                file.write(b"x")
            if task == 1 and (self.attempts / "1").stat().st_size <= self.times:
                self.does()
            return task

        return work

    def lost(self, task: int, reason: str) -> Any:
        """What became of it."""
        return task, reason


@dataclass(frozen=True)
class Processes:
    """A step whose answer is the process, and how it was named."""

    name: str

    def open(self) -> Callable[[int], Any]:
        """Open the step."""
        return lambda task: (self.name, os.getpid())

    def lost(self, task: int, reason: str) -> Any:
        """What became of it."""
        return task, reason


@dataclass(frozen=True)
class Hoarding:
    """A step whose first task leaves so many bytes behind; the answer is the process."""

    size_bytes: int

    def open(self) -> Callable[[int], Any]:
        """Open the step."""
        hoard: list[bytes] = []

        def work(task: int) -> int:
            if task == 0:
                hoard.append(b"x" * self.size_bytes)
            return os.getpid()

        return work

    def lost(self, task: int, reason: str) -> Any:
        """What became of it."""
        return task, reason


@dataclass(frozen=True)
class Sized:
    """A task with so many bytes of input."""

    number: int
    size_bytes: int


@dataclass(frozen=True)
class Meeting:
    """A step whose tasks, but for the first, end when so many processes are there; the answer is the process."""

    folder: Path
    processes: int

    def open(self) -> Callable[[Sized], Any]:
        """Open the step."""

        def work(task: Sized) -> int:
            (self.folder / str(os.getpid())).touch()
            deadline = time.monotonic() + 120
            while task.number and len(list(self.folder.iterdir())) < self.processes and time.monotonic() < deadline:
                time.sleep(0.01)
            return os.getpid()

        return work

    def lost(self, task: Sized, reason: str) -> Any:
        """What became of it."""
        return task, reason
