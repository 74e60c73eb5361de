"""The join of a published table with documents, in DuckDB: neither must fit into memory.

First the rows of the table whose keys documents have are stored, so that whatever is sorted later is no larger than a
layer; then they are put in the order of documents. What DuckDB cannot hold in its memory lies in a temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from gneiss.errors import DefectError, InputError, MachineError, first_line
from gneiss.layers.document_columns import DocumentColumns
from gneiss.layers.published_table import PublishedTable
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.layers import Compute
from gneiss.output.rows import Rows

if TYPE_CHECKING:
    import duckdb

#: What to do with rows of a table that have the same key.
Repeats: TypeAlias = Literal["refuse", "first"]
REPEATS: tuple[Repeats, ...] = ("refuse", "first")
_BATCH_ROWS = 50_000


@contextmanager
def open_database(memory_limit_mb: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that keeps in a temporary folder what does not fit into its memory."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="gneiss-") as folder, closing(duckdb.connect(":memory:")) as database:
        for setting, value in (
            ("memory_limit", f"{memory_limit_mb}MB"),
            ("temp_directory", folder),
            ("preserve_insertion_order", "false"),
            ("disabled_optimizers", "build_side_probe_side"),  # the table, of unknown size, is read past the documents
            ("enable_external_access", "false"),
            ("lock_configuration", "true"),
        ):
            database.execute(f"SET {setting} = '{value}'")
        try:
            yield database
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise MachineError(
                f"the join needs more memory or disk: {first_line(error)}; TMPDIR names the folder that it uses beyond"
                f" {memory_limit_mb} MB"
            ) from error


def store_documents(
    database: duckdb.DuckDBPyConnection, run: FinishedRun, documents: DocumentColumns, table: PublishedTable
) -> dict[str, int]:
    """Store shard, row and keys of every document."""
    counts = {"documents": 0, "documents_without_key": 0}
    schema = pa.schema([("shard", pa.int32()), ("row", pa.int64()), *_key_fields(table)])

    def batches() -> Iterator[pa.RecordBatch]:
        for number, shard in enumerate(run.shards):
            for rows, columns in documents.batches(shard):
                keys = [key.of_documents(columns[key.in_documents]) for key in table.keys]
                counts["documents"] += rows.num_rows
                counts["documents_without_key"] += _without_key(keys)
                shards = pa.repeat(pa.scalar(number, pa.int32()), rows.num_rows)
                yield pa.record_batch([shards, rows["row"].combine_chunks(), *keys], schema=schema)

    _store(database, "CREATE TABLE documents AS FROM batches", schema, batches())
    return counts


def store_matches(database: duckdb.DuckDBPyConnection, table: PublishedTable) -> dict[str, int]:
    """Store keys, number and values of the rows of the table whose keys documents have."""
    counts = {"rows": 0, "rows_without_key": 0}
    values = [pa.field(f"v{at}", column.type) for at, column in enumerate(table.taken)]
    schema = pa.schema([("number", pa.int64()), *_key_fields(table), *values])

    def batches() -> Iterator[pa.RecordBatch]:
        for keys, columns in table.rows():
            first, size = counts["rows"], len(keys[0])
            counts["rows"] += size
            counts["rows_without_key"] += _without_key(keys)
            yield pa.record_batch([pa.array(np.arange(first, first + size)), *keys, *columns], schema=schema)

    sql = f"CREATE TABLE matches AS FROM batches SEMI JOIN documents USING ({_keys(table)})"
    _store(database, sql, schema, batches())
    counts["rows_matched"] = _number(database, "SELECT count(*) FROM matches")
    matched = f"SELECT count(*) FROM documents SEMI JOIN matches USING ({_keys(table)})"
    counts["documents_matched"] = _number(database, matched)
    return counts


def leave_one(database: duckdb.DuckDBPyConnection, table: PublishedTable, repeats: Repeats) -> dict[str, int]:
    """Leave one row a key. Raises InputError where there are more and repeats are refused."""
    groups = f"SELECT {_keys(table)}, count(*) AS rows FROM matches GROUP BY ALL HAVING rows > 1"
    repeated = _number(database, f"SELECT coalesce(sum(rows - 1), 0)::BIGINT FROM ({groups})")
    if repeated and repeats == "refuse":
        *keys, rows = database.execute(f"{groups} ORDER BY ALL LIMIT 1").fetchall()[0]
        shown = ", ".join(
            f"{key} {value.decode('utf-8', 'replace')!r}" for key, value in zip(table.keys, keys, strict=True)
        )
        raise InputError(
            f"{table.address}: {rows:,} rows have {shown}, and {repeated:,} rows in all repeat a key of documents; join"
            " on further columns, or take the first row of each: repeats='first'"
        )
    if repeated:
        firsts = f"SELECT min(number) FROM matches GROUP BY {_keys(table)}"
        database.execute(f"DELETE FROM matches WHERE number NOT IN ({firsts})")
    return {"rows_repeated": repeated}


def in_order(database: duckdb.DuckDBPyConnection, table: PublishedTable, shards: Sequence[int]) -> Compute:
    """What gives the values of the documents of some shards, by number, in their order."""
    values = "".join(f", v{at}" for at in range(len(table.taken)))
    found = database.sql(
        f"SELECT shard, row{values} FROM documents LEFT JOIN matches USING ({_keys(table)})"
        " WHERE list_contains(?, shard) ORDER BY shard, row",
        params=[list(shards)],
    )
    rows = Rows(pa.Table.from_batches([batch]) for batch in found.to_arrow_reader(_BATCH_ROWS))

    def compute(shard: FinishedShard, _: int, portion: pa.Table) -> Mapping[str, pa.Array]:
        joined = rows.take(portion.num_rows)
        if not joined["row"].equals(portion["row"]):
            raise DefectError(f"shard {shard.id}: rows were joined in another order; please report this defect")
        return {column.name: joined[f"v{at}"].cast(column.type) for at, column in enumerate(table.taken)}

    return compute


def _store(database: duckdb.DuckDBPyConnection, sql: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """Execute SQL over `batches`; what making them raises is raised as it is, not as an error of DuckDB."""
    import duckdb

    raised: list[BaseException] = []

    def noting() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except BaseException as error:
            raised.append(error)
            raise

    database.register("batches", pa.RecordBatchReader.from_batches(schema, noting()))
    try:
        database.execute(sql)
    except duckdb.Error:
        if raised:
            raise raised[0] from None
        raise
    finally:
        database.unregister("batches")


def _number(database: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(database.execute(sql).fetchall()[0][0])


def _key_fields(table: PublishedTable) -> list[pa.Field]:
    return [pa.field(f"k{at}", pa.large_binary()) for at in range(len(table.keys))]


def _keys(table: PublishedTable) -> str:
    return ", ".join(field.name for field in _key_fields(table))


def _without_key(keys: Sequence[pa.Array]) -> int:
    """How many rows lack a part of their key."""
    return int(np.logical_or.reduce([key.is_null().to_numpy(zero_copy_only=False) for key in keys]).sum())
