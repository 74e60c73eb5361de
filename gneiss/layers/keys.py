"""Keys: the columns by which the rows of a published table are those of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from gneiss.errors import InputError, did_you_mean
from gneiss.input.columns import field_at, find_path, leaf_names
from gneiss.layers.surt import surt

#: The column of Common Crawl's tables that has SURT keys, which URLs of documents are made into.
SURT_COLUMN = "url_surtkey"


@dataclass(frozen=True)
class Key:
    """A column of a table, and the column of documents that has the same values."""

    in_table: str
    in_documents: str

    @property
    def is_surt(self) -> bool:
        """Whether URLs of documents are compared by their SURT keys."""
        return self.in_table.rpartition(".")[2] == SURT_COLUMN

    def __str__(self) -> str:
        return self.in_table if self.in_table == self.in_documents else f"{self.in_table}={self.in_documents}"

    def of_documents(self, column: pa.ChunkedArray) -> pa.Array:
        """The keys of documents, as `comparable` has them."""
        keys = comparable(column)
        if not self.is_surt:
            return keys
        made = (None if key is None else surt(key) for key in keys.to_pylist())
        return pa.array([None if key is None else key.encode() for key in made], pa.large_binary())


def parse_keys(names: Sequence[str], schema: pa.Schema, table: str) -> tuple[Key, ...]:
    """The keys that `COLUMN` or `COLUMN_OF_TABLE=COLUMN_OF_DOCUMENTS` name, of a table with these columns.

    `url` is a table's `url_surtkey` where it has no `url`. Raises InputError for a column that is not there, or is of
    no type that a key can have.
    """
    if not names:
        raise InputError(f"{table}: name the column to join on, such as id, url, or COLUMN_OF_TABLE=id")
    keys = []
    for name in names:
        in_table, _, in_documents = name.partition("=")
        if name == "url" and not find_path(schema, "url") and find_path(schema, SURT_COLUMN):
            in_table, in_documents = SURT_COLUMN, "url"
        path = find_path(schema, in_table)
        if not path:
            raise InputError(f"{table}: no column {in_table!r} to join on{did_you_mean(in_table, leaf_names(schema))}")
        check_type(field_at(schema, path).type, f"{table}: column {in_table!r}")
        keys.append(Key(in_table, in_documents or in_table))
    return tuple(keys)


def check_type(type_: pa.DataType, of: str) -> None:
    """Raise InputError when a column is of no type that a key can have."""
    if not (is_text(type_) or pa.types.is_timestamp(type_)):
        raise InputError(
            f"{of}: expected strings to join on, or times, found {type_}; ids of documents are strings: cast it"
        )


def is_text(type_: pa.DataType) -> bool:
    """Whether a column holds strings, in whatever layout."""
    if pa.types.is_dictionary(type_):
        return is_text(type_.value_type)
    kinds = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view
    return any(is_kind(type_) for is_kind in kinds)


def comparable(column: pa.ChunkedArray) -> pa.Array:
    """The values of a key as bytes; times in ISO 8601, in UTC and to the second, as the `date` of FineWeb is."""
    if pa.types.is_timestamp(column.type):
        seconds = pc.floor_temporal(column, unit="second").cast(pa.timestamp("s", column.type.tz and "UTC"))
        column = pc.strftime(seconds, format="%Y-%m-%dT%H:%M:%SZ")
    return column.cast(pa.large_string()).cast(pa.large_binary()).combine_chunks()
