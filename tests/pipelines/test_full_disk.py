"""A disk without room ends the run; with room again, the same command resumes it."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gneiss.errors import OutputError
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from tests import runs
from tests.runs import Material

pytestmark = pytest.mark.processes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many KB; asking again changes the size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size_kb: int) -> Path:
        options = f"{'remount,' if place.is_mount() else ''}size={size_kb}k"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            pytest.skip(f"mounting a small tmpfs needs root: {mounted.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_the_run_and_room_on_it_resumes(
    material: Material, uninterrupted: FinishedRun, small_disk: Callable[[int], Path]
) -> None:
    output = small_disk(150) / "output"
    with pytest.raises(OutputError, match=r"cannot write: .*No space left.*; free some space and run again"):
        run(material.recipe, material.input, output, workers=1, backend="local")
    assert [name for name in runs.files(output) if name.endswith(".part")] == []
    finished = {n: place for n, place in runs.touched(output).items() if n.startswith("annotations/")}
    assert finished
    small_disk(10_000)
    run(material.recipe, material.input, output, workers=1, backend="local")
    assert runs.promised(output) == runs.promised(uninterrupted.folder)
    assert finished.items() <= runs.touched(output).items()


def test_a_file_larger_than_allowed_ends_the_run_and_leaves_no_half_file(
    material: Material, uninterrupted: FinishedRun, tmp_path: Path
) -> None:
    """A limit on file size stands for a full disk where nothing can be mounted."""
    output = tmp_path / "output"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write: .*; free some space and run again"):
            run(material.recipe, material.input, output, workers=1, backend="local")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [name for name in runs.files(output) if name.endswith(".part")] == []
    run(material.recipe, material.input, output, workers=1, backend="local")
    assert runs.promised(output) == runs.promised(uninterrupted.folder)
