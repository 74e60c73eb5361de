"""The memory of a machine, as this process may use it, and what processes hold of it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: Where a cgroup says its limit and its use, and what part of this the kernel takes back when it is needed: of both
#: versions of cgroups, by the folder of each.
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class MachineMemory:
    """total_bytes: what processes here can have; free_bytes: of that, what nobody holds now."""

    total_bytes: int
    free_bytes: int


def machine_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> MachineMemory:
    """The memory of this machine, or of the cgroup around this process where that has less: a container, a job."""
    import psutil

    memory = psutil.virtual_memory()
    limits = [MachineMemory(memory.total, memory.available), *_cgroup_limits(proc, cgroups)]
    return MachineMemory(min(limit.total_bytes for limit in limits), min(limit.free_bytes for limit in limits))


def _cgroup_limits(proc: Path, cgroups: Path) -> Iterator[MachineMemory]:
    """The limits of the cgroup of this process and of those around it."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (cgroups / "memory", _V1) if controllers else (cgroups, _V2)
        own = PurePosixPath(path.lstrip("/"))
        for folder in (own, *own.parents):  # in a container its own cgroup may be the root of what it sees
            with suppress(OSError, ValueError, KeyError):  # there is none, or it has no limit ("max")
                yield _limit(root / folder, names)


def _limit(folder: Path, names: tuple[str, str, str]) -> MachineMemory:
    limit, used = (int((folder / name).read_text()) for name in names[:2])
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return MachineMemory(limit, max(0, limit - used + int(stat[names[2]])))


def held_bytes(pid: int | str = "self") -> int:
    """What a process holds by itself: what is mapped from files is not in it, as others share that. 0 if it is dead."""
    try:
        resident, shared = (_PROC / f"{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def forget_peak() -> None:
    """Let the peak of this process restart, where the kernel allows it."""
    with suppress(OSError):
        (_PROC / "self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The peak of the resident memory of this process since `forget_peak`, mapped files included."""
    lines = (_PROC / "self/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
