"""JSON lines of an output: against the values that Arrow gives, whatever the types; what cannot be written is named."""

from __future__ import annotations

import base64
import gzip
import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.output.jsonl import json_schema, read_jsonl, refusal, write_jsonl
from gneiss.store.place import Place, place_of
from tests.store.memory import MemoryStore

TYPES = (
    pa.null(), pa.bool_(), pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string(),
    pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary(3), pa.date32(), pa.time64("us"),
    pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Berlin"),
    pa.decimal128(9, 2), pa.dictionary(pa.int32(), pa.string()),
)  # fmt: skip
COMPRESSIONS = ("zstd", "gzip", "none")
LEVELS = {"zstd": 3, "gzip": 6, "none": 0}


def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda item_type: pa.list_(item_type, 2)),
        inner.map(lambda value_type: pa.map_(pa.string(), value_type)),
        st.lists(inner, max_size=3).map(lambda types: pa.struct([(f"f{i}", type_) for i, type_ in enumerate(types)])),
    )


def values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of a type, or None."""
    return st.none() | _values(type_)


def _values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    is_ = pa.types
    if is_.is_null(type_):
        return st.none()
    if is_.is_boolean(type_):
        return st.booleans()
    if is_.is_integer(type_):
        bits, signed = type_.bit_width, is_.is_signed_integer(type_)
        return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else st.integers(0, (1 << bits) - 1)
    if is_.is_floating(type_):
        return st.floats(width=type_.bit_width)
    if is_.is_dictionary(type_):
        return st.text(max_size=3)
    if is_.is_fixed_size_binary(type_) and not is_.is_decimal(type_):
        return st.binary(min_size=3, max_size=3)
    if is_.is_binary(type_) or is_.is_large_binary(type_):
        return st.binary(max_size=5)
    if is_.is_date(type_):
        return st.dates(date(1, 1, 1))
    if is_.is_time(type_):
        return st.times()
    if is_.is_timestamp(type_):
        moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
        moments = moments.map(
            lambda moment: moment.replace(microsecond=0 if type_.unit == "s" else moment.microsecond // 1000 * 1000)
        )
        return moments.map(lambda moment: moment.replace(tzinfo=UTC)) if type_.tz else moments
    if is_.is_decimal(type_):
        return st.decimals(-1000, 1000, places=2)
    if is_.is_struct(type_):
        return st.fixed_dictionaries({field.name: values(field.type) for field in type_})
    if is_.is_map(type_):
        return st.lists(st.tuples(st.text(max_size=2), values(type_.item_type)), max_size=2)
    if is_.is_fixed_size_list(type_):
        return st.lists(values(type_.value_type), min_size=2, max_size=2)
    if is_.is_list(type_) or is_.is_large_list(type_):
        return st.lists(values(type_.value_type), max_size=3)
    return st.text(max_size=5)


def expected(value: Any, type_: pa.DataType) -> Any:
    """The oracle: a value as JSON states it, by the rules of the module's docstring."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    if isinstance(value, datetime):
        digits = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[type_.unit]
        text = value.replace(tzinfo=None) if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        return text.isoformat("T", digits) + ("Z" if type_.tz else "")
    if isinstance(value, time):
        return value.isoformat("microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if pa.types.is_map(type_):
        return [{"key": key, "value": expected(item, type_.item_type)} for key, item in value]
    if isinstance(value, dict):
        return {field.name: expected(value[field.name], field.type) for field in type_}
    if isinstance(value, list):
        return [expected(item, type_.value_type) for item in value]
    return value


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table of any columns that JSON can hold, in chunks that begin anywhere in their buffers."""
    types = draw(st.lists(st.recursive(st.sampled_from(TYPES), nested, max_leaves=3), min_size=1, max_size=3))
    rows = draw(st.integers(0, 6))
    columns = {}
    for index, type_ in enumerate(types):
        before = draw(st.integers(0, 2))
        column = draw(st.lists(values(type_), min_size=rows + before, max_size=rows + before))
        columns[f"c {index}"] = pa.array(column, type_).slice(before)
    return pa.table(columns)


def decoded(content: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.decompress(content)
    if compression == "zstd":
        return bytes(zstandard.ZstdDecompressor().stream_reader(content).read())  # which stops after one frame
    return content


def write(folder: Place, given: list[pa.Table], compression: str) -> bytes:
    written = write_jsonl(given, given[0].schema, folder, "f", compression, LEVELS[compression])
    assert written.rows == sum(table.num_rows for table in given)
    content = (folder / "f").read()
    assert written.size_bytes == len(content)
    return content


@pytest.fixture
def bucket() -> Place:
    return Place(MemoryStore(), "bucket")


@given(table=tables())
@pytest.mark.slow
def test_every_value_is_what_the_rules_say(table: pa.Table) -> None:
    folder = Place(MemoryStore(), "bucket")
    found = [json.loads(line) for line in write(folder, [table], "none").split(b"\n")[:-1]]
    wanted = [
        {field.name: expected(row[field.name], field.type) for field in table.schema} for row in table.to_pylist()
    ]
    assert found == wanted
    assert [list(row) for row in found] == [table.column_names] * table.num_rows
    schema = json_schema(table.schema)
    read = pa.concat_tables([schema.empty_table(), *read_jsonl(folder / "f", schema, "none")])
    assert read.to_pylist() == wanted


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_bytes_do_not_depend_on_how_rows_come(bucket: Place, compression: str) -> None:
    table = pa.table({"id": [str(i) for i in range(3000)], "text": [f"text {i} " * (i % 97) for i in range(3000)]})
    whole = write(bucket, [table], compression)
    parts = [table.slice(start, 7) for start in range(0, 3000, 7)]
    assert write(bucket, parts, compression) == whole
    assert write(bucket, [pa.concat_tables(parts)], compression) == whole
    lines = decoded(whole, compression).splitlines()
    assert [json.loads(line) for line in lines] == table.to_pylist()
    read = read_jsonl(bucket / "f", json_schema(table.schema), compression, ["text"], start=1500)
    assert pa.concat_tables(read)["text"].to_pylist() == table["text"].to_pylist()[1500:]


def test_strings_that_are_not_utf8_are_as_in_annotations(bucket: Place) -> None:
    raw = pa.array([b"a\xffb", None, "Größe".encode(), b"\xed\xa0\x80"])
    for strings in (raw.view(pa.string()), raw.cast(pa.large_binary()).view(pa.large_string())):
        content = write(bucket, [pa.table({"s": strings, "l": pa.array([["x"]] * 4)})], "none")
        found = [json.loads(line)["s"] for line in content.splitlines()]
        assert found == [None if string is None else string.decode("utf-8", "replace") for string in raw.to_pylist()]


@pytest.mark.parametrize(
    ("type_", "shown"),
    [
        (pa.duration("s"), r"duration\[s\]"),
        (pa.list_(pa.month_day_nano_interval()), r"list<item: month_day_nano_interval>"),
        (pa.struct([pa.field("a", pa.int8()), pa.field("a", pa.int8())]), r"struct<a: int8, a: int8>"),
    ],
)
def test_what_json_cannot_hold_is_named(bucket: Place, type_: pa.DataType, shown: str) -> None:
    schema = pa.schema([("id", pa.string()), ("its", type_)])
    with pytest.raises(InputError, match=rf"column 'its': {shown} has no form in JSON"):
        write_jsonl([], schema, bucket, "f", "none", 0)
    assert (bucket / "f").find() is None


def test_columns_of_one_name_are_refused() -> None:
    schema = pa.schema([("a", pa.int8()), ("b", pa.int8()), ("a", pa.string())])
    assert refusal(schema) == "column 'a': expected one of that name for JSON lines, found 2"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_that_is_cut_is_not_read_as_a_shorter_one(bucket: Place, compression: str) -> None:
    table = pa.table({"text": [f"text {i}" for i in range(100)]})
    content = write(bucket, [table], compression)
    for end in (1, len(content) // 2, len(content) - 1):
        with (bucket / "f").create() as file:
            file.write(content[:end])
        with pytest.raises((OSError, ValueError, KeyError, pa.ArrowException)):
            list(read_jsonl(bucket / "f", table.schema, compression))


def test_a_line_may_be_long(tmp_path: Path) -> None:
    table = pa.table({"text": ["short", "x" * 5_000_000, "", "y" * 1_100_000]})
    folder = place_of(tmp_path)
    write(folder, [table], "none")
    assert pa.concat_tables(read_jsonl(folder / "f", table.schema, "none")).equals(table)
