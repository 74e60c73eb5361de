"""One phase over the documents that reach it: edits, then annotations of the edited text, then rules and `keep`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import Annotate, Annotator, annotate_present, reads_ids
from gneiss.batch import TextBatch
from gneiss.edit import Edits
from gneiss.errors import GneissError
from gneiss.recipe import BASE_COLUMNS, Dedup, Phase
from gneiss.rule import ARROW_TYPES, Verdicts, evaluate
from gneiss.shard_spans import OWN_SHARD, ShardSpans
from gneiss.tools import PhaseTools

if TYPE_CHECKING:
    import duckdb

    from gneiss.filters.tokenizer import Tokenizer

BATCH_BYTES = 16_000_000
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Annotations = dict[str, pa.Array]


@dataclass(frozen=True, eq=False)
class Entering:
    """The documents that reach a phase: rows in the shard, ids, texts, whether edited before, annotations so far."""

    rows: Rows
    ids: pa.Array
    batch: TextBatch
    edited: Flags
    annotations: Annotations

    def where(self, stay: Flags) -> Entering:
        """Those documents alone for which `stay` is true."""
        if stay.all():
            return self
        chosen = pa.array(stay)
        return Entering(
            self.rows[stay],
            self.ids.filter(chosen),
            TextBatch.of(self.batch.to_arrow().filter(chosen)),
            self.edited[stay],
            {name: column.filter(chosen) for name, column in self.annotations.items()},
        )


@dataclass(frozen=True, eq=False)
class Decided:
    """What a phase made of its documents: these with all annotations, the verdicts on them, and failures by row."""

    documents: Entering
    verdicts: Verdicts
    failures: dict[int, str]
    spans: ShardSpans | None

    @property
    def staying(self) -> Entering:
        """The documents that the phase keeps."""
        return self.documents.where(self.verdicts.keep)


def run_phase(
    phase: Phase,
    tools: PhaseTools,
    connection: duckdb.DuckDBPyConnection,
    entering: Entering,
    spans: ShardSpans | None = None,
) -> Decided:
    """Take documents through a phase with its tools; `spans` where dedup beyond the shard has found them.

    Raises RecipeError.
    """
    if phase.dedup is None:
        documents, spans = entering, None
    else:
        spans = spans or _own_spans(phase.dedup, tools.tokenizer, entering)
        documents = _cut(entering, spans)
    computed, failures = _annotate(documents.batch, [(a, c) for a, c in tools.annotators if not reads_ids(a)])
    for annotator, compute in tools.annotators:
        if reads_ids(annotator):
            computed.update(annotate_present(annotator, compute, documents.ids))
    documents = replace(documents, annotations={**documents.annotations, **computed})
    if failures:
        documents = documents.where(~np.isin(np.arange(len(documents.rows)), list(failures)))
    verdicts = evaluate(connection, phase.decision, pa.table(documents.annotations))
    return Decided(documents, verdicts, {int(entering.rows[i]): why for i, why in failures.items()}, spans)


def _cut(entering: Entering, spans: ShardSpans) -> Entering:
    """The documents without their duplicate spans, and what dedup says of them."""
    edits = Edits(np.searchsorted(entering.rows, spans.row), spans.start, spans.end)
    size, removed = np.diff(entering.batch.offsets), edits.removed_bytes(len(entering.batch))
    repeated = np.zeros(len(entering.batch), np.int64)
    repeated[np.searchsorted(entering.rows, spans.repeated_row)] = spans.repeated_bytes
    annotations = {
        **entering.annotations,
        "dedup_bytes": pa.array(removed),
        "dedup_fraction": pa.array(removed / np.maximum(size, 1), mask=size == 0),
        "dedup_repeated_bytes": pa.array(repeated),
    }
    return replace(
        entering,
        batch=edits.apply(entering.batch),
        edited=entering.edited | (removed > 0),
        annotations=annotations,
    )


def _own_spans(dedup: Dedup, tokenizer: Tokenizer | None, entering: Entering) -> ShardSpans:
    """The duplicate spans at shard scope: among the documents that reach the phase."""
    from gneiss.dedup import find_spans

    batch, rows = entering.batch, entering.rows
    found = find_spans(
        batch,
        min_length=dedup.min_length,
        unit=dedup.unit,
        tokenizer=tokenizer,
        engine=dedup.engine,
        policy=dedup.policy,
    ).shrink(batch.to_arrow(), dedup.boundary)
    document, start, end, source, source_start = found.arrays()
    repeated = np.zeros(len(batch), np.int64)
    np.add.at(repeated, source, end - start)
    own = np.full(len(document), OWN_SHARD)
    return ShardSpans(rows[document], start, end, own, rows[source], source_start, (), rows, repeated)


def _annotate(batch: TextBatch, annotators: Sequence[tuple[Annotator, Annotate]]) -> tuple[Annotations, dict[int, str]]:
    """All annotations of a batch, slice by slice, and position → reason of documents that an annotator failed on."""
    columns = [*BASE_COLUMNS, *(column for annotator, _ in annotators for column in annotator.columns)]
    parts: dict[str, list[pa.Array]] = {column.name: [] for column in columns}
    failures: dict[int, str] = {}
    for start, stop in _slices(batch):
        part = batch.slice(start, stop)
        computed, failed = _annotate_slice(part, annotators)
        failures.update({start + i: why for i, why in failed.items()})
        for column in columns:
            parts[column.name].append(computed[column.name].cast(ARROW_TYPES[column.type]))
    return {c.name: pa.concat_arrays(parts[c.name] or [pa.array([], ARROW_TYPES[c.type])]) for c in columns}, failures


def _slices(batch: TextBatch) -> Iterator[tuple[int, int]]:
    """Consecutive runs of documents of at most BATCH_BYTES; a longer document stands alone."""
    start = 0
    while start < len(batch):
        stop = int(np.searchsorted(batch.offsets, batch.offsets[start] + BATCH_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), len(batch))
        yield start, stop
        start = stop


def _annotate_slice(
    part: TextBatch, annotators: Sequence[tuple[Annotator, Annotate]]
) -> tuple[Annotations, dict[int, str]]:
    base = {
        "text_bytes": pa.array(np.diff(part.offsets)),
        "text_chars": pc.utf8_length(part.to_arrow()).cast(pa.int64()),
    }
    failures: dict[int, str] = {}
    for annotator, compute in annotators:
        try:
            computed = _checked(annotator, compute(part), len(part))
        except (MemoryError, GneissError):
            raise
        except Exception:  # noqa: BLE001 - one document may have broken the batch: find out which, and why
            computed, failed = _annotate_singly(part, annotator, compute)
            failures.update(failed)
        base.update(computed)
    return base, failures


def _annotate_singly(part: TextBatch, annotator: Annotator, compute: Annotate) -> tuple[Annotations, dict[int, str]]:
    """Annotate document by document, so that a failure costs its own document alone."""
    parts: dict[str, list[pa.Array]] = {column.name: [] for column in annotator.columns}
    failures: dict[int, str] = {}
    for i in range(len(part)):
        try:
            computed = _checked(annotator, compute(part.slice(i, i + 1)), 1)
        except (MemoryError, GneissError):
            raise
        except Exception as error:  # noqa: BLE001 - the document goes to quarantine with this reason
            reason = (str(error).splitlines() or [""])[0][:200]
            failures[i] = f"{type(annotator).__name__.lower()} failed: {type(error).__name__}: {reason}"
            computed = {column.name: pa.nulls(1, ARROW_TYPES[column.type]) for column in annotator.columns}
        for name, column_parts in parts.items():
            column_parts.append(computed[name])
    return {name: pa.concat_arrays(column_parts) for name, column_parts in parts.items()}, failures


def _checked(annotator: Annotator, computed: Mapping[str, pa.Array], documents: int) -> Annotations:
    for column in annotator.columns:
        if len(computed[column.name]) != documents:
            raise ValueError(f"{column.name}: expected {documents} values, found {len(computed[column.name])}")
    return {column.name: computed[column.name].cast(ARROW_TYPES[column.type]) for column in annotator.columns}
