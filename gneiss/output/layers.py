"""Annotation layers: columns computed after a run, in files of their own with the rows and the order of `base`.

A layer is never rewritten. Every file names what made it in its footer; `_gneiss/layers/<layer>.json` is written last,
says the same and what was counted, and means that the layer is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.errors import InputError, OutputError, first_line
from gneiss.output.finished_run import FinishedRun, FinishedShard, kept_mask, open_run, read_batches
from gneiss.output.layout import BASE, BASE_LAYER, LAYERS, annotations_folder, annotations_path, layer_file
from gneiss.output.parquet import write_bytes, write_parquet
from gneiss.recipe.rule import did_you_mean
from gneiss.version import __version__

LAYER_KEY = "gneiss.layer"
IDENTITY = ("row", "id")
#: (index of the first kept document, annotations of a portion) → one array a column, as long as the portion.
Compute: TypeAlias = "Callable[[int, pa.Table], Mapping[str, pa.Array]]"


@dataclass(frozen=True)
class Layer:
    """What a layer is: its name, what computes it, with which parameters, its columns and their meanings.

    parameters: plain JSON values; a field's metadata `meaning` says what it is.
    """

    name: str
    annotator: str
    parameters: Mapping[str, Any]
    columns: pa.Schema

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", self.name) or self.name == BASE_LAYER:
            raise OutputError(
                f"layer {self.name!r}: expected a lower-case name of letters and digits, not `{BASE_LAYER}`"
            )

    def metadata(self, run: FinishedRun) -> dict[str, Any]:
        """What fixes its bytes: annotator, version, parameters, columns, and the run."""
        return {
            "layer": self.name,
            "annotator": self.annotator,
            "gneiss": __version__,
            "run": run.digest,
            "parameters": dict(self.parameters),
            "columns": {
                field.name: {"type": str(field.type), "meaning": (field.metadata or {}).get(b"meaning", b"").decode()}
                for field in self.columns
            },
        }


@dataclass(frozen=True)
class WrittenLayer:
    """A whole layer: its metadata (with `summary`), and whether it was there before."""

    path: Path
    metadata: Mapping[str, Any]
    was_there: bool


def column(name: str, type_: pa.DataType, meaning: str) -> pa.Field:
    """A field of a layer with its meaning."""
    return pa.field(name, type_, metadata={"meaning": meaning})


def existing_layer(run: FinishedRun, layer: Layer) -> WrittenLayer | None:
    """The layer, if it is there and whole. Raises OutputError when another one has its name."""
    path = run.folder / layer_file(layer.name)
    if not path.is_file():
        return None
    try:
        metadata = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise OutputError(f"{path}: damaged ({first_line(error)}); choose another layer") from error
    expected = layer.metadata(run)
    # parameters also hold what a pass over the data found (log_z): compare what was asked for; any version will do
    differing = [name for name in ("annotator", "run", "columns") if metadata.get(name) != expected[name]]
    given = metadata.get("parameters", {})
    differing += [name for name, value in layer.parameters.items() if given.get(name) != value]
    if differing:
        raise OutputError(
            f"{path}: the layer {layer.name!r} is there already with another {', '.join(differing)}; a layer is never"
            " rewritten: give another layer name"
        )
    return WrittenLayer(path, metadata, was_there=True)


def write_layer(
    run: FinishedRun, layer: Layer, reads: Sequence[str], compute: Compute, summary: Mapping[str, Any]
) -> WrittenLayer:
    """Write the files of a layer that are not there yet, and its metadata last; the same call completes a killed one.

    Parameters: `reads`: columns of `base` that `compute` needs. Raises OutputError when a file of another layer is in
    the way, and when rows do not add up.
    """
    metadata = layer.metadata(run)
    footer = json.dumps(metadata, sort_keys=True)
    _remove_leftovers(run.folder, layer.name)
    for shard in run.shards:
        path = annotations_path(shard.id, layer.name)
        if (run.folder / path).exists():
            _check_same(run.folder / path, footer, shard)
            continue
        schema = pa.schema([pa.field("row", pa.int64()), pa.field("id", pa.string()), *layer.columns])
        write_parquet(_tables(run, shard, schema, reads, compute), schema, run.folder, path, {LAYER_KEY: footer})
    whole = {**metadata, "summary": dict(summary)}
    content = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(content.encode(), run.folder, layer_file(layer.name))
    return WrittenLayer(run.folder / layer_file(layer.name), whole, was_there=False)


def _remove_leftovers(folder: Path, layer: str) -> None:
    """Unfinished files of a process that was killed."""
    files, layers = folder / annotations_folder(layer), folder / LAYERS
    for leftover in (*files.rglob(".*.part"), *layers.glob(f".{layer}.json.*.part")):
        leftover.unlink(missing_ok=True)


def _tables(
    run: FinishedRun, shard: FinishedShard, schema: pa.Schema, reads: Sequence[str], compute: Compute
) -> Iterator[pa.Table]:
    for first, table in run.batches(shard, reads):
        computed = compute(first, table)
        columns = [table["row"], table["id"], *(computed[name] for name in schema.names[len(IDENTITY) :])]
        if {len(values) for values in columns} != {table.num_rows}:
            raise OutputError(
                f"shard {shard.id}: {table.num_rows} rows came in, others came out; please report this defect"
            )
        yield pa.Table.from_arrays(columns, schema=schema)


def _check_same(path: Path, footer: str, shard: FinishedShard) -> None:
    try:
        parquet = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: cannot read: {first_line(error)}; delete it and try again") from error
    found = (parquet.metadata or {}).get(LAYER_KEY.encode(), b"").decode()
    if found != footer or parquet.num_rows != shard.rows:
        raise OutputError(
            f"{path}: it was written with other parameters, by another version, or for another run; a layer is never"
            " rewritten: finish it as it was begun, or give another layer name"
        )


def check_layers(run: FinishedRun, layers: Sequence[str]) -> dict[str, Any]:
    """Layer → its metadata. Raises InputError when one is not there, not whole, or of another run."""
    metadata = {}
    for layer in layers:
        path = run.folder / layer_file(layer)
        if not path.is_file():
            there = [path.stem for path in sorted((run.folder / LAYERS).glob("*.json"))]
            raise InputError(
                f"{run.folder}: no whole layer {layer!r}{did_you_mean(layer, there)}; `gneiss weights` writes weights"
            )
        metadata[layer] = json.loads(path.read_text("utf-8"))
        if metadata[layer]["run"] != run.digest:
            raise InputError(
                f"{path}: the run has changed since the layer {layer!r} was written; write one of another name"
            )
    return metadata


def annotation_names(run: FinishedRun, shard: FinishedShard, layers: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Every annotation of `base` and of layers → the layer that holds it, and its name there.

    A layer's column whose name is taken already is called `<layer>.<column>`. Raises InputError.
    """
    try:
        taken = {name: (BASE_LAYER, name) for name in pq.read_schema(run.annotations(shard)).names}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{run.annotations(shard)}: cannot read: {first_line(error)}") from error
    for layer in layers:
        names = _layer_names(run.folder / annotations_path(shard.id, layer), shard)
        taken.update({(f"{layer}.{name}" if name in taken else name): (layer, name) for name in names})
    return taken


def joined(
    run: FinishedRun, shard: FinishedShard, layers: Sequence[str], columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Annotations of a shard with those of its layers, in portions; joined by row, checked by id.

    Parameters: `columns`: names as `annotation_names` has them, all by default. Raises InputError naming the file whose
    rows are not those of `base`, and for an unknown column.
    """
    taken = annotation_names(run, shard, layers)
    wanted = list(taken) if columns is None else list(columns)
    if unknown := [name for name in wanted if name not in taken]:
        raise InputError(f"{run.folder}: no annotation {unknown[0]!r}{did_you_mean(unknown[0], taken)}")

    def of(part: str) -> list[str]:
        return [name for whose, name in map(taken.__getitem__, wanted) if whose == part]

    sides = [read_batches(run.folder / annotations_path(shard.id, layer), [*IDENTITY, *of(layer)]) for layer in layers]
    for (_, table), *others in zip(run.batches(shard, of(BASE_LAYER)), *sides, strict=True):
        parts = {BASE_LAYER: table, **dict(zip(layers, others, strict=True))}
        for layer, other in zip(layers, others, strict=True):
            _check_rows(run.folder / annotations_path(shard.id, layer), table, other)
        found = {name: parts[part][own] for name, (part, own) in ((name, taken[name]) for name in wanted)}
        yield pa.table({**{name: table[name] for name in ("row", "id", "status")}, **found})


def joined_annotations(
    output: str | Path, layers: Sequence[str] = (), columns: Sequence[str] | None = None, *, kept: bool = False
) -> pa.Table:
    """All annotations of a run with those of some layers: a row for every input row (or kept document) of all shards.

    Parameters: `layers`: names; `columns`: only these, beside shard, row, id and status. Raises InputError.

    >>> joined_annotations("curated", layers=["weights"], columns=["log_prior"])  # doctest: +SKIP
    """
    run = open_run(output)
    check_layers(run, layers)
    tables = [
        (table.filter(pa.array(kept_mask(table))) if kept else table, shard.id)
        for shard in run.shards
        for table in joined(run, shard, layers, columns)
    ]
    if not tables:
        raise InputError(f"{output}: the run has no rows")
    named = (t.add_column(0, "shard", pa.array([shard_id] * t.num_rows, pa.string())) for t, shard_id in tables)
    return pa.concat_tables(named)


def _layer_names(path: Path, shard: FinishedShard) -> list[str]:
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}") from error
    if metadata.num_rows != shard.rows:
        raise InputError(
            f"{path}: expected {shard.rows} rows, as {BASE} has, found {metadata.num_rows}; the file belongs"
            " to another run"
        )
    return [name for name in metadata.schema.to_arrow_schema().names if name not in IDENTITY]


def _check_rows(path: Path, base: pa.Table, layer: pa.Table) -> None:
    for name in IDENTITY:
        if layer.num_rows != base.num_rows or not base[name].equals(layer[name]):
            raise InputError(f"{path}: its {name} column is not that of {BASE}; the file belongs to another run")
