"""Layers: the rows of `base`, joined by row and checked by id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.layers.weights import write_weights
from gneiss.output import annotation_tables
from gneiss.output.finished_run import open_run

Copy = Callable[[Path], Path]


def test_a_join_has_every_row_once(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_run(released).annotations(["weights"], ["prose", "log_prior"])
    assert table.column_names == ["shard", "row", "id", "status", "prose", "log_prior"]
    query = f"SELECT count(*) FROM '{released}/annotations/base/**/*.parquet'"
    assert table.num_rows == duckdb.sql(query).fetchall()[0][0] == 180
    kept = open_run(released).annotations(["weights"], kept=True)
    assert kept["document"].to_pylist() == list(range(kept.num_rows))
    assert kept["log_prior"].null_count == 0
    monkeypatch.setattr(annotation_tables, "BATCH_ROWS", 11)
    assert open_run(released).annotations(["weights"], ["prose", "log_prior"]).equals(table)


def test_a_name_that_is_taken_is_prefixed_by_its_layer(released: Path, copy_of: Copy) -> None:
    output = copy_of(released)
    write_weights(output, layer="flat", alpha=0.0)
    table = open_run(output).annotations(["weights", "flat"], ["log_prior", "flat.log_prior"], kept=True)
    assert set(table["flat.log_prior"].to_pylist()) == {0.0}
    assert len(pc.unique(table["log_prior"])) > 1


def test_a_layer_of_other_rows_is_refused_and_named(released: Path, copy_of: Copy) -> None:
    output = copy_of(released)
    path = output / "annotations/weights/a.parquet"
    whole = pq.read_table(path)
    ids = pa.array(["someone else", *whole["id"].to_pylist()[1:]])
    damaged = {
        "its id column": whole.set_column(1, whole.schema.field("id"), ids),
        "its row column": whole.take(pa.array([1, 0, *range(2, whole.num_rows)])),
        "expected 60 rows": whole.slice(1),
    }
    for message, table in damaged.items():
        pq.write_table(table, path)
        with pytest.raises(InputError, match=rf"weights/a\.parquet: {message}"):
            open_run(output).annotations(["weights"])
    path.unlink()
    with pytest.raises(InputError, match=r"weights/a\.parquet: cannot read"):
        open_run(output).annotations(["weights"])


def test_unknown_layers_and_columns_are_refused(released: Path) -> None:
    with pytest.raises(InputError, match="no whole layer 'wights'; did you mean 'weights'"):
        open_run(released).annotations(["wights"])
    with pytest.raises(InputError, match="no annotation 'log_pior'; did you mean 'log_prior'"):
        open_run(released).annotations(["weights"], ["log_pior"])


def test_the_layer_of_a_run_that_has_changed_is_refused(released: Path, copy_of: Copy) -> None:
    output = copy_of(released)
    run_file = output / "_gneiss/run.json"
    run_file.write_text(run_file.read_text().replace('"run_key": "', '"run_key": "0'))
    with pytest.raises(InputError, match="the run has changed"):
        open_run(output).annotations(["weights"])
