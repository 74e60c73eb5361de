"""What dedup cut: the passages that repeat most, and where their first copies lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import Sources, sources
from gneiss.recipe.columns import ORIGIN
from gneiss.report.documents import open_documents
from gneiss.report.examples import excerpt
from gneiss.store.place import Address

#: The evidence of substring dedup in annotation shards: a list of cuts a document.
CUTS = "dedup_cuts"
#: What of each document it cut.
BYTES = "dedup_bytes"
#: How much of a passage is shown.
_CHARACTERS = 300
_TYPE = 'STRUCT(start BIGINT, "end" BIGINT, source_shard VARCHAR, source_row BIGINT, source_start BIGINT)'
_OF_PASSAGE = ("source_shard", "source_row", "source_start", "size_bytes")
_LOCATIONS = ("the same document", "another document of the shard", "another shard")


def passages(run: FinishedRun, most: int = 20, *, input: Address | None = None) -> pa.Table:
    """The passages of which most bytes were cut: where the first copy lies, and one of those that were cut.

    Columns: `source_shard`, `source_row`, `source_start` (a byte of the text as it entered the phase), `size_bytes`,
    how many `copies` were cut, `cut_bytes` of them all, `shard`, `row`, `start` of one, and `text`, the beginning of
    the passage: null without `input`, what was given to the run, and where an earlier phase edits texts. No rows
    without substring dedup. Raises InputError.
    """
    one = "shard, row, start"
    found = _of_cuts(
        run,
        f"SELECT {', '.join(_OF_PASSAGE)}, count(*) AS copies, (count(*) * size_bytes)::BIGINT AS cut_bytes,"
        f" unnest(min(struct_pack({', '.join(f'{name} := {name}' for name in one.split(', '))})))"
        f" FROM cuts GROUP BY {', '.join(_OF_PASSAGE)}"
        f" ORDER BY cut_bytes DESC, {', '.join(_OF_PASSAGE)} LIMIT {int(most)}",
    )
    texts = _texts(sources(run, input), found.to_pylist()) if input is not None and _enters_as_read(run) else {}
    return found.append_column("text", pa.array([texts.get(at) for at in range(found.num_rows)], pa.string()))


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


def _enters_as_read(run: FinishedRun) -> bool:
    """Whether no phase before substring dedup edits the texts of the input."""
    for phase in run.recipe.phases:
        if any(column.name == BYTES for step in phase.steps for column in step.columns):
            return True
        if phase.editors:
            return False
    return False


def _texts(of: Sources, found: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """The beginnings of passages, by their number, as far as their first copies can be read."""
    of_row: dict[tuple[str, int], list[int]] = {}
    for number, passage in enumerate(found):
        of_row.setdefault((passage["source_shard"], passage["source_row"]), []).append(number)
    rows: dict[str, list[int]] = {}
    for shard, row in of_row:
        rows.setdefault(shard, []).append(row)
    texts = {}
    for shard, row, text in of.values(of.run.text, rows):
        for number in of_row[shard, row]:
            start = found[number]["source_start"]
            texts[number] = excerpt(text, start, start + found[number]["size_bytes"], characters=_CHARACTERS)
    return texts


def _of_cuts(run: FinishedRun, query: str) -> pa.Table:
    """The result of a query over all cuts."""
    with open_documents(run) as connection:
        known = run.annotation_schema().names
        cuts = CUTS if CUTS in known else f"NULL::{_TYPE}[]"
        shard, row = ORIGIN if ORIGIN[0] in known else ("shard", "row")
        return connection.sql(
            'WITH cuts AS (SELECT shard, row, start, "end" - start AS size_bytes,'
            f" coalesce(source_shard, shard) AS source_shard, source_row, source_start FROM"
            f" (SELECT {shard} AS shard, {row} AS row, unnest({cuts}, recursive := true) FROM documents)"
            f" WHERE source_row IS NOT NULL) {query}"  # not of another output
        ).to_arrow_table()
