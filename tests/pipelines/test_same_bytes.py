"""Where and how a run is worked on changes no byte of its output."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from tests import runs
from tests.runs import Material

pytestmark = pytest.mark.processes

READABLE = """
name: readable
budgets: {documents: 0.5}
phases: [{name: only, annotate: [readability], rules: {readable: eflaw < 30}}]
"""


@pytest.mark.usefixtures("spawned_workers")
def test_two_worker_processes_change_no_byte(material: Material, uninterrupted: FinishedRun, tmp_path: Path) -> None:
    run(material.recipe, material.input, tmp_path / "output", workers=2, backend="local")
    assert runs.promised(tmp_path / "output") == runs.promised(uninterrupted.folder)


@pytest.mark.usefixtures("spawned_workers")
def test_relative_paths_count_from_where_the_run_was_started(
    material: Material, uninterrupted: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(material.folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")  # after multiprocessing has noted where the process was started
    run("runs.yaml", "input", "output", workers=1, backend="local")
    assert runs.promised(tmp_path / "elsewhere/output") == runs.promised(uninterrupted.folder)


@pytest.mark.exhaustive
def test_hash_seed_and_folder_change_no_byte(material: Material, uninterrupted: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(material.input)
    arguments = ("--input", "link", "--output", "output", "--workers", "1")
    ended = runs.gneiss("run", material.recipe, *arguments, env={"PYTHONHASHSEED": "77"}, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert runs.promised(tmp_path / "output") == runs.promised(uninterrupted.folder)


@pytest.mark.exhaustive
@pytest.mark.parametrize("phases", [READABLE, pytest.param(None, marks=pytest.mark.exhaustive)], ids=["few", "all"])
def test_an_older_cpu_changes_no_byte(phases: str | None, material: Material, tmp_path: Path) -> None:
    """NumPy, Arrow and numba without what this CPU has beyond the baseline; kernels are compiled anew: few, or all."""
    from numpy._core import _multiarray_umath as numpy_core

    beyond = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
    older = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(beyond),
        "ARROW_USER_SIMD_LEVEL": "NONE",
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "kernels"),
    }
    code = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(*[n for n in f if f[n]])"
    assert set(runs.python("-c", code, env=older).stdout.split()).isdisjoint(beyond)
    recipe = material.recipe
    if phases is not None:
        recipe = tmp_path / "few.yaml"
        recipe.write_text(phases)
    arguments = ("--input", material.input, "--output", tmp_path / "older", "--workers", "1")
    ended = runs.gneiss("run", recipe, *arguments, env=older)
    assert ended.returncode == 0, ended.stderr
    run(recipe, material.input, tmp_path / "here", backend=runs.InThisProcess())
    assert runs.promised(tmp_path / "older") == runs.promised(tmp_path / "here")
