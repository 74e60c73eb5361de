"""A layer of what a finished run lacks: only that is computed, and deciding again takes it as the run's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import OutputError, RecipeError
from gneiss.filters.fasttext import FastText
from gneiss.filters.readability import Readability
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.pipelines.update import update_annotations
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.pipelines.test_decide import PHASES, READABILITY, counted, same

__all__ = ["counted"]
HERE = runs.InThisProcess()
NEWLINES = {"phases.only.annotate.fasttext.models.prose.newlines": "join_stripped_lines"}


def layer_of(folder: Path, name: str = "updated") -> pa.Table:
    """All rows of a layer."""
    return pa.concat_tables(map(pq.read_table, sorted((folder / "annotations" / name).rglob("*.parquet"))))


def test_only_changed_parameters_are_computed_and_decided_by(
    material: runs.Material, curated: Path, copy_of: Callable[[Path], Path], tmp_path: Path, counted: dict[str, int]
) -> None:
    folder = copy_of(curated)
    recipe = Recipe.load(material.recipe).changed({**NEWLINES, "phases.only.rules.good": "prose > 0.6"})
    written = update_annotations(folder, recipe, backend=HERE)
    assert written is not None
    assert written.metadata["summary"] == {"documents": 180, "failed": 0}
    assert list(written.metadata["columns"]) == ["prose", "prose_label"]
    assert set(counted) == {"fasttext"}
    counted.clear()
    assert update_annotations(folder, recipe, backend=HERE) is None
    again = decide(recipe, folder, tmp_path / "again", backend=HERE)
    assert not counted
    same(recipe, again, material.input, tmp_path / "run")


def test_changed_code_is_computed_for_the_texts_of_the_run(
    curated: Path, copy_of: Callable[[Path], Path], counted: dict[str, int]
) -> None:
    folder = copy_of(curated)
    identity = json.loads((folder / "_gneiss/run.json").read_text())
    identity["code"][READABILITY] = "another"
    (folder / "_gneiss/run.json").write_text(json.dumps(identity))
    assert update_annotations(folder, layer="readable", backend=HERE) is not None
    assert set(counted) == {"readability"}
    layer, base = layer_of(folder, "readable"), runs.annotations(folder)
    assert layer.column_names == ["row", "id", *(column.name for column in Readability().columns)]
    assert layer.equals(base.select(layer.column_names).cast(layer.schema))


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["shard", "corpus"])
def test_documents_are_annotated_as_they_were_in_their_phase(
    scope: str, material: runs.Material, tmp_path: Path, counted: dict[str, int]
) -> None:
    first = run(Recipe.parse(PHASES.format(scope=scope)), material.input, tmp_path / "first", backend=HERE)
    entered = counted.pop("readability")
    text = (
        PHASES.format(scope=scope)
        .replace("[readability]", "[gopher_repetition]")
        .replace("eflaw < 14", "text_chars > 9")
    )
    recipe = Recipe.parse(text.replace("[gopher_quality]", "[gopher_quality, readability]"))
    update_annotations(first, recipe, backend=HERE)
    assert counted.pop("readability") > entered
    again = decide(recipe, first.folder, tmp_path / "again", backend=HERE)
    assert not counted
    same(recipe, again, material.input, tmp_path / "run")


def test_an_interrupted_update_is_completed(
    material: runs.Material, curated: Path, copy_of: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(curated)
    recipe = Recipe.load(material.recipe).changed(NEWLINES)
    update_annotations(folder, recipe, backend=HERE)
    whole = {name: path.read_bytes() for name, path in runs.files(folder).items()}
    (folder / "_gneiss/layers/updated.json").unlink()
    gone = sorted((folder / "annotations/updated").rglob("*.parquet"))[:2]
    for path in gone:
        path.unlink()
    before = runs.touched(folder)
    update_annotations(folder, recipe, backend=HERE)
    assert {name: path.read_bytes() for name, path in runs.files(folder).items()} == whole
    after = runs.touched(folder)
    assert {name for name in before if before[name] != after[name]} <= {"_gneiss/lock"}


def test_rules_read_the_layer(
    material: runs.Material, curated: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = copy_of(curated)
    update_annotations(folder, Recipe.load(material.recipe).changed(NEWLINES), backend=HERE)
    changes = {"layers": {"updated": {"prose": "float64"}}, "phases.only.rules.same": "updated.prose = prose"}
    recipe = Recipe.load(material.recipe).changed({**changes, "phases.only.keep": "same"})
    again = decide(recipe, folder, tmp_path / "again", backend=HERE)
    table = runs.annotations(tmp_path / "again")
    assert again.documents == sum(
        before is not None and before == updated
        for before, updated in zip(*(table[n].to_pylist() for n in ("prose", "updated.prose")), strict=True)
    )


def test_documents_on_which_an_annotator_fails_are_computed_again(
    material: runs.Material,
    curated: Path,
    copy_of: Callable[[Path], Path],
    tmp_path: Path,
    counted: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = copy_of(curated)
    recipe = Recipe.load(material.recipe).changed(NEWLINES)
    load = FastText.load

    def failing(self: FastText, files: Any) -> Any:
        compute = load(self, files)
        return lambda batch: {"prose": []} if any("casino" in text for text in batch.texts()) else compute(batch)

    with monkeypatch.context() as patch:
        patch.setattr(FastText, "load", failing)
        written = update_annotations(folder, recipe, backend=HERE)
    assert written is not None
    assert 0 < written.metadata["summary"]["failed"] == layer_of(folder)["prose"].null_count - 4
    counted.clear()
    again = decide(recipe, folder, tmp_path / "again", backend=HERE)
    assert set(counted) == {"fasttext"}
    same(recipe, again, material.input, tmp_path / "run")


def test_what_has_other_texts_is_refused(material: runs.Material, uninterrupted: FinishedRun, curated: Path) -> None:
    recipe = Recipe.load(material.recipe)
    changed = {**NEWLINES, "phases.only.dedup.min_length": 90}
    with pytest.raises(RecipeError, match="phase only: its steps or edits, or their code, are not those of"):
        update_annotations(uninterrupted, recipe.changed(changed), backend=HERE)
    other = recipe.changed({**NEWLINES, "phases.only.name": "other"})
    with pytest.raises(RecipeError, match=r"phases: those of .* are only; `gneiss decide`"):
        update_annotations(uninterrupted, other, backend=HERE)
    assert update_annotations(curated, backend=HERE) is None


def test_another_layer_of_the_name_is_refused(
    material: runs.Material, released: Path, copy_of: Callable[[Path], Path]
) -> None:
    recipe = Recipe.load(material.recipe).changed(NEWLINES)
    with pytest.raises(OutputError, match="the layer 'weights' is there already with another annotator"):
        update_annotations(copy_of(released), recipe, layer="weights", backend=HERE)
