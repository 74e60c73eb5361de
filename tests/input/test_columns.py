"""Paths: a column by its own name, whatever is in it, and fields of structs; values are replaced where they were."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.input.columns import column_with, field_at, find_path, leaf_names, schema_with, values_at

STRING = pa.string()


def struct(**fields: pa.DataType) -> pa.StructType:
    return pa.struct(list(fields.items()))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("text", ("text",)),
        ("meta.url", ("meta", "url")),
        ("meta.of.page", ("meta", "of", "page")),
        ("meta.dotted.name", ("meta", "dotted.name")),
        ("a.b", ("a.b",)),
        ("a.b.c", ("a.b", "c")),
        ("a.d", ("a", "d")),
        ("url", ()),
        ("meta.missing", ()),
        ("list.url", ()),
        ("text.url", ()),
        ("meta.", ()),
        (".", ()),
        ("", ()),
    ],
)
def test_a_name_is_a_column_or_leads_through_structs(name: str, path: tuple[str, ...]) -> None:
    schema = pa.schema(
        [
            ("text", STRING),
            ("meta", pa.struct([("url", STRING), ("of", struct(page=pa.int64())), ("dotted.name", STRING)])),
            ("a", struct(b=pa.int64(), d=STRING)),
            ("a.b", struct(c=STRING)),
            ("list", pa.list_(struct(url=STRING))),
        ]
    )
    assert find_path(schema, name) == path
    if path:
        assert field_at(schema, path).name == path[-1]


def test_leaves_are_named_by_path() -> None:
    schema = pa.schema([("text", STRING), ("meta", struct(url=STRING, of=struct(page=STRING)))])
    assert list(leaf_names(schema)) == ["text", "meta.url", "meta.of.page"]


leaves = st.none() | st.text(max_size=3)
inner = st.none() | st.fixed_dictionaries({"text": leaves, "y": leaves})
rows = st.lists(st.none() | st.fixed_dictionaries({"x": st.none() | st.integers(0, 9), "in": inner}), max_size=12)
TYPE = pa.struct([("x", pa.int64()), ("in", struct(text=STRING, y=STRING))])


def text_of(row: dict[str, Any] | None) -> str | None:
    within = None if row is None else row["in"]
    text: str | None = None if within is None else within["text"]
    return text


def chunked(values: list[Any], type_: pa.DataType, cuts: list[int]) -> pa.ChunkedArray:
    """An array in chunks, each a slice of a longer one."""
    whole, edges = pa.array(values, type_), sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    return pa.chunked_array([whole[start:end] for start, end in pairwise(edges)], type_)


cuts = st.lists(st.integers(0, 12), max_size=3)


@given(rows, cuts, cuts)
def test_values_are_read_and_replaced_where_they_are(values: list[Any], own: list[int], others: list[int]) -> None:
    column = chunked(values, TYPE, own)
    table = pa.table({"meta": column})
    assert values_at(table, "meta.in.text").to_pylist() == [text_of(row) for row in values]
    new = [f"new {number}" for number in range(len(values))]
    schema = schema_with(table.schema, ("meta", "in", "text"), lambda field: field.with_type(pa.large_string()))
    type_ = schema.field("meta").type
    replaced = column_with(column, ("in", "text"), chunked(new, STRING, others), type_)
    assert replaced.type == type_ == pa.struct([("x", pa.int64()), ("in", struct(text=pa.large_string(), y=STRING))])
    replaced.validate(full=True)
    expected = [
        row and {**row, "in": row["in"] and {**row["in"], "text": text}} for row, text in zip(values, new, strict=True)
    ]
    assert replaced.to_pylist() == expected
