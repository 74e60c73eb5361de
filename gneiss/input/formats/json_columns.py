"""Columns of scanned lines: one type a column, from all values that a shard has, and their values in Arrow's layout."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from gneiss.arrays import BoolArray, Int32Array, Int64Array, UInt8Array
from gneiss.input.formats import json_scan as scan
from gneiss.input.formats import json_tree
from gneiss.input.formats.json_scan import Scanned
from gneiss.input.formats.json_tree import Tree
from gneiss.input.formats.json_values import PADDING, unescape

_INTEGERS = json_tree.INT | json_tree.NEGATIVE | json_tree.WIDE
_UNSIGNED = json_tree.INT | json_tree.WIDE | json_tree.UNSIGNED
#: Numbers that a double holds to the last digit, as far as it does.
_DOUBLES = json_tree.INT | json_tree.NEGATIVE | json_tree.FLOAT
_SCALARS = (
    (json_tree.BOOL, pa.bool_()),
    (_INTEGERS, pa.int64()),
    (_UNSIGNED, pa.uint64()),
    (_DOUBLES, pa.float64()),
    (json_tree.STRING, pa.string()),
)
#: What a type says of the kinds of values that it held.
_NOTED = {
    pa.null(): json_tree.NULL,
    pa.bool_(): json_tree.BOOL,
    pa.int64(): json_tree.INT | json_tree.NEGATIVE,
    pa.uint64(): json_tree.INT | json_tree.UNSIGNED,
    pa.float64(): json_tree.FLOAT,
    pa.string(): json_tree.STRING,
}
#: Metadata of a column that holds JSON.
AS_JSON = {b"gneiss.holds": b"JSON"}
#: Deeper lists and structs than these are no columns that other readers take.
_MOST_LEVELS = 16


@dataclass(frozen=True)
class Column:
    """A column, or a field of a struct: its node; `is_json`: it holds values as the JSON that they are."""

    name: str
    node: int
    type: pa.DataType
    is_json: bool
    members: tuple[Column, ...] = ()


def columns_of(tree: Tree, text: Sequence[int] = ()) -> tuple[Column, ...]:
    """The columns of rows, in the order in which their keys first occurred. text: the nodes on the way to the text."""
    return tuple(_column(tree, node, text) for node in tree.members(0))


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """The columns as a schema, which says of those that are JSON that they are."""
    return pa.schema(
        [pa.field(column.name, column.type, metadata=AS_JSON if column.is_json else None) for column in columns]
    )


def note(tree: Tree, schema: pa.Schema) -> None:
    """Add columns to a tree, as if rows had had them."""
    for column in schema:
        _note(tree, tree.child(0, column.name), column.type, column.metadata == AS_JSON)


def _note(tree: Tree, node: int, type_: pa.DataType, is_json: bool = False) -> None:
    if node < 0:
        return
    if is_json:
        tree.kinds[node] |= json_tree.MANY
    elif pa.types.is_struct(type_):
        tree.kinds[node] |= json_tree.OBJECT
        for member in type_:
            _note(tree, tree.child(node, member.name), member.type, member.metadata == AS_JSON)
    elif pa.types.is_list(type_):
        tree.kinds[node] |= json_tree.ARRAY
        _note(tree, tree.child(node, None), type_.value_type)
    else:
        tree.kinds[node] |= _NOTED[type_]


def _column(tree: Tree, node: int, text: Sequence[int], level: int = 0) -> Column:
    name, members = tree.name(node) or "", tree.members(node)
    if node in text[-1:]:
        return Column(name, node, pa.string(), False)
    is_struct = _kinds(tree, node) == json_tree.OBJECT and members and level < _MOST_LEVELS
    if node in text or is_struct:
        inner = tuple(_column(tree, member, text, level + 1) for member in members)
        return Column(name, node, pa.struct(schema_of(inner)), False, inner)
    type_ = _type(tree, node, level)
    return Column(name, node, pa.string() if type_ is None else type_, type_ is None)


def _kinds(tree: Tree, node: int) -> int:
    return int(tree.kinds[node]) & ~json_tree.NULL


def _type(tree: Tree, node: int, level: int) -> pa.DataType | None:
    """The type that holds all values that a node has had; None: only their JSON does."""
    kinds = _kinds(tree, node)
    if not kinds:
        return pa.null()
    for held, type_ in _SCALARS:
        if not kinds & ~held:
            return type_
    members = tree.members(node)
    types = [_type(tree, member, level + 1) for member in members]
    if level == _MOST_LEVELS or None in types:
        return None
    if kinds == json_tree.OBJECT and members:
        return pa.struct([(tree.name(member), type_) for member, type_ in zip(members, types, strict=True)])
    if kinds == json_tree.ARRAY:
        return pa.list_(types[0] if types else pa.null())
    return None


def array_of(rows: Scanned, column: Column, made: Mapping[int, pa.Array]) -> pa.Array:
    """The values of a column, (rows,). made: those of nodes that are there already."""
    if column.node in made:
        return made[column.node]
    cells = np.flatnonzero(rows.node == column.node)
    count, type_ = len(rows), column.type
    kind = np.zeros(count, np.int32)
    start, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
    at = rows.row[cells]
    kind[at], start[at], end[at] = rows.kind[cells], rows.value_start[cells], rows.value_end[cells]
    is_null = kind == scan.IS_NULL
    start[is_null] = end[is_null] = 0
    plain = np.zeros(count, np.bool_)
    if column.is_json:
        quotes = (kind == scan.IS_STRING) | (kind == scan.IS_ESCAPED)
        return _strings(rows.data, start - quotes, end + quotes, plain, is_null)
    if pa.types.is_null(type_):
        return pa.nulls(count)
    if pa.types.is_string(type_):
        return _strings(rows.data, start, end, kind == scan.IS_ESCAPED, is_null)
    if pa.types.is_boolean(type_):
        return pa.array(kind == scan.IS_TRUE, type_, mask=is_null)
    if pa.types.is_integer(type_):
        values = _integers(rows.data, start, end)
        return pa.array(values if type_ == pa.uint64() else values.view(np.int64), type_, mask=is_null)
    if pa.types.is_floating(type_):
        return pc.cast(_strings(rows.data, start, end, plain, is_null), type_)
    if pa.types.is_struct(type_):
        members = [array_of(rows, member, made) for member in column.members]
        return pa.StructArray.from_arrays(members, fields=list(type_), mask=pa.array(is_null))
    return _lists(rows.data, start, end, type_)


def _strings(data: UInt8Array, start: Int64Array, end: Int64Array, escaped: BoolArray, is_null: BoolArray) -> pa.Array:
    """Bytes of `data` as strings, null where the mask says so."""
    out, offsets = copied(data, start, end, escaped)
    valid = None
    if is_null.any():
        valid = pa.array(~is_null).buffers()[1]
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(out).slice(0, int(offsets[-1]))]
    return pa.StringArray.from_buffers(len(start), buffers[1], buffers[2], valid, -1 if valid else 0)


def copied(data: UInt8Array, start: Int64Array, end: Int64Array, escaped: BoolArray) -> tuple[UInt8Array, Int32Array]:
    """Pieces of `data` in a row, with PADDING, escaped ones as what they mean; where each begins and ends."""
    out = np.empty(int((end - start).sum()) + PADDING, np.uint8)
    offsets = np.empty(len(start) + 1, np.int32)
    _copy(data, np.ascontiguousarray(start), np.ascontiguousarray(end), escaped, out, offsets)
    return out, offsets


@njit(cache=True, nogil=True)
def _copy(data, start, end, escaped, out, offsets):  # type: ignore[no-untyped-def]
    to = 0
    offsets[0] = 0
    for row in range(len(start)):
        if escaped[row]:
            to = unescape(data, start[row], end[row], out, to)
        else:
            size = end[row] - start[row]
            out[to : to + size] = data[start[row] : end[row]]
            to += size
        offsets[row + 1] = to


@njit(cache=True, nogil=True)
def _integers(data, start, end):  # type: ignore[no-untyped-def]
    """Integers of 64 bits, of two's complement where they are negative; 0 where there are no digits."""
    values = np.zeros(len(start), np.uint64)
    for row in range(len(start)):
        value = np.uint64(0)
        is_negative = start[row] < end[row] and data[start[row]] == 45
        for at in range(start[row] + is_negative, end[row]):
            value = value * np.uint64(10) + np.uint64(data[at] - 48)
        values[row] = np.uint64(0) - value if is_negative else value
    return values


def _lists(data: UInt8Array, start: Int64Array, end: Int64Array, type_: pa.DataType) -> pa.Array:
    """Arrays of JSON, which pyarrow reads with the type given; null where there are none."""
    import pyarrow.json as pj

    lines = io.BytesIO()
    view = data.data
    for low, high in zip(start.tolist(), end.tolist(), strict=True):
        lines.write(b'{"c":' + bytes(view[low:high]) + b"}\n" if high > low else b"{}\n")
    size = lines.tell()
    lines.seek(0)
    found = pj.read_json(
        lines,
        read_options=pj.ReadOptions(use_threads=False, block_size=size + 1),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema([("c", _without_nulls(type_))]), unexpected_field_behavior="error"
        ),
    )["c"]
    return _with_nulls(found.combine_chunks(), type_)


def _without_nulls(type_: pa.DataType) -> pa.DataType:
    """A type with truth values in the place of nothing but nulls, which pyarrow counts wrongly in lists."""
    if pa.types.is_null(type_):
        return pa.bool_()
    if pa.types.is_list(type_):
        return pa.list_(_without_nulls(type_.value_type))
    return (
        pa.struct([member.with_type(_without_nulls(member.type)) for member in type_])
        if pa.types.is_struct(type_)
        else type_
    )


def _with_nulls(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Values of `_without_nulls(type_)` as values of `type_`."""
    if array.type == type_:
        return array
    if pa.types.is_null(type_):
        return pa.nulls(len(array))
    if pa.types.is_list(type_):
        items = _with_nulls(array.values, type_.value_type)
        return pa.ListArray.from_arrays(array.offsets, items, type_, mask=array.is_null())
    members = [_with_nulls(array.field(index), member.type) for index, member in enumerate(type_)]
    return pa.StructArray.from_arrays(members, fields=list(type_), mask=array.is_null())
