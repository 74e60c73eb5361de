"""What a machine knows of a worker on it: whether it lives and works, and what it died of."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gneiss.backends.recorder import NOTHING, Record
from gneiss.backends.resources import Resources

_log = logging.getLogger(__name__)
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGXCPU}


#: A folder for each NVIDIA GPU of a machine, which its driver makes.
_GPUS = Path("/proc/driver/nvidia/gpus")


def gpus_here(folder: Path = _GPUS, environment: Mapping[str, str] = os.environ) -> int:
    """How many GPUs processes here can use: those of the machine, of which CUDA_VISIBLE_DEVICES may name some."""
    there = len(list(folder.iterdir())) if folder.is_dir() else 0
    named = environment.get("CUDA_VISIBLE_DEVICES")
    return there if named is None else min(there, len([name for name in named.split(",") if name.strip()]))


@dataclass(frozen=True)
class Death:
    """How a worker ended. is_own: by what its task did, rather than by what happened to its machine.

    record: what its recorder says, where that is to be had; did: what that did to it; is_late: it took too long;
    is_for_memory: it was killed for lack of memory, as far as is known.
    """

    said: str
    is_own: bool
    record: Record = NOTHING
    did: str = "killed its worker"
    is_late: bool = False
    is_for_memory: bool = False


@dataclass(frozen=True)
class Vitals:
    """A living worker: its state as /proc names it, the CPU seconds of it and its children, and of it without them.

    record: what its recorder says.
    """

    state: str
    cpu_seconds: float
    own_cpu_seconds: float = 0.0
    record: Record = NOTHING

    @property
    def is_stopped(self) -> bool:
        """Whether somebody stopped it (SIGSTOP)."""
        return self.state == "stopped"

    @property
    def waits_for_a_disk(self) -> bool:
        """Whether it waits for storage, and cannot be killed meanwhile."""
        return self.state == "disk-sleep"


def vitals(pid: int, record: Record = NOTHING) -> Vitals | None:
    """How a process of this machine is, whose recorder says this; None when it is dead."""
    import psutil

    try:
        process = psutil.Process(pid)
        state = process.status()
        if state in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        times = process.cpu_times()
        children = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    cpu_seconds = times.user + times.system + times.children_user + times.children_system
    for child in children:
        try:
            cpu_seconds += child.cpu_times().user + child.cpu_times().system
        except psutil.NoSuchProcess:
            continue  # its time is among that of ended children at the next look
    return Vitals(str(state), cpu_seconds, times.user + times.system, record)


def memory_kills() -> int | None:
    """How many processes the kernel of this machine has killed for lack of memory; None where it does not count."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def death_by_exit_code(code: int | None, kills_before: int | None, kills_after: int | None) -> Death:
    """What a process died of. kills_before, kills_after: see `memory_kills`; at its start and after its death."""
    if code is not None and code >= 0:
        return Death(f"exit code {code}", is_own=True)
    number = -(code or -signal.SIGKILL)
    if number in _CRASHES:
        return Death(signal.strsignal(number) or f"signal {number}", is_own=True)
    if number == signal.SIGKILL:
        return death_by_kill(kills_before, kills_after)
    return Death(f"killed from outside by signal {number}", is_own=False)


def death_by_kill(kills_before: int | None, kills_after: int | None) -> Death:
    """What a process died of that was killed: out of memory where the kernel says so, or does not count."""
    if kills_before is None or kills_after is None:
        return Death("killed; out of memory?", is_own=True, is_for_memory=True)
    if kills_after > kills_before:
        return Death("killed by the kernel: out of memory", is_own=True, is_for_memory=True)
    return Death("killed from outside, not by the kernel for memory", is_own=False)


def worn_out(held_bytes: int, opened_bytes: int, resources: Resources) -> Death | None:
    """The end of a worker that holds between tasks more than it was to need at its peak; opened: before its first."""
    if held_bytes <= max(resources.memory_bytes, 2 * opened_bytes):
        return None
    _log.info("a worker holds %.1f GB between tasks, and is replaced", held_bytes / 1e9)
    return Death("replaced, as it held too much memory", is_own=False)


def log_folder() -> str | None:
    """The folder of the file to which this process writes its errors; None where that is no file."""
    path = os.readlink("/proc/self/fd/2")
    return os.path.dirname(path) if os.path.isfile(path) else None
