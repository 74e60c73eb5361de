"""The same command again: what is missing is made, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from tests import runs
from tests.runs import Material


def test_a_second_call_does_nothing(material: Material, uninterrupted: FinishedRun) -> None:
    before = runs.touched(uninterrupted.folder)
    again = run(material.recipe, material.input, uninterrupted.folder, backend="local")
    assert again.finished_before == len(again.shards) == 5
    assert again.statistics == uninterrupted.statistics
    assert again.examples == uninterrupted.examples
    assert runs.touched(uninterrupted.folder) == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "lost",
    ["data/a.parquet", "annotations/base/a.parquet", "_gneiss/statistics/a.json", "quarantine/a.parquet", "ledger"],
)
@pytest.mark.slow
def test_what_is_missing_is_made_again_and_nothing_else(
    lost: str, material: Material, uninterrupted: FinishedRun, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    shutil.copytree(uninterrupted.folder, output)
    shutil.rmtree(output / "_gneiss/ledger") if lost == "ledger" else (output / lost).unlink()
    before = runs.touched(output)
    run(material.recipe, material.input, output)
    assert runs.promised(output) == runs.promised(uninterrupted.folder)
    after = runs.touched(output)
    again = {name for name in before if after[name] != before[name] and not name.startswith("_gneiss/ledger")}
    assert again <= {
        "data/a.parquet",
        "annotations/base/a.parquet",
        "quarantine/a.parquet",
        "_gneiss/statistics/a.json",
    }


@pytest.mark.usefixtures("here")
def test_a_file_cut_short_afterwards_is_made_again(
    material: Material, uninterrupted: FinishedRun, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    shutil.copytree(uninterrupted.folder, output)
    os.truncate(output / "data/a.parquet", 100)
    run(material.recipe, material.input, output)
    assert runs.promised(output) == runs.promised(uninterrupted.folder)


@pytest.mark.usefixtures("here")
def test_leftovers_of_a_killed_writer_are_cleaned_and_other_hidden_files_are_not(
    material: Material, uninterrupted: FinishedRun, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    shutil.copytree(uninterrupted.folder, output)
    leftovers = [output / "data/.a.parquet.123.part", output / "annotations/base/deep/.b.g00000.parquet.9.part"]
    for path in leftovers:
        path.write_bytes(b"half")
    (output / ".note").write_text("mine")
    run(material.recipe, material.input, output)
    assert not any(path.exists() for path in leftovers)
    assert (output / ".note").read_text() == "mine"
