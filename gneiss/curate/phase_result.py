"""What a phase computes of the documents that reach it, before its rules decide; it can be written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import Column
from gneiss.arrays import Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.spans import ShardSpans
from gneiss.edit import Edits
from gneiss.recipe.rule import ARROW_TYPES

Annotations: TypeAlias = dict[str, pa.Array]

_EDIT = pa.struct([("start", pa.int64()), ("stop", pa.int64()), ("replacement", pa.large_string())])
_PIECE = pa.struct(
    [(name, pa.int64()) for name in ("row", "start", "end", "source_shard", "source_row", "source_start")]
)
_FAILURE, _EDITS, _PIECES = "failure of the document", "edits of the document", "dedup pieces of the document"


@dataclass(frozen=True, eq=False)
class PhaseResult:
    """What a phase computed: edits of the texts that reached it, and annotations (documents,) of the edited texts.

    failures: position → reason of documents that an editor or annotator failed on; spans: what dedup cut; edited: the
    edited texts, where they are at hand.
    """

    edits: Edits
    annotations: Annotations
    failures: dict[int, str]
    spans: ShardSpans | None
    edited: TextBatch | None = None

    def to_batch(self, rows: Int64Array, columns: Sequence[Column]) -> pa.RecordBatch:
        """One row for each document, as `schema_of` says; `rows` are their rows in the shard."""
        n = len(rows)
        replacement = pa.nulls(len(self.edits), pa.large_string())
        if self.edits.replacement is not None:
            replacement = self.edits.replacement.to_arrow()
        edits = [pa.array(self.edits.start), pa.array(self.edits.stop), replacement]
        table = {
            **{column.name: self.annotations[column.name] for column in columns},
            _FAILURE: pa.array([self.failures.get(position) for position in range(n)], pa.string()),
            _EDITS: _lists(self.edits.document, pa.StructArray.from_arrays(edits, fields=list(_EDIT)), n),
        }
        if self.spans is not None:
            pieces = [pa.array(getattr(self.spans, field.name)) for field in _PIECE]
            of_document = np.searchsorted(rows, self.spans.row)
            table[_PIECES] = _lists(of_document, pa.StructArray.from_arrays(pieces, fields=list(_PIECE)), n)
        return pa.RecordBatch.from_pydict(table)

    @classmethod
    def of_batch(cls, batch: pa.RecordBatch, shard_ids: Sequence[str]) -> PhaseResult:
        """From what `to_batch` made; `shard_ids` are those that the pieces' source shards count."""
        table = dict(zip(batch.schema.names, batch.columns, strict=True))
        failure, listed, pieces = table.pop(_FAILURE), table.pop(_EDITS), table.pop(_PIECES, None)
        failures = {i: why for i, why in enumerate(failure.to_pylist()) if why is not None}
        edits = listed.flatten()
        start, stop, replacement = (pc.struct_field(edits, field.name) for field in _EDIT)
        texts = None if replacement.null_count else TextBatch.of(replacement)
        document = _owners(listed)
        spans = None if pieces is None else _spans(pieces, shard_ids)
        return cls(Edits(document, _numbers(start), _numbers(stop), texts), table, failures, spans)


def schema_of(columns: Sequence[Column], with_pieces: bool) -> pa.Schema:
    """The schema of `to_batch` for given annotations, with pieces for a phase that has dedup."""
    annotations = [pa.field(column.name, ARROW_TYPES[column.type]) for column in columns]
    fields = [*annotations, pa.field(_FAILURE, pa.string()), pa.field(_EDITS, pa.list_(_EDIT))]
    return pa.schema([*fields, pa.field(_PIECES, pa.list_(_PIECE))] if with_pieces else fields)


def _lists(document: Int64Array, values: pa.Array, documents: int) -> pa.ListArray:
    """For each document the list of its values, which come in its order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(document, minlength=documents))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _owners(lists: pa.ListArray) -> Int64Array:
    """For each value of the lists the document that it belongs to."""
    return np.repeat(np.arange(len(lists)), _numbers(pc.list_value_length(lists)))


def _spans(pieces: pa.ListArray, shard_ids: Sequence[str]) -> ShardSpans:
    values = pieces.flatten()
    row, start, end, shard, source_row, source_start = (
        _numbers(pc.struct_field(values, field.name)) for field in _PIECE
    )
    nothing = np.empty(0, np.int64)  # what documents are the source of is among the annotations already
    return ShardSpans(row, start, end, shard, source_row, source_start, shard_ids, nothing, nothing)


def _numbers(column: pa.Array) -> Int64Array:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
