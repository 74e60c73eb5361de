"""Shards whose documents all end where they did: decided from what a run stored of them, and no text is read."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from gneiss.annotation import arrow_type
from gneiss.arrays import Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.curate import Curated, described, first_input
from gneiss.curate.phase import PhaseInput, PhaseOutput, ShardRows, decide_phase
from gneiss.curate.phase_result import PhaseResult
from gneiss.curate.reading import Documents
from gneiss.curate.statistics import QUARANTINED
from gneiss.edit import Edits
from gneiss.input.shard import Shard
from gneiss.output.layout import BASE_LAYER, statistics_path
from gneiss.recipe.columns import BASE_COLUMNS
from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe
from gneiss.stages.stored import StoredShard

if TYPE_CHECKING:
    import duckdb


def curated_unread(
    stored: StoredShard, shard: Shard, recipe: Recipe, connection: duckdb.DuckDBPyConnection
) -> Curated | None:
    """What `curate` makes of a shard, with empty texts; None where it has to read them. recipe: with all numbers.

    That is where other documents are kept, where one has another text than it had, or reaches a phase that it did not
    reach, and where the beginning of a text is to be shown that the run did not show.
    """
    if not stored.run.needs_no_text or stored.receipt.counts[QUARANTINED]:
        return None
    told = _told(stored)
    if told is None:
        return None
    documents = len(stored.last)
    texts = TextBatch(np.empty(0, np.uint8), np.zeros(documents + 1, np.int64))
    ids = pa.chunked_array([stored.columns[BASE_LAYER, "id"]])
    size_bytes = told["statistics"]["counts"]["input_text_bytes"]
    read = Documents(documents, {"id": ids}, texts, np.arange(documents), {}, size_bytes)
    entering = first_input(ShardRows.of([shard.id], [documents]), read, stored)
    outputs: list[PhaseOutput] = []
    last = np.zeros(documents, np.int64)
    for index, phase in enumerate(recipe.phases):
        if (stored.last[entering.rows] < index).any():
            return None
        last[entering.rows] = index
        outputs.append(decide_phase(phase, connection, entering, _result(stored, phase, index, entering.rows)))
        entering = outputs[-1].staying
    edits = np.array(list(accumulate(len(phase.steps) + len(phase.editors) for phase in recipe.phases)))
    if stored.documents(entering.rows) is None or (edits[last] != edits[stored.last]).any():
        return None
    examples = [example for of_rule in told["samples"].values() for example in of_rule]
    shown: dict[int, str] = {example["row"]: example["excerpt"] for example in examples}
    not_shown: list[int] = []

    def hashes_of(entered: PhaseInput, positions: Int64Array) -> list[bytes]:
        of_rows: list[bytes] = stored.columns[BASE_LAYER, "content_hash"].take(entered.rows[positions]).to_pylist()
        return of_rows

    def excerpt_of(row: int) -> str:
        if row not in shown:
            not_shown.append(row)
        return shown.get(row, "")

    (curated,) = described([(shard, read)], read, recipe, outputs, hashes_of, excerpt_of)
    return None if not_shown else curated


def _told(stored: StoredShard) -> dict[str, Any] | None:
    """The statistics and examples of the shard, if they are as the run wrote them."""
    path = statistics_path(stored.receipt.task)
    written = next((file for file in stored.receipt.files if file.path == path), None)
    try:
        content = (stored.run.folder / path).read()
    except OSError:
        return None
    if written is None or xxhash.xxh3_128_hexdigest(content) != written.checksum:
        return None
    told: dict[str, Any] = json.loads(content)
    return told


def _result(stored: StoredShard, phase: Phase, index: int, rows: Int64Array) -> PhaseResult:
    """What the run computed in a phase for the documents in some rows, without their texts."""
    at = pa.array(rows)
    taken = (taken for taken in stored.run.reuse[index].annotators if taken)
    places = {name: place for of_annotator in taken for name, place in of_annotator.columns.items()}
    annotations = {
        column.name: stored.columns[places.get(column.name, (BASE_LAYER, column.name))]
        .take(at)
        .cast(arrow_type(column.type))
        for column in (*BASE_COLUMNS, *phase.columns)
    }
    # a list's items have another name in Parquet
    evidence = {
        field.name: stored.columns[BASE_LAYER, field.name].take(at).cast(field.type) for field in phase.evidence
    }
    texts = TextBatch(np.empty(0, np.uint8), np.zeros(len(rows) + 1, np.int64))
    return PhaseResult(Edits.none(), annotations, {}, evidence, texts)
