"""Loaded models: models are converted once, found again, and converted again when the conversion is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from gneiss.batch import TextBatch
from gneiss.curate.loaded_models import cache_folder, load_models, prepare
from gneiss.errors import MachineError
from gneiss.recipe.recipe import Recipe
from tests import runs

RECIPE = """
name: tools
phases: [{name: only, annotate: [{fasttext: {models: {prose: {source: tiny.bin, label: hq}}}}]}]
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("GNEISS_CACHE", str(tmp_path / "cache"))
    runs.train(tmp_path / "tiny.bin")
    return Recipe.parse(RECIPE, folder=tmp_path)


def test_a_conversion_is_made_once_and_used_again(recipe: Recipe) -> None:
    [[files]] = prepare(recipe)
    [table] = files.values()
    assert table.parent == cache_folder()
    made = table.stat()
    [[again]] = prepare(recipe)
    assert again == files
    assert table.stat().st_mtime_ns == made.st_mtime_ns


@pytest.mark.parametrize("damage", [b"", b"not a table", None], ids=["empty", "foreign", "cut off"])
def test_a_damaged_conversion_is_made_again(recipe: Recipe, damage: bytes | None) -> None:
    [[files]] = prepare(recipe)
    [table] = files.values()
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    [[(_, compute)]] = [phase.annotators for phase in load_models(recipe).phases]
    assert table.read_bytes() == whole
    assert compute(TextBatch.of(["the river runs south"]))["prose"][0].as_py() > 0.5


def test_a_cache_that_cannot_be_written_is_named(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GNEISS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(MachineError, match="set GNEISS_CACHE"):
        prepare(recipe)
