"""Samples as rows of tables: documents, or packed sequences, with ids and weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from gneiss.loader.packed_files import SPANS, PackedSequences
from gneiss.loader.packing import Sequence
from gneiss.loader.reader import Document, Documents

#: Samples per table.
_TABLE_ROWS = 256
DOCUMENTS = pa.schema(
    [
        pa.field("document", pa.int64()),
        pa.field("id", pa.string()),
        pa.field("shard", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("text", pa.large_string()),
        pa.field("log_prior", pa.float64()),
    ]
)
SEQUENCES = pa.schema(
    [
        pa.field("sequence", pa.int64()),
        pa.field("input_ids", pa.list_(pa.int32())),
        pa.field("log_prior", pa.float64()),
        pa.field("spans", pa.list_(SPANS)),
    ]
)


def rows_of(source: Documents | PackedSequences) -> tuple[Iterator[dict[str, Any]], pa.Schema]:
    """The samples of a source as rows, and their columns."""
    if isinstance(source, PackedSequences):
        return map(_of_sequence, source), SEQUENCES
    return map(_of_document, source), DOCUMENTS


def row_bytes(row: dict[str, Any]) -> int:
    """The bytes of the text or of the tokens of a row."""
    return 4 * len(row["input_ids"]) if "input_ids" in row else len(row["text"].encode())


def tables(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows as tables of some hundred."""
    left = iter(rows)
    while portion := list(islice(left, _TABLE_ROWS)):
        yield pa.Table.from_pylist(portion, schema)


def _of_document(document: Document) -> dict[str, Any]:
    rest = {name: getattr(document, name) for name in ("id", "shard", "row", "text", "log_prior")}
    return {"document": document.index, **rest}


def _of_sequence(sequence: Sequence) -> dict[str, Any]:
    columns = (getattr(sequence.spans, field.name).tolist() for field in SPANS)
    spans = [dict(zip((field.name for field in SPANS), span, strict=True)) for span in zip(*columns, strict=True)]
    return {"sequence": sequence.id, "input_ids": sequence.tokens, "log_prior": sequence.log_prior, "spans": spans}
