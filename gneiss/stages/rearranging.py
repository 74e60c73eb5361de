"""What rows need on their way into new files: ranges of random keys, columns of one schema, any number of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.errors import InputError, OutputError

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def range_of(keys: UInt64Array, count: int | Int64Array) -> Int64Array:
    """Which of `count` equal ranges of keys each one is in, from 0; count < 2³¹, one for all or one for each.

    >>> range_of(np.array([0, 1 << 62, (1 << 64) - 1], np.uint64), 4).tolist()
    [0, 1, 3]
    """
    return (((keys >> np.uint64(32)) * np.asarray(count).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema: those that it lacks are null, those of other types are cast."""

    def column(field: pa.Field) -> pa.ChunkedArray | pa.Array:
        if field.name not in table.column_names:
            return pa.nulls(table.num_rows, field.type)
        column = table[field.name]
        return column if column.type == field.type else column.cast(field.type)

    return pa.Table.from_arrays([column(field) for field in schema], schema=schema)


def wide(table: pa.Table) -> pa.Table:
    """A table in types whose rows can be taken, however many bytes they have: 64-bit offsets, no views."""
    return table.cast(wide_schema(table.schema))


def wide_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of such a table."""
    return pa.schema([field.with_type(_wide(field.type)) for field in schema])


def _wide(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_string(type_) or pa.types.is_string_view(type_):
        return pa.large_string()
    if pa.types.is_binary(type_) or pa.types.is_binary_view(type_):
        return pa.large_binary()
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_wide(type_.value_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_wide(field.type)) for field in type_])
    return type_


def raised_as_output(tables: Iterator[Rows]) -> Iterator[Rows]:
    """Tables or batches; what is wrong with the run that they are of ends the whole job."""
    try:
        yield from tables
    except InputError as error:
        raise OutputError(str(error)) from error
