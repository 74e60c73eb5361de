"""Export to Dolma: kept documents, and their annotations as attributes in files of the same names.

`documents/<shard>.json.gz` has a line a document; `attributes/<experiment>/<shard>.json.gz` has for each of them, in
the same order, its id and lists of `[start, end, score]`, spans of its text in characters, by name. A name is, as
Dolma's taggers have it, `experiment__annotation`, or `experiment__annotation__value` for a string.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from gneiss.errors import InputError
from gneiss.export.files import Exported, Source, attribute_types, export_attributes, of_documents
from gneiss.loader.reader import Document
from gneiss.output.jsonl import open_lines
from gneiss.output.parquet import WrittenFile
from gneiss.store.place import Address, Place, place_of

DOCUMENTS, ATTRIBUTES = "documents", "attributes"
_GZIP_LEVEL = 6
_SPAN = {"start", "end", "score"}


def export_dolma(source: Source, folder: Address, *, experiment: str = "gneiss") -> Exported:
    """Write documents, in their order on disk, and the columns that they are read with as attributes. See `Export`.

    Parameters: `experiment`: the folder of attributes, and what their names begin with. A number is one span that is
    the whole text, a boolean 1 or 0, a string 1 under its own name; a missing value, NaN or infinity is no span.
    Raises InputError for other values, and for a document without an id, by which Dolma joins.

    >>> source = documents("curated", layers=["edu"], columns=["prose", "score"])  # doctest: +SKIP
    >>> export_dolma(source, "curated-dolma")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_documents(source, "dolma")
    of, run = source.run.recipe.name, source.run.folder
    kinds = [_Attribute.of(name, type_, experiment, run) for name, type_ in attribute_types(source).items()]

    def as_document(document: Document) -> Mapping[str, Any]:
        if document.id is None:
            raise InputError(f"{document.shard}, row {document.row}: a document without an id, which Dolma needs")
        return {"id": document.id, "text": document.text, "source": of}

    def as_attributes(document: Document) -> Mapping[str, Any]:
        found = dict(kind.spans(document.values[kind.column], len(document.text)) for kind in kinds)
        return {"id": document.id, "source": of, "attributes": found}

    def write(_: int, shard: str, documents: Iterator[Document]) -> list[WrittenFile]:
        with (
            open_lines(target, f"{DOCUMENTS}/{shard}.json.gz", "gzip", _GZIP_LEVEL) as texts,
            open_lines(target, f"{ATTRIBUTES}/{experiment}/{shard}.json.gz", "gzip", _GZIP_LEVEL) as attributes,
        ):
            for document in documents:
                texts.add(_line(as_document(document)))
                attributes.add(_line(as_attributes(document)))
        return [texts.written, attributes.written]

    return export_attributes(source, target, "dolma", (f"{DOCUMENTS}/", f"{ATTRIBUTES}/"), write)


@dataclass(frozen=True)
class _Attribute:
    """An annotation as an attribute. is_spans: its values are lists of spans."""

    column: str
    name: str
    is_spans: bool

    @classmethod
    def of(cls, column: str, type_: pa.DataType, experiment: str, run: Place) -> _Attribute:
        """Raises InputError for a type that has no form in Dolma."""
        name = f"{experiment}__{column.replace('.', '__')}"
        is_plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
        if any(is_kind(type_) for is_kind in is_plain):
            return cls(column, name, is_spans=False)
        if not (pa.types.is_list(type_) and pa.types.is_struct(type_.value_type)):
            raise InputError(f"{run}: column {column!r}: expected numbers, strings or lists of spans, found {type_}")
        if {field.name for field in type_.value_type} != _SPAN:
            raise InputError(f"{run}: column {column!r}: expected spans of start, end and score, found {type_}")
        return cls(column, name.removesuffix("_spans"), is_spans=True)

    def spans(self, value: Any, size: int) -> tuple[str, list[list[Any]]]:
        """Its name, and its spans in a text of this many characters."""
        if value is None:
            return self.name, []
        if self.is_spans:
            return self.name, [[span["start"], span["end"], span["score"]] for span in value]
        if isinstance(value, str):
            return f"{self.name}__{value}", [[0, size, 1.0]]
        return self.name, [[0, size, float(value)]] if math.isfinite(value) else []


def _line(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
