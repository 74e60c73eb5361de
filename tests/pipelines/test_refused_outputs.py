"""Outputs that are not this run's, or cannot be, are refused and left as they were."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gneiss.errors import OutputError
from gneiss.input.plan import make_plan
from gneiss.output.claim import claim
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import place_of
from tests import runs
from tests.runs import Material, write_corpus


@pytest.mark.usefixtures("here")
def test_an_output_of_another_recipe_is_refused_with_what_differs(
    material: Material, uninterrupted: FinishedRun, tmp_path: Path
) -> None:
    before = runs.touched(uninterrupted.folder)
    with pytest.raises(OutputError, match=r"another run \(what differs: recipe\)"):
        run(material.changed(tmp_path, "eflaw < 30", "eflaw < 31"), material.input, uninterrupted.folder)
    assert runs.touched(uninterrupted.folder) == before


@pytest.mark.usefixtures("here")
def test_an_output_made_with_another_model_or_library_is_refused(
    material: Material, uninterrupted: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = material.changed(tmp_path, "name: runs", "name: runs")
    with (tmp_path / "tiny.bin").open("ab") as model:
        model.write(b"\0")
    with pytest.raises(OutputError, match=r"another run \(what differs: models\)"):
        run(recipe, material.input, uninterrupted.folder)
    monkeypatch.setattr("gneiss.input.plan.version", lambda _: "0.1")
    with pytest.raises(OutputError, match=r"another run \(what differs: libraries\)"):
        run(material.recipe, material.input, uninterrupted.folder)


@pytest.mark.usefixtures("here")
def test_a_foreign_folder_is_refused_and_left_as_it_was(simple: Path, material: Material, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"expected an empty folder or an output of gneiss, found 'chapter\.tex'"):
        run(simple, material.input, tmp_path / "thesis")
    assert list(runs.files(tmp_path / "thesis")) == ["chapter.tex"]


@pytest.mark.usefixtures("here")
def test_two_drivers_at_once_are_refused(simple: Path, material: Material, tmp_path: Path) -> None:
    recipe = Recipe.load(simple)
    with (
        claim(place_of(tmp_path / "output"), make_plan(recipe, material.input).identity),
        pytest.raises(OutputError, match="another run is writing here"),
    ):
        run(recipe, material.input, tmp_path / "output")
    run(recipe, material.input, tmp_path / "output")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("inside", ["input/output", "input", "."])
def test_an_output_in_the_input_or_around_it_is_refused(
    inside: str, simple: Path, material: Material, tmp_path: Path
) -> None:
    shutil.copytree(material.input, tmp_path / "around/input")
    with pytest.raises(OutputError, match="overlap"):
        run(simple, tmp_path / "around/input", tmp_path / "around" / inside)
    assert [name for name in runs.files(tmp_path / "around") if "_gneiss" in name] == []


@pytest.mark.usefixtures("here")
def test_an_output_of_another_input_is_refused(simple: Path, material: Material, tmp_path: Path) -> None:
    shutil.copytree(material.input, tmp_path / "input")
    run(simple, tmp_path / "input", tmp_path / "output")
    shutil.rmtree(tmp_path / "output/_gneiss/ledger")  # as if killed before the ledger was written
    (tmp_path / "input/a.parquet").unlink()
    with pytest.raises(OutputError, match=r"holds 1 shards that this input lacks, first 'a'"):
        run(simple, tmp_path / "input", tmp_path / "output")


@pytest.mark.usefixtures("here")
def test_modified_input_is_refused(simple: Path, tmp_path: Path) -> None:
    file = write_corpus(tmp_path / "input/x.parquet", runs.documents(20, seed=2))
    run(simple, tmp_path / "input", tmp_path / "output")
    os.utime(file, ns=(1, 1))
    with pytest.raises(OutputError, match=r"x\.parquet: the file was modified after .* was made from it"):
        run(simple, tmp_path / "input", tmp_path / "output")
    write_corpus(file, runs.documents(30, seed=2))
    shutil.rmtree(tmp_path / "output/_gneiss/ledger")
    with pytest.raises(OutputError, match=r"x\.parquet: this is no longer the file"):
        run(simple, tmp_path / "input", tmp_path / "output")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("in_the_way", ["", "data", "annotations", "_gneiss/statistics"])
def test_an_output_that_cannot_be_written_is_an_error_of_the_run(
    in_the_way: str, simple: Path, material: Material, tmp_path: Path
) -> None:
    """A file where a folder should be: permissions do not hold back root, this does."""
    output = tmp_path / "output"
    if in_the_way:
        with claim(place_of(output), make_plan(Recipe.load(simple), material.input).identity):
            pass
    (output / in_the_way).write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write: .*; check the path and its permissions"):
        run(simple, material.input, output)
