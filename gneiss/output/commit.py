"""Commit: write what `curate` decided, each file whole or not at all, the annotation shard last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.curate.curate import Curated
from gneiss.curate.statistics import DROPPED, KEPT, QUARANTINED
from gneiss.errors import DefectError
from gneiss.output.layout import annotations_path, data_path, quarantine_path, statistics_path
from gneiss.output.ledger import COMMITTED, FOOTER_KEY, Receipt
from gneiss.output.parquet import WrittenFile, write_bytes, write_parquet
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import Place

ROWS_PER_TABLE = 20_000


def commit(curated: Curated, recipe: Recipe, output: Place) -> Receipt:
    """Write the files of a shard and return its receipt. Raises OutputError; DefectError when rows do not add up."""
    shard, counts = curated.shard, curated.statistics.counts
    fates = {name: counts[name] for name in (KEPT, DROPPED, QUARANTINED)}
    if not shard.rows == counts["rows"] == sum(fates.values()) == curated.annotations.num_rows:
        raise DefectError(
            f"shard {shard.id}: {shard.rows} rows came in, but {fates[KEPT]} kept + {fates[DROPPED]} dropped +"
            f" {fates[QUARANTINED]} quarantined were counted; nothing was written."
            " This is a defect of gneiss: please report it"
        )
    files = [_write_data(curated, recipe, output)]
    if files[0].rows != fates[KEPT]:
        raise DefectError(
            f"shard {shard.id}: {fates[KEPT]} documents were kept, but {files[0].rows} written; please report it"
        )
    if curated.unusable:
        files.append(_write_quarantine(curated, recipe, output))
    told = {"statistics": curated.statistics.to_json(), "samples": curated.examples}
    files.append(write_bytes((json.dumps(told, ensure_ascii=False) + "\n").encode(), output, statistics_path(shard.id)))
    receipt = Receipt(shard.id, COMMITTED, shard.fingerprint, shard.rows, fates, tuple(files))
    own = write_parquet(
        _portions(curated.annotations),
        curated.annotations.schema,
        output,
        annotations_path(shard.id),
        {FOOTER_KEY: receipt.footer()},
    )
    return replace(receipt, files=(*files, own), etag=shard.etag)


def _portions(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, ROWS_PER_TABLE):
        yield table.slice(start, ROWS_PER_TABLE)


def _write_data(curated: Curated, recipe: Recipe, output: Place) -> WrittenFile:
    """The kept documents with all their columns; texts and what was derived from them are the edited ones."""
    schema = _schema(curated, recipe)
    text = recipe.input.text
    others = [name for name in schema.names if name != text]
    texts = curated.texts.to_arrow()

    def tables() -> Iterator[pa.Table]:
        for first, table in curated.shard.tables(others):
            start, stop = np.searchsorted(curated.kept, [first, first + table.num_rows])
            rows = curated.kept[start:stop]
            table = table.take(pa.array(rows - first)) if others else pa.table({})
            if (edited := curated.edited[start:stop]).any():
                for stale, fresh in recipe.input.derived_from_text.items():
                    if stale in others:
                        table = _with(table, stale, _derived(table[stale], fresh, curated, rows, edited), schema)
            kept_texts = texts.slice(start, stop - start).cast(schema.field(text).type)
            columns = [*table.columns]
            columns.insert(schema.get_field_index(text), kept_texts)
            yield pa.Table.from_arrays(columns, schema=schema)  # in which a stale column may be null

    return write_parquet(tables(), schema, output, data_path(curated.shard.id))


def _derived(
    old: pa.ChunkedArray, fresh: str | None, curated: Curated, rows: np.ndarray, edited: np.ndarray
) -> pa.ChunkedArray:
    new = (
        pa.nulls(len(rows), old.type)
        if fresh is None
        else curated.annotations[fresh].take(pa.array(rows)).cast(old.type)
    )
    return pc.if_else(pa.array(edited), new, old)


def _schema(curated: Curated, recipe: Recipe) -> pa.Schema:
    schema = curated.shard.schema()
    for index, column in enumerate(schema):
        if column.name in recipe.input.derived_from_text:
            schema = schema.set(index, column.with_nullable(True))
    return schema


def _with(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray, schema: pa.Schema) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, schema.field(name), column.cast(schema.field(name).type))


def _write_quarantine(curated: Curated, recipe: Recipe, output: Place) -> WrittenFile:
    """The quarantined rows with all their columns, their text as bytes, and the reason."""
    rows = np.array(list(curated.unusable), np.int64)
    reasons = pa.array(list(curated.unusable.values()), pa.string())
    text = recipe.input.text
    schema = _schema(curated, recipe)
    index = schema.get_field_index(text)
    binary = pa.large_binary() if pa.types.is_large_string(schema.field(text).type) else pa.binary()
    schema = (
        schema.set(index, pa.field(text, binary))
        .append(pa.field("quarantine_row", pa.int64()))
        .append(pa.field("quarantine_reason", pa.string()))
    )

    def tables() -> Iterator[pa.Table]:
        for first, table in curated.shard.tables():
            start, stop = np.searchsorted(rows, [first, first + table.num_rows])
            raw = pa.chunked_array([chunk.view(binary) for chunk in table[text].chunks], binary)
            table = table.set_column(index, schema.field(text), raw).take(pa.array(rows[start:stop] - first))
            table = table.append_column(schema.field("quarantine_row"), pa.array(rows[start:stop]))
            table = table.append_column(schema.field("quarantine_reason"), reasons.slice(start, stop - start))
            yield pa.Table.from_arrays(table.columns, schema=schema)

    return write_parquet(tables(), schema, output, quarantine_path(curated.shard.id))
