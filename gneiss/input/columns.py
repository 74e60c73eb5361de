"""Columns by name, and fields of structs by path: `metadata.url` is the field `url` of the column `metadata`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.compute as pc


def find_path(schema: pa.Schema, name: str) -> tuple[str, ...]:
    """The column that a name means, and the fields on the way through it; empty where there is none.

    A column whose own name has dots comes before a path.

    >>> schema = pa.schema([("metadata", pa.struct([("url", pa.string())])), ("a.b", pa.string())])
    >>> find_path(schema, "metadata.url"), find_path(schema, "a.b"), find_path(schema, "url")
    (('metadata', 'url'), ('a.b',), ())
    """
    return _find(schema, name)


def leaf_names(fields: pa.Schema | pa.StructType, prefix: str = "") -> Iterator[str]:
    """The names of all columns, and for a struct the paths of its fields."""
    for field in fields:
        name = f"{prefix}{field.name}"
        if pa.types.is_struct(field.type):
            yield from leaf_names(field.type, f"{name}.")
        else:
            yield name


def field_at(schema: pa.Schema, path: Sequence[str]) -> pa.Field:
    """The field that a path leads to."""
    field = schema.field(path[0])
    for name in path[1:]:
        field = field.type.field(name)
    return field


def values_at(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The values that a name means, null where a struct around them is. Raises KeyError where there are none."""
    path = find_path(table.schema, name)
    if not path:
        raise KeyError(name)
    return values_in(table[path[0]], path[1:])


def values_in(column: pa.ChunkedArray, within: Sequence[str]) -> pa.ChunkedArray:
    """The values of a column, or of the field that a path within it leads to, null where a struct around them is."""
    for name in within:
        column = pc.struct_field(column, [column.type.get_field_index(name)])
    return column


def schema_with(schema: pa.Schema, path: Sequence[str], change: Callable[[pa.Field], pa.Field]) -> pa.Schema:
    """A schema in which the field that a path leads to is another one."""
    index = schema.get_field_index(path[0])
    return schema.set(index, _changed(schema.field(index), path[1:], change))


def column_with(
    column: pa.ChunkedArray, within: Sequence[str], values: pa.ChunkedArray, type_: pa.DataType
) -> pa.ChunkedArray:
    """A column in which the values of a field are other ones; `type_`: the type that the column has with them."""
    if not within:
        return values.cast(type_)
    ends = {*accumulate(map(len, column.chunks)), *accumulate(map(len, values.chunks))}
    pieces = [
        _struct_with(
            column.slice(start, end - start).chunk(0), within, values.slice(start, end - start).chunk(0), type_
        )
        for start, end in pairwise(sorted({0, *ends}))
    ]
    return pa.chunked_array(pieces, type_)


def valid_strings(strings: pa.Array) -> pa.Array:
    """Strings, in which bytes that are not UTF-8 are U+FFFD."""
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        if pa.types.is_string_view(strings.type):
            raw = strings.view(pa.binary_view())
        else:
            raw = strings.view(pa.large_binary() if pa.types.is_large_string(strings.type) else pa.binary())
        return pa.array(
            [None if value is None else value.decode("utf-8", "replace") for value in raw.to_pylist()],
            pa.large_string(),
        )
    return strings


def _find(fields: pa.Schema | pa.StructType, name: str) -> tuple[str, ...]:
    if fields.get_field_index(name) >= 0:
        return (name,)
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        first = ".".join(parts[:count])
        index = fields.get_field_index(first)
        type_ = fields.field(index).type if index >= 0 else pa.null()
        rest = _find(type_, ".".join(parts[count:])) if pa.types.is_struct(type_) else ()
        if rest:
            return (first, *rest)
    return ()


def _changed(field: pa.Field, within: Sequence[str], change: Callable[[pa.Field], pa.Field]) -> pa.Field:
    if not within:
        return change(field)
    fields = list(field.type)
    at = field.type.get_field_index(within[0])
    fields[at] = _changed(fields[at], within[1:], change)
    return field.with_type(pa.struct(fields))


def _struct_with(struct: pa.StructArray, within: Sequence[str], values: pa.Array, type_: pa.StructType) -> pa.Array:
    children = [struct.field(index) for index in range(struct.type.num_fields)]
    at = type_.get_field_index(within[0])
    of_field = type_.field(at).type
    children[at] = _struct_with(children[at], within[1:], values, of_field) if within[1:] else values.cast(of_field)
    mask = struct.is_null() if struct.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(type_), mask=mask)
