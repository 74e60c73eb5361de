"""Formats are told apart by the names of files, and a run reads all of them as it reads Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import InputError
from gneiss.input.formats import format_of
from gneiss.input.formats.parquet import Parquet
from gneiss.input.shard import cut_shards
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.support import recipe_of

RECIPE = """
- name: only
  dedup: {min_length: 40}
  annotate: [readability]
  rules: {readable: eflaw < 30}
"""


def converted(source: Path, target: Path) -> Path:
    """The same rows as an Arrow IPC file, a record batch a row group."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetFile(source) as file, pa.ipc.new_file(target, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group))
    return target


def curated(recipe: Recipe, source: Path, output: Path) -> dict[str, str]:
    gneiss.run(recipe, source, output, backend=runs.InThisProcess())
    return {name: hash_ for name, hash_ in runs.promised(output).items() if not name.startswith("annotations")}


def test_a_run_reads_another_format_as_it_reads_parquet(tmp_path: Path) -> None:
    recipe = recipe_of(RECIPE, budgets="{documents: 1}")
    for name in ("a", "deep/b"):
        path = runs.write_corpus(tmp_path / f"parquet/{name}.parquet", runs.documents(40, seed=len(name)))
        converted(path, tmp_path / f"arrow/{name}.arrow")
    as_parquet = curated(recipe, tmp_path / "parquet", tmp_path / "from-parquet")
    as_arrow = curated(recipe, tmp_path / "arrow", tmp_path / "from-arrow")
    assert {"data/a.parquet", "data/deep/b.parquet", "quarantine/a.parquet"} <= as_arrow.keys()
    assert as_arrow == as_parquet


def test_parts_of_another_format_are_shards(tmp_path: Path) -> None:
    path = runs.write_corpus(tmp_path / "a.parquet", runs.documents(40, seed=2), row_group_size=10)
    converted(path, tmp_path / "a.arrow")
    whole = pq.read_table(path, columns=["id"])["id"].to_pylist()
    with pq.ParquetFile(path) as file:
        sizes = [file.read_row_group(group, ["text"]).nbytes for group in range(file.num_row_groups)]
    assert 2 * min(sizes) > max(sizes) + 64
    shards = cut_shards(tmp_path / "a.arrow", text="text", shard_max_bytes=max(sizes) + 64).shards
    assert [shard.id for shard in shards] == ["a.b00000", "a.b00001", "a.b00002", "a.b00003"]
    assert [id_ for shard in shards for _, table in shard.tables(["id"]) for id_ in table["id"].to_pylist()] == whole
    assert shards[0].schema().equals(pq.read_schema(path))


def test_what_another_format_cannot_read_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "bad.arrow").write_bytes(b"no Arrow")
    runs.write_corpus(tmp_path / "good.parquet", runs.documents(30, seed=0))
    found = cut_shards(tmp_path, text="text")
    assert [shard.id for shard in found.shards] == ["good"]
    assert [(file.id, file.file.name) for file in found.unreadable] == [("bad", "bad.arrow")]
    converted(tmp_path / "good.parquet", tmp_path / "good.arrow")
    with pytest.raises(InputError, match="two files would write to the same shard 'good'"):
        cut_shards(tmp_path, text="text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").touch()
    with pytest.raises(InputError, match=r"expected files named .* or \*\.arrow .*, found none"):
        cut_shards(tmp_path / "empty", text="text")


def test_a_file_whose_name_does_not_say_is_parquet() -> None:
    assert [format_of(name) for name in ("a.parquet", "a.PQ", "a.parq", "a")] == [Parquet()] * 4


def test_names_end_in_capitals_or_not_and_what_is_passed_over_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.PARQUET", "b.pq", "c.Parquet", "d.txt.gz", "_SUCCESS", ".d.parquet.crc", "e.parquet.gzip"):
        runs.write_corpus(tmp_path / name, runs.documents(30, seed=0))
    assert [shard.id for shard in cut_shards(tmp_path, text="text").shards] == ["a", "b", "c"]
    assert "2 files are passed over, such as 'd.txt.gz'; expected files named *.parquet" in caplog.text
