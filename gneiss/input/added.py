"""Columns that a file does not have itself: the keys in the names of its folders, and ids where it has none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.errors import InputError
from gneiss.input.columns import find_path, values_at
from gneiss.input.formats.format import POSITION

#: What asks a shard for made ids, whether its files have ids or not.
MADE_ID = "\0id"
#: The folder of rows whose key is null, as Hive and Spark name it.
_NULL = "__HIVE_DEFAULT_PARTITION__"
#: Where Spark, and Hugging Face's datasets, look for the columns of a Parquet file.
_SPARK, _HUGGINGFACE = b"org.apache.spark.sql.parquet.row.metadata", b"huggingface"
#: What they call our types.
_SPARK_TYPES = {"string": "string", "int64": "long", "float64": "double", "bool": "boolean", "date32": "date"}


@dataclass(frozen=True)
class Key:
    """A key of a folder's name, as `lang=en` has one; type: as a recipe names it; value: None for null."""

    name: str
    type: str
    value: Any

    @property
    def arrow_type(self) -> pa.DataType:
        """Its Arrow type."""
        return pa.type_for_alias(self.type)


@dataclass(frozen=True, slots=True)
class Added:
    """What is added to the columns of a file. id: the column of made ids, if any; file: what they begin with."""

    file: str
    keys: tuple[Key, ...] = ()
    id: str | None = None

    @property
    def types(self) -> dict[str, str]:
        """The names of the columns, in order, and their types."""
        return {**{key.name: key.type for key in self.keys}, **({} if self.id is None else {self.id: "string"})}

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns of a file with these, also in what Spark and Hugging Face's datasets say of them."""
        if not self.types:
            return schema
        fields = [*schema, *(pa.field(name, pa.type_for_alias(type_)) for name, type_ in self.types.items())]
        return pa.schema(fields, _metadata(schema.metadata, self.types))

    def read(self, columns: Sequence[str] | None, counts_rows: bool) -> list[str] | None:
        """The columns that a format must read of a file for these; None: all.

        counts_rows: whether the format's parts do; ids are made of the column POSITION if not.
        """
        if columns is None:
            return None
        made = {self.id, MADE_ID}
        own = [name for name in columns if name not in {*self.types, *made}]
        return own if counts_rows or made.isdisjoint(columns) else [*own, POSITION]

    def table(self, table: pa.Table, columns: Sequence[str] | None, first: int | None) -> pa.Table:
        """Rows of a file with these columns, all or some.

        first: the number of the first row in the file; None: the table has the column POSITION.
        """
        rows = table.num_rows
        if columns is None:
            columns = [*(name for name in table.column_names if name != POSITION), *self.types]
        keys = {key.name: key for key in self.keys}

        def values(name: str) -> pa.Array | pa.ChunkedArray:
            if name in keys:
                return pa.repeat(pa.scalar(keys[name].value, keys[name].arrow_type), rows)
            if name in (self.id, MADE_ID):
                numbers = table[POSITION] if first is None else pa.array(np.arange(first, first + rows))
                return pc.binary_join_element_wise(f"{self.file}#", numbers.cast(pa.string()), "")
            return values_at(table, name)

        if not columns:
            return table.select([])
        return pa.table({name: values(name) for name in columns})


def added_columns(file: str, schema: pa.Schema, hive: Mapping[str, str] | None, id_: str | None) -> Added:
    """What is added to a file's columns: keys that it has no column for, and ids if it has none.

    file: its path relative to the input; hive: types of keys other than strings, None: folders have no keys; id_: the
    column of made ids, None: none are wanted. Raises InputError for a key that cannot be used.
    """
    keys = () if hive is None else tuple(_keys(file, hive))
    if both := next((name for name in hive or () if name in schema.names), None):
        raise InputError(f"its own column {both!r} comes before the key of its folder; take it off `input.hive`")
    keys = tuple(key for key in keys if key.name not in schema.names)
    has_ids = id_ is None or find_path(schema, id_) or id_ in (key.name for key in keys)
    return Added(file, keys, None if has_ids else id_)


def _keys(file: str, types: Mapping[str, str]) -> list[Key]:
    """The keys in the names of a file's folders, the outermost first. Raises InputError."""
    found: dict[str, Key] = {}
    for folder in file.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if not (equals and name):
            continue
        name = _unquoted(name, folder)
        if name in found:
            raise InputError(f"folder {folder!r}: the key {name!r} occurs twice in this path; rename a folder")
        found[name] = _key(name, folder, None if value == _NULL else _unquoted(value, folder), types)
    if lacking := sorted(set(types) - set(found)):
        raise InputError(f"expected a folder {lacking[0]}=…, as `input.hive` of the recipe names it, found none")
    return list(found.values())


def _key(name: str, folder: str, value: str | None, types: Mapping[str, str]) -> Key:
    type_ = types.get(name, "string")
    try:
        return Key(name, type_, pa.scalar(value, pa.string()).cast(pa.type_for_alias(type_)).as_py())
    except pa.ArrowException as error:
        raise InputError(
            f"folder {folder!r}: {value!r} is no {type_}, as `input.hive` of the recipe says; leave it a string"
        ) from error


def _unquoted(text: str, folder: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"folder {folder!r}: its %-escapes are not UTF-8; rename it") from error


def _metadata(metadata: Mapping[bytes, bytes] | None, added: Mapping[str, str]) -> dict[bytes, bytes] | None:
    """The metadata of a schema to which columns were added; what is not as we know it stays as it is."""
    if not metadata:
        return None
    changed = dict(metadata)
    for key, add in ((_SPARK, _to_spark), (_HUGGINGFACE, _to_huggingface)):
        if key in metadata:
            try:
                schema = json.loads(metadata[key])
                add(schema, added)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            changed[key] = json.dumps(schema).encode()
    return changed


def _to_spark(schema: Any, added: Mapping[str, str]) -> None:
    for name, type_ in added.items():
        schema["fields"].append({"name": name, "type": _SPARK_TYPES[type_], "nullable": True, "metadata": {}})


def _to_huggingface(schema: Any, added: Mapping[str, str]) -> None:
    for name, type_ in added.items():
        schema["info"]["features"][name] = {"dtype": type_, "_type": "Value"}
