"""A finished run is the value that the driver returns and that its output gives again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError, RecipeError
from gneiss.loader.reader import documents
from gneiss.output.finished_run import FinishedRun, open_run

Copy = Callable[[Path], Path]


def test_the_output_gives_what_the_driver_returned(uninterrupted: FinishedRun) -> None:
    again = open_run(uninterrupted.folder)
    assert again == uninterrupted
    assert (again.shards, again.digest) == (uninterrupted.shards, uninterrupted.digest)
    assert again.recipe == uninterrupted.recipe
    assert again.counts["kept"] == again.documents == 132


def test_kept_rows_are_those_of_the_data_shard(uninterrupted: FinishedRun) -> None:
    for shard in uninterrupted.shards:
        annotated = pq.read_table(uninterrupted.annotation_file(shard), columns=["row", "status"]).to_pylist()
        kept = [row["row"] for row in annotated if row["status"] == "kept"]
        assert uninterrupted.kept_rows(shard).tolist() == kept
        assert pq.read_metadata(uninterrupted.data_file(shard)).num_rows == len(kept) == shard.kept


def test_columns_come_shard_by_shard_with_the_index_of_the_first_document(released: Path) -> None:
    run = open_run(released)
    for shard in run.shards:
        ((first, table),) = run.batches(shard, ["log_prior"], ["weights"])
        assert table.column_names == ["row", "id", "status", "log_prior"]
        assert (first, table.num_rows) == (shard.first_document, shard.rows)
        assert run.columns(shard, ["weights"])["log_prior"] == ("weights", "log_prior")
        with pytest.raises(InputError, match=r"no annotation 'log_pior'; did you mean 'log_prior'"):
            next(run.batches(shard, ["log_pior"], ["weights"]))


def test_an_output_is_read_where_a_filter_of_its_recipe_is_not_installed(released: Path, copy_of: Copy) -> None:
    output = copy_of(released)
    path = output / "_gneiss/recipe.yaml"
    text = path.read_text()
    assert "annotate:" in text
    path.write_text(text.replace("annotate:", "annotate:\n  - not_installed.filters:TheirFilter: {}", 1))
    run = open_run(output)
    assert run.annotations(["weights"], ["log_prior"], kept=True).num_rows == 132
    assert sum(1 for _ in documents(output)) == 132
    with pytest.raises(RecipeError, match="no module 'not_installed'"):
        _ = run.recipe


def test_an_unfinished_output_is_refused(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run here"):
        open_run(tmp_path / "nowhere")
    output = copy_of(curated)
    (output / "annotations/base/a.parquet").unlink()
    with pytest.raises(InputError, match=r"the run is not finished: _gneiss/statistics.json counts 180 rows"):
        open_run(output)
