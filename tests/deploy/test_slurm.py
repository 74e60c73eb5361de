"""The script for Slurm, run as Slurm runs it: once for each task of an array."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gneiss.pipelines.run import run
from tests import runs
from tests.runs import InThisProcess

SCRIPT = Path(__file__).resolve().parent.parent.parent / "deploy/slurm.sbatch"


@pytest.mark.processes
def test_an_array_of_slurm_is_one_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(runs.WITHOUT_MODEL)
    for number in range(3):
        runs.write_corpus(tmp_path / f"input/{number}.parquet", [b"An ordinary text."] * 9 + [b"%d" % number])
    run(tmp_path / "recipe.yaml", tmp_path / "input", tmp_path / "whole", backend=InThisProcess())

    program = tmp_path / "bin/gneiss"
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nexec "{sys.executable}" -m gneiss "$@"\n')
    program.chmod(0o755)
    paths = {name: str(tmp_path / name.lower()) for name in ("INPUT", "OUTPUT")}
    settings = {"RECIPE": str(tmp_path / "recipe.yaml"), **paths, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    tasks = [
        subprocess.Popen(
            ["bash", SCRIPT],
            env={
                **os.environ,
                **settings,
                "SLURM_ARRAY_TASK_ID": str(task),
                "SLURM_ARRAY_TASK_COUNT": "2",
                "SLURM_CPUS_PER_TASK": "1",
            },
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for task in range(2)
    ]
    said = [task.communicate(timeout=600) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert any("kept documents" in out + err for out, err in said)
    assert runs.promised(tmp_path / "output") == runs.promised(tmp_path / "whole")
