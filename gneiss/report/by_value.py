"""Documents, bytes and tokens, all and kept, by the values of anything: a category, a language, a domain, a shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Int64Array
from gneiss.curate.statistics import KEPT
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.sources import Sources, sources
from gneiss.recipe.expression import quoted
from gneiss.report.counting import sums, token_column
from gneiss.report.documents import open_documents
from gneiss.store.place import Address

#: What stands for all values that have no row of their own.
OTHER = "(other)"
#: By the host of the documents' URLs.
DOMAIN = "domain"
_SUMS = ("documents", "bytes", "tokens", "documents_kept", "bytes_kept", "tokens_kept")
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?:www\.)?(?P<host>[^/?#:]+)"


def breakdown(
    run: FinishedRun, by: str, *, layers: Sequence[str] = (), input: Address | None = None, most: int = 20
) -> pa.Table:
    """Documents, bytes and tokens by the values of a column, all and kept: `value` and six sums; most documents first.

    Parameters: `by`: `shard`, an annotation, a column of `layers`, a column of the input, or `domain`, the host of the
    URL; `input`: what was given to the run, which has the columns of dropped documents too (without it, columns that
    are no annotations are read from `data/`, of kept documents only); `most`: values with a row of their own; all
    others are one row, `(other)`. Missing values have the value null. Raises InputError.
    """
    of_all, of_kept = sums(run.recipe), sums(run.recipe, f"status = '{KEPT}'", "_kept")
    counted = f"SELECT value, {of_all}, {of_kept}"
    with open_documents(run, layers) as connection:
        if by in connection.sql("SELECT * FROM documents LIMIT 0").columns:
            rows = f"(SELECT {quoted(by)}::VARCHAR AS value, * FROM documents)"
            connection.execute(f"CREATE TEMP TABLE found AS {counted} FROM {rows} GROUP BY value")
        else:
            for at, table in enumerate(_joined(sources(run, input), by, _read(run))):
                connection.register("joined", table)
                into = "CREATE TEMP TABLE found AS" if not at else "INSERT INTO found"
                connection.execute(f"{into} {counted} FROM joined GROUP BY value")
        return connection.sql(
            f"WITH summed AS (SELECT value, {_added()} FROM found GROUP BY value),"
            " placed AS (SELECT *, row_number() OVER (ORDER BY documents DESC, value) AS place FROM summed)"
            f" SELECT if(place <= {most}, value, '{OTHER}') AS value, {_added()} FROM placed"
            f" GROUP BY least(place, {most + 1}), 1 ORDER BY min(place)"
        ).to_arrow_table()


def _added() -> str:
    return ", ".join(f"sum({name})::BIGINT AS {name}" for name in _SUMS)


def _read(run: FinishedRun) -> list[str]:
    """The annotations that sums need."""
    tokens = token_column(run.recipe)
    return ["text_bytes", *([tokens] if tokens else [])]


def _joined(of: Sources, by: str, reads: Sequence[str]) -> Iterator[pa.Table]:
    """The values of a column that is no annotation beside annotations, some rows at a time."""
    for shard in of.run.shards:
        annotations = pa.concat_tables(table for _, table in of.run.batches(shard, reads))
        for rows, values in _values(of, shard, by):
            yield annotations.take(pa.array(rows)).append_column("value", values)


def values_of_rows(of: Sources, by: str) -> pa.ChunkedArray:
    """The value of a column that is no annotation, or the domain, in every row of a run; null where it is not known.

    Raises InputError.
    """
    found = []
    for shard in of.run.shards:
        places = np.full(shard.rows, -1, np.int64)
        read: list[pa.ChunkedArray] = []
        first = 0
        for rows, values in _values(of, shard, by):
            places[rows] = np.arange(first, first + len(rows))
            read.append(values)
            first += len(rows)
        known = pa.chunked_array([chunk for of_table in read for chunk in of_table.chunks], pa.string())
        found += known.take(pa.array(places, mask=places < 0)).chunks
    return pa.chunked_array(found, pa.string())


def _values(of: Sources, shard: FinishedShard, by: str) -> Iterator[tuple[Int64Array, pa.ChunkedArray]]:
    """Rows of a shard, and the values of a column of theirs as strings."""
    column = of.run.recipe.input.url if by == DOMAIN else by
    for rows, table in of.tables(shard, [column]):
        values = table[column]
        if by == DOMAIN:
            values = pc.utf8_lower(pc.struct_field(pc.extract_regex(values, _HOST), "host"))
        yield rows, values.cast(pa.string())
