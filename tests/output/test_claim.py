"""An output folder: one run key, one driver."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import sleep

import pytest

from gneiss.errors import OutputError
from gneiss.input.plan import Plan, make_plan
from gneiss.output.claim import Share, claim, held
from gneiss.output.layout import RECIPE_FILE, RUN_FILE, share_locks
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


def test_drivers_of_shares_hold_an_output_together(tmp_path: Path) -> None:
    identity, output = plan_of(tmp_path).identity, place_of(tmp_path / "out")
    with claim(output, identity, share=Share(0, 2)), claim(output, identity, share=Share(1, 2)):
        for other, owner in ((Share(1, 2), "another task 1"), (Share(0, 3), "task 0 of 2 of a run"), (None, "task 0")):
            with pytest.raises(OutputError, match=f"{owner}.* is writing here"), claim(output, identity, share=other):
                pass
    with claim(output, identity):
        assert not share_locks(output)
        with pytest.raises(OutputError, match="another run"), claim(output, identity, share=Share(0, 2)):
            pass
    with claim(output, identity, share=Share(2, 3)), pytest.raises(OutputError, match="task 2 of 3"), held(output):
        pass


def test_who_begins_waits_for_who_ends(tmp_path: Path) -> None:
    identity, output, held_now = plan_of(tmp_path).identity, place_of(tmp_path / "out"), Event()

    def hold() -> None:
        with claim(output, identity, share=Share(1, 2)):
            held_now.set()
            sleep(0.5)

    with ThreadPoolExecutor() as pool:
        holder = pool.submit(hold)
        assert held_now.wait(30)
        with claim(output, identity, patience_seconds=60):
            pass
        holder.result()


@pytest.mark.parametrize(("task", "of"), [(2, 2), (-1, 2), (0, 0)])
def test_a_task_that_there_is_not(task: int, of: int) -> None:
    with pytest.raises(OutputError, match=f"task {task} of {of}"):
        Share(task, of)
