"""Plans: the run key is of everything that shapes the bytes of an output, and of nothing else."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from gneiss.errors import InputError, ModelError
from gneiss.input import plan as plans
from gneiss.input.plan import Plan, make_plan
from gneiss.recipe.recipe import Recipe
from tests.support import write_documents

RECIPE = """
name: planned
phases:
  - name: only
    annotate: [fasttext: {models: {prose: {source: tiny.bin, label: hq}}}]
    rules: {good: prose > 0.5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.bin").write_bytes(b"weights")
    (tmp_path / "planned.yaml").write_text(RECIPE)
    write_documents(tmp_path / "input/a.parquet", ["one", "two"])
    write_documents(tmp_path / "input/b.parquet", ["three"])
    return tmp_path


def plan_of(folder: Path, name: str = "planned.yaml", source: str = "input") -> Plan:
    return make_plan(Recipe.load(folder / name), folder / source)


def test_a_plan_knows_shards_and_models(folder: Path) -> None:
    plan = plan_of(folder)
    assert [shard.id for shard in plan.input.shards] == ["a", "b"]
    assert [(model.source, model.size_bytes) for model in plan.models] == [("tiny.bin", 7)]
    assert plan.identity["libraries"] == {name: version(name) for name in plans.BYTE_SHAPING}


def test_the_run_key_is_the_same_for_the_same_work_elsewhere(folder: Path) -> None:
    key = plan_of(folder).run_key
    assert plan_of(folder).run_key == key
    assert plan_of(folder, source="input/a.parquet").run_key == key, "the input is known by its fingerprints"
    (folder / "copy.yaml").write_text("# the same\n" + RECIPE)
    assert plan_of(folder, "copy.yaml").run_key == key


def test_the_run_key_differs_with_recipe_model_and_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [plan_of(folder).run_key]
    (folder / "other.yaml").write_text(RECIPE.replace("0.5", "0.6"))
    keys.append(plan_of(folder, "other.yaml").run_key)
    (folder / "tiny.bin").write_bytes(b"Weights")
    keys.append(plan_of(folder).run_key)
    monkeypatch.setattr(plans, "version", lambda name: "99" if name == "pyarrow" else version(name))
    keys.append(plan_of(folder).run_key)
    monkeypatch.setattr(plans, "__version__", "99")
    keys.append(plan_of(folder).run_key)
    assert len(set(keys)) == 5


def test_a_missing_column_or_model_is_an_error_before_the_run(folder: Path) -> None:
    (folder / "content.yaml").write_text(RECIPE + "input: {text: content}\n")
    with pytest.raises(InputError, match="expected a column 'content', found id, text"):
        plan_of(folder, "content.yaml")
    (folder / "key.yaml").write_text(RECIPE + "input: {id: key}\n")
    with pytest.raises(InputError, match="expected a column 'key', found id, text"):
        plan_of(folder, "key.yaml")
    (folder / "no-id.yaml").write_text(RECIPE + "input: {id: null}\n")
    assert len(plan_of(folder, "no-id.yaml").input.shards) == 2
    (folder / "tiny.bin").unlink()
    with pytest.raises(ModelError, match=r"model tiny\.bin: no file at"):
        plan_of(folder)
