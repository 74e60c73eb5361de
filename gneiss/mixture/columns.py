"""What documents of a mixture have, and what is known of them: the columns and annotations that all sources share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from gneiss.annotation import Annotator, arrow_type
from gneiss.curate.statistics import KEPT
from gneiss.input.columns import find_path
from gneiss.mixture.survey import Source
from gneiss.recipe.columns import BASE_COLUMNS, ORIGIN
from gneiss.recipe.entries import written
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.yaml_text import write_yaml
from gneiss.stages.rearranging import wide_schema
from gneiss.store.at_once import at_once

#: Columns of both, beside `id`: the source and bucket of a document, which of its copies it is, from 0, and its tokens.
MIXED = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("bucket", pa.string()),
        pa.field("copy", pa.int64()),
        pa.field("tokens", pa.int64()),
    ]
)
_ID, _TEXT = pa.field("id", pa.string()), pa.field("text", pa.large_string())
_HASH = pa.field("content_hash", pa.binary(16))
_ORIGIN = pa.schema(list(zip(ORIGIN, (pa.string(), pa.int64()), strict=True)))
#: How columns of the input are called on their way, so that none has the name of another one.
OTHER = "other."
#: How annotations that a mixture keeps are called on their way, likewise.
NOTED = "noted."
PHASE = "mixture"


@dataclass(frozen=True)
class Columns:
    """The columns of a mixture.

    others: of the input, beside id and text; annotators: whose annotations all sources have; left_out: column of the
    input → why it is not among them.
    """

    others: tuple[pa.Field, ...]
    annotators: tuple[Annotator, ...]
    left_out: Mapping[str, str]

    @cached_property
    def documents(self) -> pa.Schema:
        """The columns of `data/`."""
        return pa.schema([_ID, _TEXT, *self.others, *MIXED])

    @cached_property
    def noted(self) -> tuple[pa.Field, ...]:
        """The annotations that all sources have."""
        own = (column for annotator in self.annotators for column in annotator.columns)
        return tuple(pa.field(column.name, arrow_type(column.type)) for column in (*BASE_COLUMNS, *own))

    @cached_property
    def read(self) -> dict[str, str]:
        """The annotations to read of each source, by their names on their way."""
        return {_HASH.name: _HASH.name, **{NOTED + field.name: field.name for field in self.noted}}

    @cached_property
    def annotations(self) -> pa.Schema:
        """The columns of the annotations: as those of any run, with source, bucket and copy, and the row it was."""
        names = {field.name for field in self.noted}
        return pa.schema(
            [
                pa.field("row", pa.int64()),
                _ID,
                *(pa.field(name, pa.string()) for name in ("status", "reason", "dropped_in")),
                *(pa.field(name, pa.list_(pa.string())) for name in ("failed", "decisive")),
                _HASH,
                *self.noted,
                *(field for field in MIXED if field.name not in names),
                *_ORIGIN,
            ]
        )

    @cached_property
    def scattered(self) -> pa.Schema:
        """Both together, as rows are on their way."""
        noted = (field.with_name(NOTED + field.name) for field in self.noted)
        others = (field.with_name(OTHER + field.name) for field in self.others)
        return wide_schema(pa.schema([_ID, _TEXT, _HASH, *MIXED, *_ORIGIN, *others, *noted]))

    def documents_of(self, rows: pa.Table) -> pa.Table:
        """The documents of rows on their way."""
        found = {name: rows[name] for name in (_ID.name, _TEXT.name, *MIXED.names)}
        found |= {field.name: rows[OTHER + field.name] for field in self.others}
        return _cast(found, self.documents)

    def annotations_of(self, rows: pa.Table, first: int) -> pa.Table:
        """Their annotations; first: the number of the first row."""
        count = rows.num_rows
        none = pa.nulls(count, pa.string())
        no_rules = pa.array([[]] * count, pa.list_(pa.string()))
        found = {name: rows[name] for name in (_ID.name, _HASH.name, *MIXED.names, *ORIGIN)}
        found |= {field.name: rows[NOTED + field.name] for field in self.noted}
        found |= {"row": pa.array(np.arange(first, first + count)), "status": pa.array([KEPT] * count, pa.string())}
        found |= {"reason": none, "dropped_in": none, "failed": no_rules, "decisive": no_rules}
        return _cast(found, self.annotations)

    def recipe(self, description: str, shard_bytes: int, seed: int) -> Recipe:
        """What a run is said to be of: the annotators, and no rules."""
        said = {
            "name": PHASE,
            "description": description,
            "output": {"shard_bytes": shard_bytes, "shuffle_seed": seed},
            "phases": [{"name": PHASE, "annotate": [written(annotator) for annotator in self.annotators]}],
        }
        return Recipe.parse(write_yaml(said), PHASE)


def columns_of(sources: Sequence[Source]) -> Columns:
    """The columns that the documents of all sources have, of one type. Raises InputError for a damaged file."""
    found: dict[str, dict[str, pa.DataType | None]] = {}
    left_out: dict[str, str] = {}
    for source in sources:
        for name, type_ in _types(source):
            found.setdefault(name, {})[source.name] = type_
    others = []
    for name, types in found.items():
        if name in MIXED.names:
            left_out[name] = "a mixture has a column of this name"
        elif name in (_ID.name, _TEXT.name):
            left_out[name] = "another column is the id or the text"
        elif len(types) < len(sources):
            left_out[name] = f"only {', '.join(types)} has it"
        elif len(set(types.values())) > 1 or None in types.values():
            shown = (f"{type_ or 'several types'} in {source}" for source, type_ in types.items())
            left_out[name] = f"its types differ: {', '.join(shown)}"
        else:
            others.append(pa.field(name, next(iter(types.values()))))
    return Columns(tuple(others), tuple(shared_annotators(sources)), left_out)


def shared_annotators(sources: Sequence[Source]) -> list[Annotator]:
    """The annotators that all runs have, with the same parameters and model files.

    Of these, those that read texts, or annotations of such ones.
    """
    known = [{_as_given(source, annotator): annotator for annotator in _annotators(source)} for source in sources]
    shared = [annotator for given, annotator in known[0].items() if all(given in other for other in known[1:])]
    own = {*MIXED.names, *ORIGIN} - {"tokens"}
    while True:
        readable = {column.name for column in BASE_COLUMNS}
        readable |= {column.name for annotator in shared for column in annotator.columns}
        left = [
            annotator
            for annotator in shared
            if annotator.reads == "text"
            and readable.issuperset(annotator.reads_annotations)
            and own.isdisjoint(column.name for column in annotator.columns)
        ]
        if len(left) == len(shared):
            return shared
        shared = left


def _annotators(source: Source) -> Iterator[Annotator]:
    return (annotator for phase in source.run.recipe.phases for annotator in phase.annotators)


def _as_given(source: Source, annotator: Annotator) -> str:
    models = source.run.identity.get("models", {})
    return json.dumps([written(annotator), [models.get(file) for file in annotator.model_files]], sort_keys=True)


def _types(source: Source) -> Iterator[tuple[str, pa.DataType | None]]:
    """The columns of a run's documents beside id and text, with a type for all shards; None where none fits all."""
    run = source.run
    by_name: dict[str, list[pa.Field]] = {}
    for schema in at_once(run.data_schema, run.shards):
        own = {path[0] for name in (run.text, run.id) if name and (path := find_path(schema, name))}
        for field in schema:
            if field.name not in own:
                type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
                by_name.setdefault(field.name, []).append(pa.field(field.name, type_))
    for name, fields in by_name.items():
        try:
            whole = pa.unify_schemas([pa.schema([field]) for field in fields], promote_options="permissive")
            yield name, whole.field(0).type
        except pa.ArrowException:
            yield name, None


def _cast(columns: Mapping[str, pa.ChunkedArray | pa.Array], schema: pa.Schema) -> pa.Table:
    """Columns in the order and the types of a schema."""
    return pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)
