"""Export to JSON lines, which every trainer's own tokenization reads: an object a document or packed sequence."""

from __future__ import annotations

from typing import Literal

from gneiss.export.files import INDEX, Exported, Source, complete, exporting, of_samples, origin, parts
from gneiss.export.samples import row_bytes, rows_of, tables
from gneiss.output.jsonl import write_jsonl
from gneiss.store.place import Address, place_of

PREFIX = "part-"
#: Compression → the suffix of a file, and the level.
_FORMATS = {"none": (".jsonl", 0), "gzip": (".jsonl.gz", 6), "zstd": (".jsonl.zst", 3)}


def export_jsonl(
    source: Source,
    folder: Address,
    *,
    file_bytes: int = 500_000_000,
    compression: Literal["none", "gzip", "zstd"] = "gzip",
) -> Exported:
    """Write documents or packed sequences, in their order on disk, as JSON lines. See `Export`.

    The keys are the columns of `export_hf`, `text` or `input_ids` among them.
    Parameters: `file_bytes`: maximum of texts or tokens in a file, before compression (one sample may have more).

    >>> export_jsonl(documents("curated"), "curated-jsonl")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_samples(source, "jsonl")
    with exporting(target, PREFIX, source):
        (rows, schema), (suffix, level) = rows_of(source), _FORMATS[compression]
        files = [
            write_jsonl(tables(part, schema), schema, target, f"{PREFIX}{number:05d}{suffix}", compression, level)
            for number, part in parts(rows, row_bytes, file_bytes)
        ]
        listed = [{"name": file.path, "samples": file.rows} for file in files]
        complete(target, INDEX, [file.path for file in files], {"format": "jsonl", **origin(source), "files": listed})
        return Exported(target, sum(file.rows for file in files), len(files))
