"""Ray clusters of several nodes on this machine: each a session of processes, with folders and ports of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
CPUS, MEMORY_BYTES = 4, 6_000_000_000
_ANY_PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=80000000")


@dataclass(frozen=True)
class Node:
    """A node of a cluster: a session of processes."""

    session: int

    def processes(self, name: str = "") -> list[int]:
        """Its processes, or those whose name begins like this."""
        return [pid for pid in _pids() if is_in(pid, self.session) and _program(pid).startswith(name)]

    def kill(self) -> None:
        """End all of it at once, as a machine does that loses its power."""
        with suppress(ProcessLookupError):
            os.killpg(self.session, signal.SIGKILL)  # those that start others
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        stop(self.session)

    def kill_raylet(self) -> None:
        """Kill its raylet only; its other processes notice."""
        for pid in self.processes("raylet"):
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Head:
    """A running head: where its drivers and its jobs go, and the nodes that have joined it since."""

    address: str
    jobs: str
    folder: Path
    nodes: list[Node] = field(default_factory=list)

    def join(self, cpus: int, memory_bytes: int = MEMORY_BYTES) -> Node:
        """Let a node join; it has not joined yet on return."""
        folder = Path(tempfile.mkdtemp(prefix="node-", dir=self.folder))
        (agent,) = free_ports(1)
        command = [
            *(BIN / "ray", "start", f"--address={self.address}", "--block", f"--num-cpus={cpus}"),
            *(f"--memory={memory_bytes}", f"--temp-dir={folder}", f"--dashboard-agent-listen-port={agent}"),
            *_ANY_PORTS,
        ]
        starting = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.nodes.append(Node(starting.pid))
        return self.nodes[-1]


@cache
def _token() -> str:
    """What lets drivers of this process into its clusters, the same for all: Ray reads it once a process."""
    return secrets.token_hex(32)


@contextmanager
def running_head(cpus: int = CPUS) -> Iterator[Head]:
    """A head of its own: home, token, folder, ports; drivers in this process find it by RAY_ADDRESS."""
    folder = Path(tempfile.mkdtemp(prefix="gneiss-ray-", dir="/tmp"))  # sockets need a short path
    sessions: list[int] = []
    started: Head | None = None
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(folder))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_metrics_report_interval_ms", "500")
        patch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "60")  # until SIGKILL: by default 3, too few on a busy machine
        token = folder / ".ray/auth_token"
        token.parent.mkdir(mode=0o700)
        token.touch(mode=0o600)
        token.write_text(_token())
        try:
            started = next(filter(None, (_start(folder / name, sessions, cpus) for name in "123")))
            patch.setenv("RAY_ADDRESS", started.address)
            yield started
            if "ray" in sys.modules:
                sys.modules["ray"].shutdown()
        finally:
            for session in [*sessions, *(node.session for node in (started.nodes if started else ()))]:
                stop(session)
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, sessions: list[int], cpus: int) -> Head | None:
    """Start a head. None if it failed: Ray gives up after 30 s on a busy machine, and a free port may get taken."""
    client, dashboard, agent = free_ports(3)
    command = [
        *(BIN / "ray", "start", "--head", f"--num-cpus={cpus}", f"--memory={MEMORY_BYTES}", "--port=0"),
        *(f"--ray-client-server-port={client}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"),
        *(f"--dashboard-agent-listen-port={agent}", *_ANY_PORTS),
    ]
    starting = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    sessions.append(starting.pid)
    if starting.wait(timeout=600) != 0:
        stop(sessions.pop())
        return None
    address = (folder / "ray_current_cluster").read_text().strip()
    return Head(address, f"http://127.0.0.1:{dashboard}", folder)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def stop(session: int) -> None:
    """End every process of a session, and no other: `ray stop` would end the heads of others."""
    deadline = time.monotonic() + 20
    for name in (signal.SIGTERM, signal.SIGKILL):
        while processes := Node(session).processes():
            for pid in processes:
                with suppress(ProcessLookupError):
                    os.kill(pid, name)
            time.sleep(0.2)
            if name == signal.SIGTERM and time.monotonic() > deadline - 15:
                break
            assert time.monotonic() < deadline, f"these do not end: {processes}"


def is_in(pid: int, session: int) -> bool:
    """Whether a process belongs to a session and is not a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(fields[3]) == session and fields[0] != "Z"


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
