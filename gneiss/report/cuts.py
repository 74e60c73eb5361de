"""What dedup cut: the passages that repeat most, and where their first copies lie."""

from __future__ import annotations

import pyarrow as pa

from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.columns import ORIGIN
from gneiss.report.documents import open_documents

#: The evidence of substring dedup in annotation shards: a list of cuts a document.
CUTS = "dedup_cuts"
_TYPE = 'STRUCT(start BIGINT, "end" BIGINT, source_shard VARCHAR, source_row BIGINT, source_start BIGINT)'
_OF_PASSAGE = ("source_shard", "source_row", "source_start", "size_bytes")
_LOCATIONS = ("the same document", "another document of the shard", "another shard")


def passages(run: FinishedRun, most: int = 20) -> pa.Table:
    """The passages of which most bytes were cut: where the first copy lies, and one of those that were cut.

    Columns: `source_shard`, `source_row`, `source_start` (a byte of the text as it entered the phase), `size_bytes`,
    how many `copies` were cut, `cut_bytes` of them all, and `shard`, `row`, `start` of one. No rows without substring
    dedup. Raises InputError.
    """
    one = "shard, row, start"
    return _of_cuts(
        run,
        f"SELECT {', '.join(_OF_PASSAGE)}, count(*) AS copies, (count(*) * size_bytes)::BIGINT AS cut_bytes,"
        f" unnest(min(struct_pack({', '.join(f'{name} := {name}' for name in one.split(', '))})))"
        f" FROM cuts GROUP BY {', '.join(_OF_PASSAGE)}"
        f" ORDER BY cut_bytes DESC, {', '.join(_OF_PASSAGE)} LIMIT {int(most)}",
    )


def first_copies(run: FinishedRun) -> pa.Table:
    """Where the first copies of what was cut lie: `place`, and the `cuts` and `cut_bytes` whose first copy is there.

    No rows without substring dedup. Raises InputError.
    """
    same, here, _ = range(3)
    names = "".join(f" WHEN {number} THEN '{name}'" for number, name in enumerate(_LOCATIONS))
    return _of_cuts(
        run,
        f"SELECT CASE number{names} END AS place, count(*) AS cuts, sum(size_bytes)::BIGINT AS cut_bytes FROM"
        f" (SELECT CASE WHEN source_shard <> shard THEN 2 WHEN source_row <> row THEN {here} ELSE {same} END AS number,"
        " size_bytes FROM cuts) GROUP BY number ORDER BY number",
    )


def _of_cuts(run: FinishedRun, query: str) -> pa.Table:
    """The result of a query over all cuts."""
    with open_documents(run) as connection:
        known = run.annotation_schema().names
        cuts = CUTS if CUTS in known else f"NULL::{_TYPE}[]"
        shard, row = ORIGIN if ORIGIN[0] in known else ("shard", "row")
        return connection.sql(
            'WITH cuts AS (SELECT shard, row, start, "end" - start AS size_bytes,'
            f" coalesce(source_shard, shard) AS source_shard, source_row, source_start FROM"
            f" (SELECT {shard} AS shard, {row} AS row, unnest({cuts}, recursive := true) FROM documents)) {query}"
        ).to_arrow_table()
