"""Annotation layers: columns computed after a run, in files of their own with the rows and the order of `base`.

A layer is never rewritten. Every file names what made it in its footer; `_gneiss/layers/<layer>.json` is written last,
says the same and what was counted, and means that the layer is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from gneiss.errors import DefectError, OutputError, first_line
from gneiss.output.annotation_tables import IDENTITY
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.layout import BASE_LAYER, LAYERS, annotations_folder, annotations_path, layer_file
from gneiss.output.parquet import read_footer, write_bytes, write_parquet
from gneiss.store.place import Place
from gneiss.version import __version__

LAYER_KEY = "gneiss.layer"
#: (shard, index of the first kept document, annotations of a portion) → one array a column, as long as the portion.
Compute: TypeAlias = "Callable[[FinishedShard, int, pa.Table], Mapping[str, pa.Array]]"


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

    def footer(self, run: FinishedRun) -> dict[str, str]:
        """What the footer of each of its files holds."""
        return {LAYER_KEY: json.dumps(self.metadata(run), sort_keys=True)}


@dataclass(frozen=True)
class WrittenLayer:
    """A whole layer: its metadata (with `summary`), and whether it was there before."""

    path: Place
    metadata: Mapping[str, Any]
    was_there: bool


def column(name: str, type_: pa.DataType, meaning: str) -> pa.Field:
    """A field of a layer with its meaning."""
    return pa.field(name, type_, metadata={"meaning": meaning})


def layer_schema(columns: pa.Schema) -> pa.Schema:
    """The columns of a layer's files: those of its own after what identifies a row."""
    return pa.schema([pa.field("row", pa.int64()), pa.field("id", pa.string()), *columns])


def existing_layer(run: FinishedRun, layer: Layer) -> WrittenLayer | None:
    """The layer, if it is there and whole. Raises OutputError when another one has its name."""
    path = run.folder / layer_file(layer.name)
    if path.find() is None:
        return None
    try:
        found = json.loads(path.read())
    except ValueError as error:
        raise OutputError(f"{path}: damaged ({first_line(error)}); choose another layer") from error
    expected = layer.metadata(run)
    # parameters also hold what a pass over the data found (log_z): compare what was asked for; any version will do
    differing = [name for name in ("annotator", "run", "columns") if found.get(name) != expected[name]]
    given = found.get("parameters", {})
    differing += [name for name, value in layer.parameters.items() if given.get(name) != value]
    if differing:
        raise OutputError(
            f"{path}: the layer {layer.name!r} is there already with another {', '.join(differing)}; a layer is never"
            " rewritten: give another layer name"
        )
    return WrittenLayer(path, found, was_there=True)


def write_layer(
    run: FinishedRun,
    layer: Layer,
    reads: Sequence[str],
    compute: Compute,
    summary: Mapping[str, Any],
    check: Callable[[], None] = lambda: None,
    *,
    layers: Sequence[str] = (),
) -> WrittenLayer:
    """Write the files of a layer that are not there yet, and its metadata last; the same call completes a killed one.

    Parameters: `reads`: columns of `base` and of `layers` that `compute` needs; `check`: raises OutputError when the
    output is not held any more. Raises OutputError when a file of another layer is in the way, and when rows do not add
    up.
    """
    metadata, footer = layer.metadata(run), layer.footer(run)[LAYER_KEY]
    for folder in (annotations_folder(layer.name), LAYERS):
        (run.folder / folder).sweep()  # of a process that was killed
    for shard in run.shards:
        path = annotations_path(shard.id, layer.name)
        if (run.folder / path).find() is not None:
            _check_same(run.folder / path, footer, shard)
            continue
        check()
        schema = layer_schema(layer.columns)
        write_parquet(
            _tables(run, shard, schema, reads, layers, compute), schema, run.folder, path, {LAYER_KEY: footer}
        )
    check()
    whole = {**metadata, "summary": dict(summary)}
    content = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(content.encode(), run.folder, layer_file(layer.name))
    return WrittenLayer(run.folder / layer_file(layer.name), whole, was_there=False)


def _tables(
    run: FinishedRun,
    shard: FinishedShard,
    schema: pa.Schema,
    reads: Sequence[str],
    layers: Sequence[str],
    compute: Compute,
) -> Iterator[pa.Table]:
    for first, table in run.batches(shard, reads, layers):
        computed = compute(shard, first, table)
        columns = [table["row"], table["id"], *(computed[name] for name in schema.names[len(IDENTITY) :])]
        if {len(values) for values in columns} != {table.num_rows}:
            raise DefectError(
                f"shard {shard.id}: {table.num_rows} rows came in, others came out; please report this defect"
            )
        yield pa.Table.from_arrays(columns, schema=schema)


def _check_same(path: Place, footer: str, shard: FinishedShard) -> None:
    try:
        parquet = read_footer(path)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: cannot read: {first_line(error)}; delete it and try again") from error
    found = (parquet.metadata or {}).get(LAYER_KEY.encode(), b"").decode()
    if found != footer or parquet.num_rows != shard.rows:
        raise OutputError(
            f"{path}: it was written with other parameters, by another version, or for another run; a layer is never"
            " rewritten: finish it as it was begun, or give another layer name"
        )
