"""Export to Hugging Face datasets: Parquet files that `datasets.load_dataset` reads, with ids and weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from gneiss.export.files import INDEX, Exported, Source, complete, exporting, of_samples, origin, parts
from gneiss.loader.packed_files import SPANS, PackedSequences
from gneiss.loader.packing import Sequence
from gneiss.loader.reader import Document
from gneiss.output.parquet import WrittenFile, write_parquet
from gneiss.store.place import Address, Place, place_of

#: `load_dataset` assigns files of this name to the split `train`.
PREFIX = "train-"
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


def export_hf(source: Source, folder: Address, *, file_bytes: int = 500_000_000) -> Exported:
    """Write documents or packed sequences, in their order on disk, as Parquet files. See `Export`.

    Parameters: `file_bytes`: maximum of texts or tokens in a file, before compression (one sample may have more).
    The Trainer of transformers removes `log_prior` unless it has `TrainingArguments(remove_unused_columns=False)`.

    >>> export_hf(packed("packed"), "packed-hf")  # doctest: +SKIP
    >>> datasets.load_dataset("packed-hf", split="train")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_samples(source, "hf")
    with exporting(target, PREFIX, source):
        if isinstance(source, PackedSequences):
            files = _write(map(_of_sequence, source), SEQUENCES, target, file_bytes)
        else:
            files = _write(map(_of_document, source), DOCUMENTS, target, file_bytes)
        listed = [{"name": file.path, "samples": file.rows} for file in files]
        index = {"format": "hf", **origin(source), "files": listed}
        complete(target, INDEX, [file.path for file in files], index)
        return Exported(target, sum(file.rows for file in files), len(files))


def _of_document(document: Document) -> dict[str, Any]:
    rest = {name: getattr(document, name) for name in ("id", "shard", "row", "text", "log_prior")}
    return {"document": document.index, **rest}


def _of_sequence(sequence: Sequence) -> dict[str, Any]:
    columns = (getattr(sequence.spans, field.name).tolist() for field in SPANS)
    spans = [dict(zip((field.name for field in SPANS), span, strict=True)) for span in zip(*columns, strict=True)]
    return {"sequence": sequence.id, "input_ids": sequence.tokens, "log_prior": sequence.log_prior, "spans": spans}


def _write(rows: Iterable[dict[str, Any]], schema: pa.Schema, folder: Place, file_bytes: int) -> list[WrittenFile]:
    return [
        write_parquet(_tables(part, schema), schema, folder, f"{PREFIX}{number:05d}.parquet")
        for number, part in parts(rows, _bytes, file_bytes)
    ]


def _bytes(row: dict[str, Any]) -> int:
    return 4 * len(row["input_ids"]) if "input_ids" in row else len(row["text"].encode())


def _tables(rows: Iterator[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    while portion := list(islice(rows, _TABLE_ROWS)):
        yield pa.Table.from_pylist(portion, schema)
