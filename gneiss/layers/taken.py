"""A column that a layer takes from a published table: its type, and where its values are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from gneiss.errors import InputError
from gneiss.input.columns import find_path, valid_strings, values_in

#: From a column of a table to that of the layer.
Reading: TypeAlias = "Callable[[pa.ChunkedArray], pa.ChunkedArray]"


def as_it_is(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column."""
    return column


@dataclass(frozen=True)
class Taken:
    """A column of a layer; path: of the column, or of the field in it, that its values are read from."""

    name: str
    path: str
    type: pa.DataType
    meaning: str = ""
    read: Reading = as_it_is

    def values(self, table: pa.Table) -> pa.Array:
        """The values for rows of a table; null where a struct lacks the field. Raises ArrowException, InputError."""
        path = find_path(table.schema, self.path)
        if not path:
            return pa.nulls(table.num_rows, self.type)
        values = self.read(values_in(table[path[0]], path[1:])).cast(self.type).combine_chunks()
        if pa.types.is_string(self.type):
            return valid_strings(values).cast(self.type)
        if pa.types.is_nested(self.type):
            values.validate(full=True)
        return values


def layer_type(type_: pa.DataType, of: str) -> pa.DataType:
    """The type that values of a table have in a layer: the same, but for the layouts of strings, bytes and lists.

    Raises InputError for a type that a join cannot carry.
    """
    if pa.types.is_null(type_) or any(
        is_(type_) for is_ in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    ):
        return pa.string()
    if any(is_(type_) for is_ in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        return pa.binary()
    if pa.types.is_dictionary(type_):
        return layer_type(type_.value_type, of)
    if any(is_(type_) for is_ in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        return pa.list_(layer_type(type_.value_type, of))
    if pa.types.is_struct(type_) and len({field.name.casefold() for field in type_}) == type_.num_fields > 0:
        return pa.struct([(field.name, layer_type(field.type, of)) for field in type_])
    if pa.types.is_timestamp(type_) and type_.unit == "s":  # which Parquet has not
        return pa.timestamp("ms", type_.tz)
    is_zoned = pa.types.is_timestamp(type_) and type_.tz is not None
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_date32)
    if any(is_(type_) for is_ in plain) or (pa.types.is_timestamp(type_) and not (is_zoned and type_.unit == "ns")):
        return type_
    raise InputError(f"{of}: a layer cannot take {type_}; name the columns to take, without this one")
