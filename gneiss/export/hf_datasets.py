"""Export to Hugging Face datasets: Parquet files that `datasets.load_dataset` reads, with ids and weights."""

from __future__ import annotations

from gneiss.export.files import INDEX, Exported, Source, complete, exporting, of_samples, origin, parts
from gneiss.export.samples import row_bytes, rows_of, tables
from gneiss.output.parquet import write_parquet
from gneiss.store.place import Address, place_of

#: `load_dataset` assigns files of this name to the split `train`.
PREFIX = "train-"


def export_hf(source: Source, folder: Address, *, file_bytes: int = 500_000_000) -> Exported:
    """Write documents or packed sequences, in their order on disk, as Parquet files. See `Export`.

    Parameters: `file_bytes`: maximum of texts or tokens in a file, before compression (one sample may have more).
    The Trainer of transformers removes `log_prior` unless it has `TrainingArguments(remove_unused_columns=False)`.

    >>> export_hf(packed("packed"), "packed-hf")  # doctest: +SKIP
    >>> datasets.load_dataset("packed-hf", split="train")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_samples(source, "hf")
    with exporting(target, PREFIX, source):
        rows, schema = rows_of(source)
        files = [
            write_parquet(tables(part, schema), schema, target, f"{PREFIX}{number:05d}.parquet")
            for number, part in parts(rows, row_bytes, file_bytes)
        ]
        listed = [{"name": file.path, "samples": file.rows} for file in files]
        index = {"format": "hf", **origin(source), "files": listed}
        complete(target, INDEX, [file.path for file in files], index)
        return Exported(target, sum(file.rows for file in files), len(files))
