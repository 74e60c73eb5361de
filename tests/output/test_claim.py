"""An output folder: one run key, one driver, and finished shards that are believed only while their files are there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gneiss.curate.curate import curate
from gneiss.curate.loaded_models import load_models
from gneiss.errors import OutputError
from gneiss.input.plan import Plan, make_plan
from gneiss.output import ledger
from gneiss.output.claim import claim, finished
from gneiss.output.commit import commit
from gneiss.output.layout import RECIPE_FILE, RUN_FILE
from tests.support import recipe_of, write_documents

RULES = "- {name: only, rules: {long: text_chars > 3}}"


def plan_of(folder: Path, rules: str = RULES) -> Plan:
    if not (folder / "input").exists():
        write_documents(folder / "input/a.parquet", ["one", "three"])
        write_documents(folder / "input/b.parquet", ["five"])
    return make_plan(recipe_of(rules), folder / "input")


def curate_all(plan: Plan, output: Path) -> list[ledger.Receipt]:
    tools = load_models(plan.recipe)
    return [commit(curate(shard, plan.recipe, tools), plan.recipe, output) for shard in plan.input.shards]


def test_a_new_output_is_marked_with_the_run_and_its_recipe(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    with claim(output, plan.identity, {RECIPE_FILE: b"name: first"}):
        assert json.loads((output / RUN_FILE).read_text())["run_key"] == plan.run_key
    with claim(output, plan.identity, {RECIPE_FILE: b"name: second"}):
        assert (output / RECIPE_FILE).read_bytes() == b"name: first"


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with claim(output, plan_of(tmp_path).identity):
        pass
    other = plan_of(tmp_path, RULES.replace("> 3", "> 4"))
    with (
        pytest.raises(OutputError, match=r"belongs to another run \(what differs: recipe\)"),
        claim(output, other.identity),
    ):
        pass


def test_a_second_driver_is_refused_while_the_first_is_there(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    with (
        claim(output, plan.identity),
        pytest.raises(OutputError, match="another run is writing here"),
        claim(output, plan.identity),
    ):
        pass
    with claim(output, plan.identity):
        pass


@pytest.mark.parametrize("content", ["{", "[]", "3", "{}", '{"run_key": null}'])
def test_a_damaged_run_file_is_an_output_error(tmp_path: Path, content: str) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    with claim(output, plan.identity):
        pass
    (output / RUN_FILE).write_text(content)
    with pytest.raises(OutputError), claim(output, plan.identity):
        pass


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(OutputError, match=r"cannot write: .*; check the path"),
        claim(tmp_path / "file/out", plan_of(tmp_path).identity),
    ):
        pass


def test_finished_shards_are_known_from_the_ledger(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    receipts = curate_all(plan, output)
    ledger.append(output, receipts)
    done, adopted = finished(output, plan.input.shards)
    assert done == {receipt.task: receipt for receipt in receipts}
    assert adopted == []


def test_shards_that_the_ledger_missed_are_adopted_from_their_footers(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    receipts = curate_all(plan, output)
    ledger.append(output, receipts[:1])
    done, adopted = finished(output, plan.input.shards)
    assert list(done) == ["a", "b"]
    assert [receipt.files for receipt in adopted] == [receipts[1].files]


@pytest.mark.parametrize("folder", ["data", "annotations/base", "_gneiss/statistics"])
@pytest.mark.parametrize("harm", ["gone", "short"])
def test_a_shard_that_lacks_a_file_is_not_finished(tmp_path: Path, folder: str, harm: str) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    ledger.append(output, curate_all(plan, output))
    (path,) = (output / folder).glob("a.*")
    if harm == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)
    assert list(finished(output, plan.input.shards)[0]) == ["b"]


def test_an_input_that_changed_is_refused(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    ledger.append(output, curate_all(plan, output))
    path = tmp_path / "input/a.parquet"
    os.utime(path, ns=(1, 1))
    with pytest.raises(OutputError, match=r"a\.parquet: the file was modified after it was curated"):
        finished(output, plan_of(tmp_path).input.shards)
    write_documents(path, ["one", "other"])
    os.utime(path, ns=(1, plan.input.shards[0].modified_ns))
    with pytest.raises(OutputError, match="no longer the file that was curated"):
        finished(output, plan_of(tmp_path).input.shards)


def test_an_input_that_lacks_finished_shards_is_refused(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), tmp_path / "out"
    ledger.append(output, curate_all(plan, output))
    with pytest.raises(OutputError, match="it holds 1 shards that this input lacks, first 'b'"):
        finished(output, plan.input.shards[:1])
