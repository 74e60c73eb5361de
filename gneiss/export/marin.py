"""Export to Marin's datakit: annotations of kept documents as attributes, in Parquet files beside those of `data/`.

A file is named as that of its documents, and has a row for each of them, in the same order: `id`, `partition_id`, the
number of the file, and the struct `attributes`, a field an annotation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from gneiss.export.files import Exported, Source, attribute_types, export_attributes, of_documents
from gneiss.loader.reader import Document
from gneiss.output.parquet import WrittenFile, write_parquet
from gneiss.store.place import Address, place_of

PREFIX = "outputs/"
_TABLE_ROWS = 4096


def export_marin(source: Source, folder: Address) -> Exported:
    """Write the columns that documents are read with as attributes, in the order of the documents on disk.

    See `Export`. Values have the types of the annotations. Raises InputError where there is no column.

    >>> source = documents("curated", layers=["edu"], columns=["prose", "score"])  # doctest: +SKIP
    >>> export_marin(source, "curated-marin")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_documents(source, "marin")
    attributes = pa.struct(list(attribute_types(source).items()))
    schema = pa.schema([("id", pa.string()), ("partition_id", pa.int64()), ("attributes", attributes)])

    def write(number: int, shard: str, documents: Iterator[Document]) -> list[WrittenFile]:
        return [write_parquet(_tables(documents, number, schema), schema, target, f"{PREFIX}{shard}.parquet")]

    return export_attributes(source, target, "marin", (PREFIX,), write)


def _tables(documents: Iterator[Document], partition: int, schema: pa.Schema) -> Iterator[pa.Table]:
    while rows := list(islice(documents, _TABLE_ROWS)):
        attributes = pa.array([dict(row.values) for row in rows], schema.field("attributes").type)
        partitions = pa.repeat(pa.scalar(partition), len(rows))
        yield pa.table([pa.array([row.id for row in rows], pa.string()), partitions, attributes], schema=schema)
