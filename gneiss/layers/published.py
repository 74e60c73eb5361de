"""Published annotations as a layer of a run: a table is joined with documents by their ids, URLs or other columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gneiss.errors import InputError
from gneiss.layers.document_columns import DocumentColumns, document_columns, document_names
from gneiss.layers.join import REPEATS, Repeats, in_order, leave_one, open_database, store_documents, store_matches
from gneiss.layers.keys import check_type
from gneiss.layers.published_table import PublishedTable, open_table
from gneiss.output.claim import held
from gneiss.output.finished_run import open_run
from gneiss.output.layers import Layer, WrittenLayer, column, existing_layer, write_layer
from gneiss.output.layout import annotations_path
from gneiss.store.place import Address


def annotate_from(
    output: Address,
    table: Address,
    *,
    on: str | Sequence[str],
    layer: str = "published",
    columns: Sequence[str] | None = None,
    input: Address | None = None,
    repeats: Repeats = "refuse",
    memory_limit_mb: int = 1000,
) -> WrittenLayer:
    """Join published annotations with the documents of a finished run, as a layer with null where there are none.

    Parameters: `table`: a file, folder or pattern in any store and format that an input may have; `on`: join keys:
    `id`, `url`, or `COLUMN_OF_TABLE=COLUMN_OF_DOCUMENTS`; a table's `url_surtkey` is compared with the SURT of URLs;
    `columns`: to join, by default all that the documents lack; `input`: of the run, to read keys that its annotations
    lack for all documents instead of only the kept ones in `data/`; `repeats`: `refuse` rows with the same key, or take
    the `first`, in the order of files and rows; `memory_limit_mb`: of the join, which uses a temporary folder beyond
    it. The same call completes a killed one. Raises InputError, OutputError when the layer is there with others.

    >>> annotate_from("curated", "hf://datasets/HuggingFaceFW/fineweb-edu/data", on="id")  # doctest: +SKIP
    """
    if repeats not in REPEATS:
        raise InputError(f"repeats {repeats!r}: expected {' or '.join(map(repr, REPEATS))}")
    run = open_run(output)
    if not run.shards:
        raise InputError(f"{run.folder}: the run has no rows")
    found = open_table(table, [on] if isinstance(on, str) else on, columns, document_names(run))
    documents = document_columns(run, [key.in_documents for key in found.keys], input)
    for name, type_ in documents.types().items():
        check_type(type_, f"{run.folder}: column {name!r} of its documents")
    made = Layer(layer, "published", _parameters(found, documents, repeats), _schema(found))
    with held(run.folder) as check:
        if there := existing_layer(run, made):
            return there
        with open_database(memory_limit_mb) as database:
            counts = store_documents(database, run, documents, found) | store_matches(database, found)
            counts |= leave_one(database, found, repeats)
            files = (run.folder / annotations_path(shard.id, layer) for shard in run.shards)
            left = [number for number, file in enumerate(files) if file.find() is None]
            summary = {"table": found.address, "left_out": list(found.left_out), **counts}
            return write_layer(run, made, [], in_order(database, found, left), summary, check)


def _parameters(table: PublishedTable, documents: DocumentColumns, repeats: Repeats) -> dict[str, Any]:
    return {
        "table": table.digest,
        "on": [str(key) for key in table.keys],
        "columns": {column.name: column.path for column in table.taken},
        "repeats": repeats,
        "kept_only": documents.are_of_kept,
    }


def _schema(table: PublishedTable) -> pa.Schema:
    return pa.schema(
        [
            column(taken.name, taken.type, taken.meaning or f"{taken.path} of the published table")
            for taken in table.taken
        ]
    )
