"""What a worker asks for: every column and row of a shard takes memory, as decoded, not its text only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.backends.resources import WORKER_BYTES
from gneiss.input.formats import row_groups
from gneiss.input.plan import make_plan
from gneiss.pipelines.worker_memory import BYTES_PER_BYTE, resources_of
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import Place
from gneiss.store.ranged import KEPT_BYTES
from tests import runs

RECIPE = Recipe.parse("name: p\nphases:\n- {name: only, rules: {kept: text_chars >= 0}}\n")


def needed(folder: Path, rows: int, options: dict[str, Any] | None = None, **columns: Any) -> int:
    table = {"id": [str(i) for i in range(rows)], "text": ["short text"] * rows, **columns}
    pq.write_table(pa.table(table), folder / "a.parquet", **(options or {}))
    return resources_of(make_plan(RECIPE, folder)).memory_bytes - WORKER_BYTES


def test_texts_are_counted_as_decoded(tmp_path: Path) -> None:
    assert needed(tmp_path, 1000, text=["x" * 10_000] * 1000) > BYTES_PER_BYTE * 10_000_000


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}])
def test_long_ids_are_counted(tmp_path: Path, options: dict[str, Any]) -> None:
    """They are held for all rows of a shard: 300 of a megabyte took 1.9 GB, measured, and were taken for .6."""
    found = needed(tmp_path, 300, options, id=[f"{i}" + "x" * 10_000 for i in range(300)])
    assert 4 * 3_000_000 < found < 10 * 3_000_000


@pytest.mark.parametrize("value", ["y" * 2000, [1.0] * 250, {"a": [b"z" * 2000]}], ids=["text", "numbers", "nested"])
def test_other_columns_are_counted_table_by_table(tmp_path: Path, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [value] * 5000
    few = needed(tmp_path, 5000)
    whole = needed(tmp_path, 5000, {"use_dictionary": False}, other=values)
    assert whole - few > 10_000_000
    monkeypatch.setattr(row_groups, "_TABLE_BYTES", 1_000_000)
    assert needed(tmp_path, 5000, {"use_dictionary": False}, other=values) < few + 3_000_000
    monkeypatch.undo()
    assert needed(tmp_path, 5000, other=values) - few > 10_000_000, "a dictionary hides nothing"


def test_rows_are_counted(tmp_path: Path) -> None:
    assert needed(tmp_path, 100_000) - needed(tmp_path, 1000) > 30_000_000


def test_what_a_worker_keeps_of_a_file_elsewhere_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = needed(tmp_path, 10)
    monkeypatch.setattr(Place, "is_in_one_version", True)
    assert needed(tmp_path, 10) == before + KEPT_BYTES


def test_mapped_models_are_counted_once_a_machine(tmp_path: Path) -> None:
    runs.train(tmp_path / "a.bin", ("hq", "cc"))
    model = f"{{source: '{tmp_path / 'a.bin'}', label: hq}}"
    annotate = f"annotate: [{{fasttext: {{models: {{good: {model}}}}}}}]"
    recipe = Recipe.parse(f"name: p\nphases:\n- {{name: only, {annotate}, rules: {{better: good > 0}}}}")
    folder = tmp_path / "input"
    folder.mkdir()
    plain = needed(folder, 10)
    resources = resources_of(make_plan(recipe, folder))
    assert resources.shared_bytes == (tmp_path / "a.bin").stat().st_size > 0
    assert resources.memory_bytes - WORKER_BYTES == plain
