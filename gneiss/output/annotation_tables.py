"""Annotation shards as tables: which rows are kept, and columns of one file in portions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray
from gneiss.curate.statistics import KEPT, QUARANTINED
from gneiss.errors import InputError, first_line
from gneiss.output.layout import BASE
from gneiss.output.parquet import open_parquet, read_footer
from gneiss.store.place import Place

#: Rows of an annotation shard that are worked on at a time.
BATCH_ROWS = 20_000
#: Columns that every layer has; by them its rows are checked.
IDENTITY = ("row", "id")


def kept_mask(table: pa.Table) -> BoolArray:
    """Which rows of annotations are kept documents, bool (rows,)."""
    mask: BoolArray = pc.equal(table["status"], KEPT).to_numpy()
    return mask


def usable_mask(table: pa.Table) -> BoolArray:
    """Which rows of annotations are documents that are not in quarantine, bool (rows,)."""
    mask: BoolArray = pc.not_equal(table["status"], QUARANTINED).to_numpy()
    return mask


def read_batches(path: Place, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of a Parquet file in portions of `BATCH_ROWS` rows. Raises InputError naming the file."""
    names = list(dict.fromkeys(columns))
    try:
        with open_parquet(path) as file:
            if lacking := [name for name in names if name not in file.schema_arrow.names]:
                raise InputError(
                    f"{path}: no column {lacking[0]!r}, found {', '.join(file.schema_arrow.names)}; the shards of a"
                    " run have the same columns, so this file is of another one"
                )
            waiting = file.schema_arrow.empty_table().select(names)
            for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                # row groups of two files end at different rows: portions do not
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).select(names)])
                while waiting.num_rows >= BATCH_ROWS:
                    yield waiting.slice(0, BATCH_ROWS).combine_chunks()
                    waiting = waiting.slice(BATCH_ROWS)
            if waiting.num_rows:
                yield waiting.combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}") from error


def schema_of(path: Place) -> pa.Schema:
    """The columns of a Parquet file. Raises InputError naming the file."""
    try:
        return read_footer(path).schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}") from error


def names_and_rows(path: Place) -> tuple[list[str], int]:
    """The names of the columns of a Parquet file, and how many rows it has. Raises InputError naming the file."""
    try:
        metadata = read_footer(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}") from error
    return metadata.schema.to_arrow_schema().names, metadata.num_rows


def check_rows(path: Place, base: pa.Table, layer: pa.Table) -> None:
    """Refuse rows of a layer, in the file at `path`, that are not those of `base`. Raises InputError."""
    for name in IDENTITY:
        if layer.num_rows != base.num_rows or not base[name].equals(layer[name]):
            raise InputError(f"{path}: its {name} column is not that of {BASE}; the file belongs to another run")
