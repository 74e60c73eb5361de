"""Curate: the one path of a shard through a recipe, in memory. Dry run, local run and cluster run all call it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.examples import EXCERPT_CHARS, Samples, take_examples
from gneiss.curate.loaded_models import LoadedModels
from gneiss.curate.phase import CorpusResults, PhaseInput, PhaseOutput, compute_phase, decide_phase
from gneiss.curate.reading import Documents, read_documents
from gneiss.curate.spans import OWN_SHARD, ShardSpans
from gneiss.curate.statistics import Statistics, measure_column
from gneiss.input.shard import Shard
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import ARROW_TYPES, NOT_TRUE, TRUE, UNKNOWN

NOTHING_FOUND = CorpusResults()
KEPT, DROPPED, QUARANTINED = "kept", "dropped", "quarantined"
PIECE = pa.struct(
    [
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field("source_shard", pa.string()),  # null: this shard
        pa.field("source_row", pa.int64()),
        pa.field("source_start", pa.int64()),
    ]
)


@dataclass(frozen=True, eq=False)
class Curated:
    """A shard, decided.

    annotations: every row, in order; kept: rows (kept,); texts: their final texts; edited: bool (kept,), where the
    text is no longer the input's; unusable: row → reason of quarantine.
    """

    shard: Shard
    annotations: pa.Table
    kept: Int64Array
    texts: TextBatch
    edited: BoolArray
    unusable: dict[int, str]
    statistics: Statistics
    samples: Samples


def curate(
    shard: Shard, recipe: Recipe, tools: LoadedModels, limit: int | None = None, found: CorpusResults = NOTHING_FOUND
) -> Curated:
    """Take a shard (or its first `limit` rows) through all phases; the answer depends on the arguments alone.

    found: what corpus-wide steps found of it; without that they see this shard alone.
    Raises InputError when the shard cannot be read, RecipeError when a rule fails on a value.
    """
    documents = read_documents(shard, recipe.input.text, recipe.inputs, limit)
    entering = first_input(shard.id, documents)
    decided: list[PhaseOutput] = []
    for phase, phase_tools in zip(recipe.phases, tools.phases, strict=True):
        computed = found.computed.get(phase.name) or compute_phase(phase, phase_tools, entering, found)
        decided.append(decide_phase(phase, tools.connection, entering, computed))
        entering = decided[-1].staying
    unusable = dict(
        sorted({**documents.unusable, **{r: why for d in decided for r, why in d.failures.items()}}.items())
    )
    spans = next((d.spans for d in decided if d.spans is not None), None)
    annotations = _annotation_table(recipe, documents, decided, spans, unusable, shard.id)
    statistics = _measure(recipe, documents, decided, spans, entering, annotations)
    samples = take_examples(annotations, recipe, shard.id, lambda row: _excerpt(decided, row))
    return Curated(shard, annotations, entering.rows, entering.batch, entering.edited, unusable, statistics, samples)


def first_input(shard_id: str, documents: Documents) -> PhaseInput:
    """The usable documents of a shard, as they reach the first phase."""
    rows = pa.array(documents.batch_rows)
    inputs = {name: column.combine_chunks().take(rows) for name, column in documents.inputs.items()}
    edited = np.zeros(len(documents.batch), np.bool_)
    return PhaseInput(shard_id, documents.batch_rows, inputs, documents.batch, edited, {})


def _excerpt(decided: list[PhaseOutput], row: int) -> str:
    """The beginning of a row's text as the last phase that it reached saw it."""
    documents = next(d.documents for d in reversed(decided) if row in d.documents.rows)
    position = int(np.searchsorted(documents.rows, row))
    start, stop = documents.batch.offsets[position : position + 2]
    return (
        documents.batch.data[start : min(stop, start + 4 * EXCERPT_CHARS)]
        .tobytes()
        .decode(errors="ignore")[:EXCERPT_CHARS]
    )


def _annotation_table(
    recipe: Recipe,
    documents: Documents,
    decided: list[PhaseOutput],
    spans: ShardSpans | None,
    unusable: dict[int, str],
    shard_id: str,
) -> pa.Table:
    """One row per input row, in order: identity, status, why, and all annotations."""
    n = documents.rows
    quarantined = np.zeros(n, np.bool_)
    quarantined[list(unusable)] = True
    dropped_in: list[str | None] = [None] * n
    hashes: list[bytes | None] = [None] * n
    rules = [rule for phase in recipe.phases for rule in phase.rules]
    failed, decisive = np.zeros((n, len(rules)), np.bool_), np.zeros((n, len(rules)), np.bool_)
    columns = {column.name: pa.nulls(n, ARROW_TYPES[column.type]) for column in recipe.columns}
    first = 0
    for phase, d in zip(recipe.phases, decided, strict=True):
        entered = d.documents
        at = slice(first, first := first + len(phase.rules))
        failed[entered.rows, at] = d.verdicts.truth != TRUE
        decisive[entered.rows, at] = d.verdicts.decisive
        for position in np.flatnonzero(~d.verdicts.keep):
            dropped_in[entered.rows[position]] = phase.name
        for row, digest in zip(entered.rows.tolist(), _content_hashes(entered.batch), strict=True):
            hashes[row] = digest
        mask = np.zeros(n, np.bool_)
        mask[entered.rows] = True
        for name, values in entered.annotations.items():
            columns[name] = pc.replace_with_mask(columns[name], pa.array(mask), values)
    for row in unusable:  # what an earlier phase computed or decided does not stand for a quarantined document
        failed[row] = decisive[row] = False
        hashes[row] = None
    if unusable:
        columns = {name: pc.if_else(pa.array(quarantined), None, column) for name, column in columns.items()}
    dropped = np.array([phase is not None for phase in dropped_in], np.bool_)
    status = np.where(quarantined, QUARANTINED, np.where(dropped, DROPPED, KEPT))
    table = {
        "row": pa.array(np.arange(n)),
        "id": documents.ids,
        "status": pa.array(status.tolist(), pa.string()),
        "reason": pa.array([unusable.get(row) for row in range(n)], pa.string()),
        "dropped_in": pa.array(dropped_in, pa.string()),
        "failed": _names_where(rules, failed),
        "decisive": _names_where(rules, decisive),
        "content_hash": pa.array(hashes, pa.binary(16)),
        **columns,
    }
    if spans is not None:
        # null where the phase that cuts was not reached, as its other annotations are
        table["dedup_pieces"] = pc.if_else(pc.is_null(columns["dedup_bytes"]), None, _piece_lists(spans, n, shard_id))
    return pa.table(table)


def _content_hashes(batch: TextBatch) -> list[bytes]:
    data = batch.data.data
    bounds = batch.offsets.tolist()
    return [xxhash.xxh3_128_digest(data[bounds[i] : bounds[i + 1]]) for i in range(len(batch))]


def _names_where(names: list[str], flags: BoolArray) -> pa.ListArray:
    """For each row of `flags` (rows, names) the list of names whose flag is set."""
    offsets = np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int32)
    chosen = pa.array(names, pa.string()).take(pa.array(np.nonzero(flags)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), chosen)


def _piece_lists(spans: ShardSpans, rows: int, shard_id: str) -> pa.ListArray:
    """The pieces as one list per row; pieces are in row order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(spans.row, minlength=rows))]).astype(np.int32)
    others = pa.array([None if id_ == shard_id else id_ for id_ in spans.shard_ids], pa.string())
    source_shard = others.take(pa.array(spans.source_shard, mask=spans.source_shard == OWN_SHARD))
    numbers = (pa.array(values) for values in (spans.start, spans.end, spans.source_row, spans.source_start))
    start, end, source_row, source_start = numbers
    fields = [start, end, source_shard, source_row, source_start]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(fields, fields=list(PIECE)))


def _measure(
    recipe: Recipe,
    documents: Documents,
    decided: list[PhaseOutput],
    spans: ShardSpans | None,
    kept: PhaseInput,
    annotations: pa.Table,
) -> Statistics:
    is_kept = np.zeros(documents.rows, np.bool_)
    is_kept[kept.rows] = True
    ids = documents.ids.drop_null()
    status = annotations["status"]
    statistics = Statistics(
        counts=Counter(
            {
                "rows": documents.rows,
                **{name: pc.sum(pc.equal(status, name)).as_py() or 0 for name in (KEPT, DROPPED, QUARANTINED)},
                "repeated_ids": len(ids) - len(ids.unique()),
                "input_text_bytes": documents.input_text_bytes,
                "kept_text_bytes": kept.batch.size_bytes,
                "dedup_bytes": 0 if spans is None else int((spans.end - spans.start).sum()),
                "orphaned_bytes": 0 if spans is None else _orphaned_bytes(spans, is_kept),
            }
        ),
        reasons=Counter(annotations["reason"].drop_null().to_pylist()),
        columns={column.name: measure_column(annotations[column.name], is_kept) for column in recipe.columns},
    )
    marks = {NOT_TRUE: "0", TRUE: "1", UNKNOWN: "?"}
    for phase, d in zip(recipe.phases, decided, strict=True):
        statistics.dropped_in[phase.name] = int((~d.verdicts.keep).sum())
        patterns, counts = np.unique(d.verdicts.truth, axis=0, return_counts=True)
        statistics.patterns[phase.name] = Counter(
            {"".join(marks[int(t)] for t in pattern): int(n) for pattern, n in zip(patterns, counts, strict=True)}
        )
        statistics.decisive.update(dict(zip(phase.rules, d.verdicts.decisive.sum(axis=0).tolist(), strict=True)))
    return statistics


def _orphaned_bytes(spans: ShardSpans, is_kept: BoolArray) -> int:
    """Bytes cut from kept documents whose source was dropped; sources elsewhere are looked up after the last shard."""
    own = spans.source_shard == OWN_SHARD
    lost = is_kept[spans.row[own]] & ~is_kept[spans.source_row[own]]
    return int((spans.end - spans.start)[own][lost].sum())
