"""Commit: write what `curate` decided, each file whole or not at all, the annotation shard last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.curate import Curated
from gneiss.curate.reading import raw_strings
from gneiss.curate.statistics import DROPPED, KEPT, QUARANTINED
from gneiss.errors import DefectError, InputError, first_line
from gneiss.input.columns import column_with, field_at, find_path, schema_with, values_in
from gneiss.output.data_files import DataFiles
from gneiss.output.layout import annotations_path, quarantine_path, statistics_path
from gneiss.output.ledger import COMMITTED, FOOTER_KEY, Receipt
from gneiss.output.parquet import WrittenFile, writable, write_new, write_parquet
from gneiss.recipe.recipe import Recipe
from gneiss.store.at_once import meanwhile
from gneiss.store.place import Place

ROWS_PER_TABLE = 20_000
#: Annotation shards of so few rows are smaller, and written in half the time, without compression and dictionaries.
_FEW_ROWS = 8
_PIECE_BYTES = 1 << 30


def commit(curated: Curated, recipe: Recipe, output: Place, data: WrittenFile | None = None) -> Receipt:
    """Write the files of a shard and return its receipt. Raises OutputError; DefectError when rows do not add up.

    data: the file of the kept documents, if it is there already.
    """
    shard, counts = curated.shard, curated.statistics.counts
    fates = {name: counts[name] for name in (KEPT, DROPPED, QUARANTINED)}
    came_in = counts["rows"] if shard.known_rows is None else shard.known_rows
    if not came_in == counts["rows"] == sum(fates.values()) == curated.annotations.num_rows:
        raise DefectError(
            f"shard {shard.id}: {came_in} rows came in, but {fates[KEPT]} kept + {fates[DROPPED]} dropped +"
            f" {fates[QUARANTINED]} quarantined were counted; nothing was written."
            " This is a defect of gneiss: please report it"
        )
    schema = _schema(curated, recipe)
    told = {"statistics": curated.statistics.to_json(), "samples": curated.examples}
    content = (json.dumps(told, ensure_ascii=False) + "\n").encode()
    with meanwhile(lambda: write_new(content, output, statistics_path(shard.id))) as statistics:
        files = [data or _write_data(curated, schema, recipe, output)]
        if files[0].rows != fates[KEPT]:
            raise DefectError(
                f"shard {shard.id}: {fates[KEPT]} documents were kept, but {files[0].rows} written; please report it"
            )
        if curated.unusable:
            files.append(_write_quarantine(curated, schema, recipe, output))
        shard.check_unchanged()  # which is what was read before its last file says that it is done
        files.append(statistics())
    receipt = Receipt(shard.id, COMMITTED, shard.fingerprint, came_in, fates, tuple(files))
    is_short = came_in <= _FEW_ROWS
    own = write_parquet(
        _portions(curated.annotations),
        curated.annotations.schema,
        output,
        annotations_path(shard.id),
        {FOOTER_KEY: receipt.footer(), **DataFiles.of(recipe.output).noted(schema)},
        compression="none" if is_short else "zstd",
        level=None if is_short else 3,
        dictionaries=not is_short,
    )
    return replace(receipt, files=(*files, own), etag=shard.etag)


def _portions(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, ROWS_PER_TABLE):
        yield table.slice(start, ROWS_PER_TABLE)


def _write_data(curated: Curated, schema: pa.Schema, recipe: Recipe, output: Place) -> WrittenFile:
    """The kept documents with all their columns; texts and what was derived from them are the edited ones.

    Raises InputError where the shard has other rows than before, which nothing else says of a file that does not know
    its rows.
    """
    path = find_path(schema, recipe.input.text)
    column, within = path[0], path[1:]
    text_type = field_at(schema, path).type
    others = [name for name in schema.names if within or name != column]

    read = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal read
        for first, table in curated.shard.tables(others):
            read = first + table.num_rows
            start, stop = np.searchsorted(curated.kept, [first, first + table.num_rows])
            rows = curated.kept[start:stop]
            columns = _chosen_of(table, rows - first)
            texts = _as_column(curated.texts, start, stop, text_type)
            columns[column] = column_with(columns.get(column, texts), within, texts, schema.field(column).type)
            if (edited := curated.edited[start:stop]).any():
                for stale, fresh in recipe.input.derived_from_text.items():
                    if found := find_path(schema, stale):
                        name, inside = found[0], found[1:]
                        renewed = _derived(values_in(columns[name], inside), fresh, curated, rows, edited)
                        columns[name] = column_with(columns[name], inside, renewed, schema.field(name).type)
            yield pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)

    data = DataFiles.of(recipe.output).write(tables(), schema, output, curated.shard.id)
    if read != (rows := curated.annotations.num_rows):
        raise InputError(f"{curated.shard.file}: {rows} rows were read of it, and then {read}: modified or damaged")
    return data


def _derived(
    old: pa.ChunkedArray, fresh: str | None, curated: Curated, rows: Int64Array, edited: BoolArray
) -> pa.ChunkedArray:
    if fresh is None:
        return pc.if_else(pa.array(edited), pa.nulls(len(rows), old.type), old)
    try:
        new = curated.annotations[fresh].take(pa.array(rows)).cast(old.type)
    except pa.ArrowException as error:
        raise InputError(
            f"{curated.shard.file}: annotation {fresh!r} does not fit its column of type {old.type}, as"
            f" `derived_from_text` asks: {first_line(error)}; take it off that list"
        ) from error
    return pc.if_else(pa.array(edited), new, old)


def _chosen_of(table: pa.Table, rows: Int64Array) -> dict[str, pa.ChunkedArray]:
    """Some rows of a table, rising, of whatever types, as they are written: its columns by name."""
    columns = {name: _chosen(table[name], rows) for name in table.column_names}
    types = {name: writable(column.type) for name, column in columns.items()}
    return {
        name: column if column.type == types[name] else column.cast(types[name]) for name, column in columns.items()
    }


def _chosen(column: pa.ChunkedArray, rows: Int64Array) -> pa.ChunkedArray:
    try:
        return column.take(pa.array(rows))
    except pa.ArrowNotImplementedError:  # of views, wherever they are nested: stretches of rows need no such kernel
        stretches = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        pieces = (column.slice(rows[0], len(rows)) for rows in stretches if len(rows))
        return pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks], column.type)


def _as_column(batch: TextBatch, start: int, end: int, type_: pa.DataType) -> pa.ChunkedArray:
    """Some texts of a batch as their column holds them, in pieces that 32-bit offsets can count."""
    if pa.types.is_null(type_):
        return pa.chunked_array([pa.nulls(end - start)])
    texts, pieces = batch.to_arrow(), []
    while start < end:
        stop = int(np.searchsorted(batch.offsets, batch.offsets[start] + _PIECE_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), end)
        pieces.append(texts.slice(start, stop - start).cast(type_))
        start = stop
    return pa.chunked_array(pieces, type_)


def _schema(curated: Curated, recipe: Recipe) -> pa.Schema:
    """The columns of the documents as they are written."""
    schema = curated.shard.schema()
    for index, column in enumerate(schema):
        if (type_ := writable(column.type)) != column.type:
            schema = schema.set(index, column.with_type(type_))
    for stale in recipe.input.derived_from_text:
        if path := find_path(schema, stale):
            schema = schema_with(schema, path, lambda field: field.with_nullable(True))
    return schema


def _write_quarantine(curated: Curated, schema: pa.Schema, recipe: Recipe, output: Place) -> WrittenFile:
    """The quarantined rows with all their columns, their text as bytes, and the reason."""
    rows = np.array(list(curated.unusable), np.int64)
    reasons = pa.array(list(curated.unusable.values()), pa.string())
    path = find_path(schema, recipe.input.text)
    schema = schema_with(schema, path, _as_bytes)
    own = schema.names
    for name, added in (("quarantine_row", pa.int64()), ("quarantine_reason", pa.string())):
        schema = schema.append(pa.field(_free(name, schema.names), added))
    type_ = schema.field(path[0]).type

    def tables() -> Iterator[pa.Table]:
        for first, table in curated.shard.tables():
            start, stop = np.searchsorted(rows, [first, first + table.num_rows])
            columns = _chosen_of(table, rows[start:stop] - first)
            texts = values_in(columns[path[0]], path[1:])
            raw = pa.chunked_array([raw_strings(chunk) for chunk in texts.chunks], pa.large_binary())
            columns[path[0]] = column_with(columns[path[0]], path[1:], raw, type_)
            beside = [pa.array(rows[start:stop]), reasons.slice(start, stop - start)]
            yield pa.Table.from_arrays([*(columns[name] for name in own), *beside], schema=schema)

    return write_parquet(tables(), schema, output, quarantine_path(curated.shard.id))


def _as_bytes(text: pa.Field) -> pa.Field:
    """A field of texts that need not be UTF-8."""
    return pa.field(text.name, pa.binary() if pa.types.is_string(text.type) else pa.large_binary())


def _free(name: str, taken: Sequence[str]) -> str:
    """A name that no column of the input has."""
    return name if name not in taken else _free(f"{name}_", taken)
