"""Workers: how many there may be, and what they report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gneiss.errors import DefectError, MachineError, ModelError
from gneiss.pipelines.run import run
from tests import runs
from tests.chaos import killing
from tests.runs import Material


@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_below_one_is_refused(
    workers: int, backend: Any, simple: Path, material: Material, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=f"workers={workers}: expected 1 or more"):
        run(simple, material.input, tmp_path / "output", workers=workers, backend=backend)


@pytest.mark.processes
def test_errors_that_concern_the_run_come_back_from_a_worker_process(
    simple: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in (
        (ModelError("the model is green"), pytest.raises(ModelError, match=r"^the model is green$")),
        (ValueError("no number"), pytest.raises(DefectError, match=r"^a worker cannot start: ValueError: no number$")),
    ):
        monkeypatch.setattr("gneiss.pipelines.run.CurateStep", lambda *_, error=error: killing.FailsToLoad(error))
        with expected:
            run(simple, material.input, tmp_path / "output", workers=1, backend="local")


@pytest.mark.processes
def test_a_script_without_a_main_guard_is_told_so_rather_than_all_shards_being_given_up(
    simple: Path, material: Material, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    arguments = f"{str(simple)!r}, {str(material.input)!r}, {str(tmp_path / 'output')!r}, workers=1"
    script.write_text(f"import gneiss\ngneiss.run({arguments})\n")
    ended = runs.python(script)
    assert ended.returncode != 0
    assert "3 workers died before they were ready" in ended.stderr
    assert "__main__" in ended.stderr.splitlines()[-1]
