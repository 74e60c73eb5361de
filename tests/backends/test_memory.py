"""What memory there is, as cgroups of both versions say, and what processes hold of it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from gneiss.backends.memory import forget_peak, held_bytes, machine_memory, peak_bytes

MB = 1 << 20
V1 = {"limit": "memory.limit_in_bytes", "used": "memory.usage_in_bytes", "inactive": "total_inactive_file"}
V2 = {"limit": "memory.max", "used": "memory.current", "inactive": "inactive_file"}


def write_cgroup(folder: Path, names: dict[str, str], limit: str, used: int, inactive: int) -> None:
    folder.mkdir(parents=True)
    (folder / names["limit"]).write_text(f"{limit}\n")
    (folder / names["used"]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names['inactive']} {inactive}\n")


@pytest.mark.parametrize(
    ("lines", "root", "names"),
    [
        ("4:memory:/pods/a\n0::/\n", "sys/memory/pods/a", V1),
        ("2:cpu,memory:/elsewhere\n", "sys/memory", V1),  # a container sees its own cgroup as the root
        ("0::/pods/a/b\n", "sys/pods/a", V2),
    ],
)
def test_the_limit_of_a_cgroup_is_the_machine(tmp_path: Path, lines: str, root: str, names: dict[str, str]) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(lines)
    write_cgroup(tmp_path / root, names, f"{100 * MB}", 70 * MB, 20 * MB)
    found = machine_memory(tmp_path / "proc", tmp_path / "sys")
    assert (found.total_bytes, found.free_bytes) == (100 * MB, 50 * MB)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_without_a_limit_it_is_that_of_the_machine(tmp_path: Path, limit: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a\n")
    write_cgroup(tmp_path / "sys/a", V2, limit, MB, 0)
    assert machine_memory(tmp_path / "proc", tmp_path / "sys").total_bytes == psutil.virtual_memory().total
    assert machine_memory(tmp_path / "none", tmp_path / "none").total_bytes == psutil.virtual_memory().total


def test_what_a_process_holds_is_without_mapped_files(tmp_path: Path) -> None:
    before = held_bytes(os.getpid())
    own = np.ones(50 * MB, np.uint8)
    assert 49 * MB < held_bytes() - before < 100 * MB
    (tmp_path / "file").write_bytes(own.tobytes())
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before = held_bytes()
        assert np.frombuffer(mapped, np.uint8).sum() == len(own)
        assert abs(held_bytes() - before) < 10 * MB
    assert held_bytes(2**30) == 0


def test_a_peak_begins_anew() -> None:
    forget_peak()
    low = peak_bytes()
    assert np.ones(60 * MB, np.uint8).all()
    assert peak_bytes() > low + 50 * MB
    forget_peak()
    assert peak_bytes() < low + 50 * MB
