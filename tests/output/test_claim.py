"""An output folder: one run key, one driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gneiss.errors import OutputError
from gneiss.input.plan import Plan, make_plan
from gneiss.output.claim import claim
from gneiss.output.layout import RECIPE_FILE, RUN_FILE
from gneiss.store.place import place_of
from tests.support import recipe_of, write_documents

RULES = "- {name: only, rules: {long: text_chars > 3}}"


def plan_of(folder: Path, rules: str = RULES) -> Plan:
    if not (folder / "input").exists():
        write_documents(folder / "input/a.parquet", ["one", "three"])
        write_documents(folder / "input/b.parquet", ["five"])
    return make_plan(recipe_of(rules), folder / "input")


def test_a_new_output_is_marked_with_the_run_and_its_recipe(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    with claim(place_of(output), plan.identity, {RECIPE_FILE: b"name: first"}):
        assert json.loads((output / RUN_FILE).read_text())["run_key"] == plan.run_key
    before = (output / RECIPE_FILE).stat().st_ino
    with claim(place_of(output), plan.identity, {RECIPE_FILE: b"name: first"}):
        assert (output / RECIPE_FILE).stat().st_ino == before
    with claim(place_of(output), plan.identity, {RECIPE_FILE: b"name: second"}):
        assert (output / RECIPE_FILE).read_bytes() == b"name: second"


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with claim(place_of(output), plan_of(tmp_path).identity):
        pass
    other = plan_of(tmp_path, RULES.replace("> 3", "> 4"))
    with (
        pytest.raises(OutputError, match=r"belongs to another run \(what differs: recipe\)"),
        claim(place_of(output), other.identity),
    ):
        pass


def test_a_second_driver_is_refused_while_the_first_is_there(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    with (
        claim(place_of(output), plan.identity),
        pytest.raises(OutputError, match="another run is writing here"),
        claim(place_of(output), plan.identity),
    ):
        pass
    with claim(place_of(output), plan.identity):
        pass


@pytest.mark.parametrize("content", ["{", "[]", "3", "{}", '{"run_key": null}'])
def test_a_damaged_run_file_is_an_output_error(tmp_path: Path, content: str) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    with claim(place_of(output), plan.identity):
        pass
    (output / RUN_FILE).write_text(content)
    with pytest.raises(OutputError), claim(place_of(output), plan.identity):
        pass


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(OutputError, match=r"cannot write: .*; check the path"),
        claim(place_of(tmp_path / "file/out"), plan_of(tmp_path).identity),
    ):
        pass
