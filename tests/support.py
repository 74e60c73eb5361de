"""What many tests of the core need: shards of given documents, and recipes without models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.input.shard import Shard, cut_shards
from gneiss.recipe.recipe import Recipe


def write_documents(path: Path, texts: Sequence[str | None], **columns: Any) -> Path:
    """A Parquet file with the columns id and text, and whatever is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = columns.pop("id", [f"doc-{i}" for i in range(len(texts))])
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string()), **columns}), path, row_group_size=10)
    return path


def shard_of(path: Path, texts: Sequence[str | None], **columns: Any) -> Shard:
    """The one shard of a file of given documents."""
    (shard,) = cut_shards(write_documents(path, texts, **columns), text="text").shards
    return shard


def recipe_of(phases: str, **settings: Any) -> Recipe:
    """A recipe named `test` with the given phases (YAML, not indented)."""
    head = "".join(f"{key}: {value}\n" for key, value in settings.items())
    return Recipe.parse(f"name: test\n{head}phases:\n{phases}")


def with_columns(output: Path, columns: Mapping[str, Callable[[int], Any]], types: Mapping[str, pa.DataType]) -> None:
    """Add columns to the annotation shards of a run: column → value of the n-th row of the run."""
    first = 0
    for path in sorted((output / "annotations/base").rglob("*.parquet")):
        table = pq.read_table(path)
        for name, value in columns.items():
            table = table.append_column(name, pa.array([value(first + i) for i in range(table.num_rows)], types[name]))
        pq.write_table(table, path)
        first += table.num_rows
