"""Recipes, models, columns and schemes that cannot work are named before anything is written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError, ModelError, RecipeError
from gneiss.pipelines.run import run
from tests import runs
from tests.runs import Material


@pytest.mark.usefixtures("here")
def test_a_scheme_that_no_store_has(simple: Path, material: Material, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="input sftp://crawl: no store has the scheme sftp://"):
        run(simple, "sftp://crawl", tmp_path / "output")
    with pytest.raises(InputError, match="output ftp://there: no store has the scheme ftp://"):
        run(simple, material.input, "ftp://there")
    done = run(simple, f"file://{material.input}", f"file://{tmp_path}/output")
    assert str(done.folder) == str(tmp_path / "output")


@pytest.mark.usefixtures("here")
def test_a_model_with_other_labels_than_named(material: Material, tmp_path: Path) -> None:
    recipe = material.changed(tmp_path, "label: hq", "label: science")
    with pytest.raises(ModelError, match=r"expected the labels cc, science, found cc, hq"):
        run(recipe, material.input, tmp_path / "output")


@pytest.mark.usefixtures("here")
def test_a_model_that_is_not_there(material: Material, tmp_path: Path) -> None:
    recipe = material.changed(tmp_path, "tiny.bin", "large.bin")
    with pytest.raises(ModelError, match=r"model large\.bin: no file at .*large\.bin; put it there"):
        run(recipe, material.input, tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.processes
def test_a_hub_model_without_a_network_says_how_to_get_it(material: Material, tmp_path: Path) -> None:
    recipe = material.changed(tmp_path, "source: tiny.bin", "source: hf://owner/repo@main/model.bin")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    ended = runs.gneiss("run", recipe, "--input", material.input, "--output", tmp_path / "output", env=offline)
    assert ended.returncode == 1
    assert "`hf download owner/repo model.bin --revision main`" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("budgets:", "budget:", r"unknown key 'budget'; did you mean 'budgets'\?"),
        (
            "min_length: 80",
            "min_lenght: 80",
            r"dedup: unknown key 'min_lenght'; did you mean 'min_length'\?",
        ),
        ("- readability", "- readabilty", r"no annotator 'readabilty'; did you mean 'readability'\?"),
        ("eflaw < 30", "eflow < 30", r"rule 'readable': no annotation 'eflow'; did you mean 'eflaw'\?"),
        ("eflaw < 30", "(SELECT count(*) FROM '/etc/passwd') > 0", "rule 'readable': subquery is not allowed"),
        ("eflaw < 30", "read_text('/etc/passwd') IS NOT NULL", r"rule 'readable': .*read_text"),
        ("eflaw < 30", "getenv('HOME') = ''", r"rule 'readable': .*getenv"),
        ("eflaw < 30", "true) FROM read_csv('/etc/passwd') --", "rule 'readable': expected a "),
        ("keep: good AND", "keep: goood AND", r"keep: no rule 'goood'; did you mean 'good'\?"),
    ],
)
@pytest.mark.slow
def test_a_wrong_recipe_names_what_is_wrong_before_anything_is_written(
    old: str, new: str, message: str, material: Material, tmp_path: Path
) -> None:
    recipe = material.changed(tmp_path, old, new)
    with pytest.raises(RecipeError, match=message):
        run(recipe, material.input, tmp_path / "output")
    assert not (tmp_path / "output").exists()
    assert runs.command("run", recipe, "--input", material.input, "--output", tmp_path / "output") == 2


@pytest.mark.usefixtures("here")
def test_columns_that_are_missing_or_mistyped_are_named(simple: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["a"], "content": ["b"]}), path)
    with pytest.raises(InputError, match="expected a column 'text', found id, content"):
        run(simple, path, tmp_path / "output")
    pq.write_table(pa.table({"id": ["a"], "text": [1]}), path)
    with pytest.raises(InputError, match="column 'text': expected string, found int64"):
        run(simple, path, tmp_path / "output")
