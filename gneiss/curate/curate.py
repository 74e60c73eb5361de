"""Curate: the one path of a shard through a recipe, in memory. Dry run, local run and cluster run all call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import arrow_type
from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.examples import EXCERPT_CHARS, Examples, take_examples
from gneiss.curate.known import Known, content_hashes
from gneiss.curate.loaded_models import LoadedModels
from gneiss.curate.measure import Measurable, measure
from gneiss.curate.phase import CorpusResults, PhaseInput, PhaseOutput, ShardRows, compute_phase, decide_phase
from gneiss.curate.quarantine import Unwatched, Watch
from gneiss.curate.reading import Documents, read_documents
from gneiss.curate.statistics import DROPPED, KEPT, QUARANTINED, Statistics
from gneiss.input.shard import Shard
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import TRUE

NO_RESULTS = CorpusResults()
#: The hashes of the texts of some documents, by their positions; and the beginning of the text of a row.
HashesOf: TypeAlias = Callable[[PhaseInput, Int64Array], list[bytes]]
ExcerptOf: TypeAlias = Callable[[int], str]


@dataclass(frozen=True, eq=False)
class Curated:
    """A shard, decided.

    annotations: every row, in order; kept: rows (kept,); texts: their final texts; edited: bool (kept,), whether the
    text differs from the input's; unusable: row → reason of quarantine.
    """

    shard: Shard
    annotations: pa.Table
    kept: Int64Array
    texts: TextBatch
    edited: BoolArray
    unusable: dict[int, str]
    statistics: Statistics
    examples: Examples


def curate(
    shard: Shard,
    recipe: Recipe,
    models: LoadedModels,
    limit: int | None = None,
    results: CorpusResults = NO_RESULTS,
    watch: Watch = Unwatched(),  # noqa: B008
) -> Curated:
    """Take a shard (or its first `limit` rows) through all phases; the answer depends only on the arguments.

    results: the corpus-wide stages' results for it; without them steps see only this shard.
    Raises InputError when the shard cannot be read, DefectError when a filter fails on each of many documents.
    """
    documents = read_documents(shard, recipe.input.text, recipe.inputs, limit)
    return curate_together([(shard, documents)], recipe, models, results, watch)[0]


def curate_together(
    read: Sequence[tuple[Shard, Documents]],
    recipe: Recipe,
    models: LoadedModels,
    results: CorpusResults = NO_RESULTS,
    watch: Watch = Unwatched(),  # noqa: B008
) -> list[Curated]:
    """Take shards that were read through all phases: each comes out as it does by itself. See `curate`.

    What costs much for a shard and little for a document, such as a query, is done once for all of them. results: only
    of one shard.
    """
    shards = ShardRows.of([shard.id for shard, _ in read], [documents.rows for _, documents in read])
    documents = Documents.joined([documents for _, documents in read])
    entering = first_input(shards, documents, results.known)
    outputs: list[PhaseOutput] = []
    for phase, phase_models in zip(recipe.phases, models.phases, strict=True):
        result = results.phases.get(phase.name) or compute_phase(phase, phase_models, entering, results, watch)
        outputs.append(decide_phase(phase, models.connection, entering, result))
        entering = outputs[-1].staying
    return described(read, documents, recipe, outputs, _hashes, partial(_excerpt, outputs))


def described(
    read: Sequence[tuple[Shard, Documents]],
    documents: Documents,
    recipe: Recipe,
    outputs: list[PhaseOutput],
    hashes_of: HashesOf,
    excerpt_of: ExcerptOf,
) -> list[Curated]:
    """Shards with all that is written of them; documents: those of all; outputs: of the phases, for all."""
    entering, shards = outputs[-1].staying, outputs[-1].documents.shards
    annotations = _annotation_table(recipe, documents, outputs, _unusable(documents, outputs), hashes_of)
    columns = {column.name: Measurable.of(annotations[column.name]) for column in recipe.columns}
    examples = take_examples(annotations, recipe, shards, excerpt_of)
    curated = []
    for number, (shard, part) in enumerate(read):
        rows = slice(*shards.bounds[number : number + 2].tolist())
        own, kept = [output.of_shard(number) for output in outputs], entering.of_shard(number)
        table = _of_rows(annotations, rows)
        measured = {name: column.of_rows(rows) for name, column in columns.items()}
        statistics = measure(recipe, part, own, kept, table, measured)
        unusable = _unusable(part, own)
        curated.append(
            Curated(shard, table, kept.rows, kept.batch, kept.edited, unusable, statistics, examples[number])
        )
    return curated


def _unusable(documents: Documents, outputs: list[PhaseOutput]) -> dict[int, str]:
    """Row → reason of quarantine."""
    failures = {row: why for output in outputs for row, why in output.failures.items()}
    return dict(sorted({**documents.unusable, **failures}.items()))


def _of_rows(annotations: pa.Table, rows: slice) -> pa.Table:
    """Some consecutive rows, counted from 0."""
    part = annotations.slice(rows.start, rows.stop - rows.start)
    return part.set_column(0, "row", pa.array(np.arange(part.num_rows)))


def first_input(shards: ShardRows, documents: Documents, known: Known) -> PhaseInput:
    """The usable documents of shards, as they reach the first phase."""
    rows = pa.array(documents.batch_rows)
    inputs = {name: column.combine_chunks().take(rows) for name, column in documents.inputs.items()}
    edited = np.zeros(len(documents.batch), np.bool_)
    return PhaseInput(shards, documents.batch_rows, inputs, documents.batch, edited, known.layers(documents.batch_rows))


def _hashes(documents: PhaseInput, positions: Int64Array) -> list[bytes]:
    return content_hashes(documents.batch, positions)


def _excerpt(outputs: list[PhaseOutput], row: int) -> str:
    """The start of a row's text as seen by the last phase that it reached."""
    documents = next(output.documents for output in reversed(outputs) if row in output.documents.rows)
    position = int(np.searchsorted(documents.rows, row))
    start, end = documents.batch.offsets[position : position + 2]
    excerpt = documents.batch.data[start : min(end, start + 4 * EXCERPT_CHARS)]
    return excerpt.tobytes().decode(errors="ignore")[:EXCERPT_CHARS]


def _annotation_table(
    recipe: Recipe,
    documents: Documents,
    outputs: list[PhaseOutput],
    unusable: dict[int, str],
    hashes_of: HashesOf,
) -> pa.Table:
    """One row per input row, in order: identity, status, why, and all annotations."""
    n = documents.rows
    quarantined = np.zeros(n, np.bool_)
    quarantined[list(unusable)] = True
    dropped_in: list[str | None] = [None] * n
    hashes: list[bytes | None] = [None] * n
    rules = [rule for phase in recipe.phases for rule in phase.rules]
    failed, decisive = np.zeros((n, len(rules)), np.bool_), np.zeros((n, len(rules)), np.bool_)
    columns = {column.name: pa.nulls(n, arrow_type(column.type)) for column in recipe.columns}
    evidence: dict[str, pa.Array] = {}
    first = 0
    for phase, output in zip(recipe.phases, outputs, strict=True):
        entered = output.documents
        at = slice(first, first := first + len(phase.rules))
        failed[entered.rows, at] = output.verdicts.truth != TRUE
        decisive[entered.rows, at] = output.verdicts.decisive
        dropped = np.flatnonzero(~output.verdicts.keep)
        for row in entered.rows[dropped].tolist():
            dropped_in[row] = phase.name
        ended = np.arange(len(entered.rows)) if output is outputs[-1] else dropped
        for row, digest in zip(entered.rows[ended].tolist(), hashes_of(entered, ended), strict=True):
            hashes[row] = digest
        mask = np.zeros(n, np.bool_)
        mask[entered.rows] = True
        for name, values in entered.annotations.items():
            columns[name] = pc.replace_with_mask(columns[name], pa.array(mask), values)
        positions = np.searchsorted(output.entered, np.arange(n)).clip(max=max(len(output.entered) - 1, 0))
        chosen = pa.array(positions, mask=~mask)
        evidence |= {name: values.take(chosen) for name, values in output.found.evidence.items()}
    for row in unusable:  # results of earlier phases are void for a quarantined document
        failed[row] = decisive[row] = False
        hashes[row] = None
    if unusable:
        usable = pa.array(np.where(quarantined, 0, np.arange(n)), mask=quarantined)
        columns, evidence = ({name: c.take(usable) for name, c in group.items()} for group in (columns, evidence))
    is_dropped = np.array([phase is not None for phase in dropped_in], np.bool_)
    status = np.where(quarantined, QUARANTINED, np.where(is_dropped, DROPPED, KEPT))
    return pa.table(
        {
            "row": pa.array(np.arange(n)),
            "id": documents.ids,
            "status": pa.array(status.tolist(), pa.string()),
            "reason": pa.array([unusable.get(row) for row in range(n)], pa.string()),
            "dropped_in": pa.array(dropped_in, pa.string()),
            "failed": _names_where(rules, failed),
            "decisive": _names_where(rules, decisive),
            "content_hash": pa.array(hashes, pa.binary(16)),
            **columns,
            **evidence,
        }
    )


def _names_where(names: list[str], flags: BoolArray) -> pa.ListArray:
    """For each row of `flags` (rows, names) the list of names whose flag is set."""
    offsets = np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int32)
    chosen = pa.array(names, pa.string()).take(pa.array(np.nonzero(flags)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), chosen)
