"""An output as a DuckDB view: the rows that `FinishedRun.annotations` gives, from any store, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.report import open_documents
from gneiss.store.place import Place
from tests.store.memory import MemoryStore

Copy = Callable[[Path], Path]


def in_memory(output: Path) -> Place:
    """A copy of an output in another store."""
    store = MemoryStore()
    for path in output.rglob("*"):
        if path.is_file():
            store.content[f"run/{path.relative_to(output).as_posix()}"] = path.read_bytes(), 1
    return Place(store, "run")


def rows(run: FinishedRun, layers: tuple[str, ...] = ()) -> pa.Table:
    with open_documents(run, layers) as connection:
        return connection.sql("SELECT * FROM documents").to_arrow_table()


def test_the_view_is_all_annotations_in_order(released: Path) -> None:
    run = open_run(released)
    expected = run.annotations(["weights"])
    found = rows(run, ("weights",))
    assert found.num_rows == 180
    assert sorted(found.column_names) == sorted(expected.column_names)
    for name in found.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_an_output_in_another_store_is_the_same(released: Path) -> None:
    here, there = open_run(released), open_run(in_memory(released))
    assert rows(there, ("weights",)).equals(rows(here, ("weights",)))


def test_a_column_of_a_layer_whose_name_is_taken_has_the_layer_before_it(released: Path, copy_of: Copy) -> None:
    output = copy_of(released)
    for file in (output / "annotations/weights").rglob("*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.append_column("prose", table["log_prior"]), file)
    with open_documents(open_run(output), ["weights"]) as connection:
        query = 'SELECT count(*) FILTER ("weights.prose" = log_prior), count(prose), count(log_prior) FROM documents'
        same, scored, weighted = connection.execute(query).fetchall()[0]
    assert same == weighted == 132 < scored


@pytest.mark.parametrize("column", ["row", "id"])
def test_a_layer_of_other_rows_is_refused(released: Path, copy_of: Copy, column: str) -> None:
    output = copy_of(released)
    file = output / "annotations/weights/a.parquet"
    table = pq.read_table(file)
    values = table[column].to_pylist()
    values[3] = values[4]
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(column).type)), file)
    with pytest.raises(InputError, match=r"weights/a\.parquet: its rows are not those of annotations/base"):
        rows(open_run(output), ("weights",))


def test_a_query_reaches_nothing_else(curated: Path) -> None:
    with open_documents(open_run(curated)) as connection:
        for query in ("SELECT * FROM read_text('/etc/passwd')", "COPY (SELECT 1) TO 'x.csv'", "SET threads = 4"):
            with pytest.raises(duckdb.Error):
                connection.execute(query)


@pytest.mark.parametrize(("content", "reason"), [(None, "FileNotFoundError"), (b"PAR1", "base/a.parquet")])
def test_a_file_that_goes_bad_meanwhile_is_refused(
    curated: Path, copy_of: Copy, content: bytes | None, reason: str
) -> None:
    output = copy_of(curated)

    def read(run: FinishedRun) -> None:
        with open_documents(run) as connection:
            (output / "annotations/base/a.parquet").unlink()
            if content is not None:
                (output / "annotations/base/a.parquet").write_bytes(content)
            connection.execute("SELECT sum(prose) FROM documents").fetchall()

    with pytest.raises(InputError, match=f"cannot read its annotations: .*{reason}"):
        read(open_run(output))


def test_an_error_of_a_query_is_the_callers(curated: Path) -> None:
    with pytest.raises(duckdb.BinderException, match="pros"), open_documents(open_run(curated)) as connection:
        connection.execute("SELECT pros FROM documents")


def test_a_layer_can_have_any_name(released: Path, copy_of: Copy) -> None:
    output, odd = copy_of(released), 'it\'s "odd" *[1]'
    (output / "annotations/weights").rename(output / f"annotations/{odd}")
    (output / "_gneiss/layers/weights.json").rename(output / f"_gneiss/layers/{odd}.json")
    with open_documents(open_run(output), [odd]) as connection:
        assert connection.execute("SELECT count(log_prior) FROM documents").fetchall() == [(132,)]
