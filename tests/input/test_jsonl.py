"""JSON Lines: the values that Python's json reads, a stated answer for each trap, and every line once."""

from __future__ import annotations

import bz2
import gzip
import json
import math
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.input.formats import json_tree, jsonl, lines
from gneiss.input.formats.format import MALFORMED, POSITION
from gneiss.input.formats.json_columns import AS_JSON
from gneiss.input.shard import Shard, cut_shards, reading_on
from gneiss.store.place import place_of

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".lz4": lambda data: pa.compress(data, "lz4", asbytes=True),
}


def write(path: Path, data: bytes | list[Any]) -> Path:
    """A file of bytes, or of a line a value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        data if isinstance(data, bytes) else b"".join(json.dumps(value).encode() + b"\n" for value in data)
    )
    return path


def shards_of(path: Path, **options: Any) -> tuple[Shard, ...]:
    return cut_shards(path, text="text", **options).shards


def rows_of(*shards: Shard) -> list[dict[str, Any]]:
    """All rows of shards, without columns that hold nothing in them."""
    tables = [table for shard in shards for _, table in shard.tables()]
    return [
        {name: value for name, value in row.items() if value is not None}
        for table in tables
        for row in table.to_pylist()
    ]


def wrong_of(*shards: Shard) -> list[tuple[bytes | None, str | None]]:
    """The texts of all rows, as bytes, and what is wrong with them."""
    found = []
    for shard in shards:
        for _, table in shard.tables(["text", MALFORMED]):
            texts = table["text"].cast(pa.binary()).to_pylist()
            found += list(zip(texts, table[MALFORMED].to_pylist(), strict=True))
    return found


def one(tmp_path: Path, *written: str | bytes) -> Shard:
    """The shard of a file of these lines."""
    data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in written) + b"\n"
    (shard,) = shards_of(write(tmp_path / "a.jsonl", data))
    return shard


# Values as Python's json reads them

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"text": st.text(max_size=80) | st.none()}, optional=dict.fromkeys(("a", "ü", "", "a.b"), VALUES)
    ),
    min_size=1,
    max_size=4,
)


def as_type(value: Any, type_: pa.DataType, is_json: bool) -> Any:
    """What a column of a type holds for a value."""
    if value is None:
        return None
    if is_json:
        return value
    if pa.types.is_struct(type_):
        return {field.name: as_type(value.get(field.name), field.type, field.metadata == AS_JSON) for field in type_}
    if pa.types.is_list(type_):
        return [as_type(item, type_.value_type, False) for item in value]
    return float(value) if pa.types.is_floating(type_) else value


def as_read(value: Any, type_: pa.DataType, is_json: bool) -> Any:
    """A value of a column, in which JSON is read."""
    if value is not None and is_json:
        return json.loads(value)
    if value is not None and pa.types.is_struct(type_):
        return {field.name: as_read(value[field.name], field.type, field.metadata == AS_JSON) for field in type_}
    return value


def comparable(value: Any) -> Any:
    """A value in which NaN equals itself, and 1, 1.0 and true do not."""
    return json.dumps(value, sort_keys=True)


def check(rows: list[dict[str, Any]], shard: Shard) -> None:
    schema = shard.schema()
    found = [row for _, table in shard.tables() for row in table.to_pylist()]
    assert len(found) == len(rows)
    for row, expected in zip(found, rows, strict=True):
        assert set(row) >= set(expected)
        for column in schema:
            value, is_json = expected.get(column.name), column.metadata == AS_JSON
            read = as_read(row[column.name], column.type, is_json)
            assert comparable(read) == comparable(as_type(value, column.type, is_json)), column


@pytest.mark.slow
@given(
    rows=ROWS,
    ascii_=st.booleans(),
    space=st.sampled_from(["", " ", " \t"]),
    end=st.sampled_from(["\n", "\r\n", " \n\n"]),
)
def test_values_are_those_of_python(
    rows: list[dict[str, Any]], ascii_: bool, space: str, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = [
        json.dumps(row, ensure_ascii=ascii_, separators=(f"{space},{space}", f"{space}:{space}")) for row in rows
    ]
    path = write(tmp_path_factory.mktemp("json") / "a.jsonl", "".join(line + end for line in written).encode())
    if shards := cut_shards(path, text="text").shards:
        check(rows, *shards)


# Types of columns


@pytest.mark.parametrize(
    ("values", "type_", "held"),
    [
        (["1", "-2", "9007199254740993"], pa.int64(), [1, -2, 9007199254740993]),
        (["1", "18446744073709551615"], pa.uint64(), [1, 2**64 - 1]),
        (["1", "2.5", "-0.0"], pa.float64(), [1.0, 2.5, -0.0]),
        (["1e3", "0.1", "1E-400"], pa.float64(), [1000.0, 0.1, 0.0]),
        (["NaN", "Infinity", "-Infinity"], pa.float64(), [math.nan, math.inf, -math.inf]),
        (["true", "null", "false"], pa.bool_(), [True, None, False]),
        (['"2024-01-01"', '"2024-01-02T00:00:00Z"'], pa.string(), ["2024-01-01", "2024-01-02T00:00:00Z"]),
        (["null", "null"], pa.null(), [None, None]),
        (["[1]", "[2.5, null]", "[]"], pa.list_(pa.float64()), [[1.0], [2.5, None], []]),
        (['["2024-01-01"]'], pa.list_(pa.string()), [["2024-01-01"]]),
        (["[18446744073709551615]"], pa.list_(pa.uint64()), [[2**64 - 1]]),
        (["[]", "[[]]"], pa.list_(pa.list_(pa.null())), [[], [[]]]),
        (["[null, null]", "null", "[null]"], pa.list_(pa.null()), [[None, None], None, [None]]),
        (['[{"x": [null, null]}, null]', "[null, {}]"], pa.list_(pa.struct([("x", pa.list_(pa.null()))])),
         [[{"x": [None, None]}, None], [None, {"x": None}]]),
        (['{"x": 1}', "null", '{"y": "z"}'], pa.struct([("x", pa.int64()), ("y", pa.string())]),
         [{"x": 1, "y": None}, None, {"x": None, "y": "z"}]),
        (['{"x": {"y": [{"z": true}]}}'],
         pa.struct([("x", pa.struct([("y", pa.list_(pa.struct([("z", pa.bool_())])))]))]),
         [{"x": {"y": [{"z": True}]}}]),
        # what no type holds is kept as it is written
        (["1", '"1"', "null"], "json", ["1", '"1"', None]),
        (["1.5", "9007199254740993"], "json", ["1.5", "9007199254740993"]),
        (["-1", "18446744073709551615"], "json", ["-1", "18446744073709551615"]),
        (["1e400", "1.0"], "json", ["1e400", "1.0"]),
        (["123456789012345678901234567890"], "json", ["123456789012345678901234567890"]),
        (["true", "0"], "json", ["true", "0"]),
        (["{}", "{}"], "json", ["{}", "{}"]),
        (["[1]", "2"], "json", ["[1]", "2"]),
        (['[1, "a"]', "[2]"], "json", ['[1, "a"]', "[2]"]),
        (['[{"a": {}}]'], "json", ['[{"a": {}}]']),
        (['"\\u00e9"', "1"], "json", ['"\\u00e9"', "1"]),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_column_has_the_type_that_holds_all_its_values(
    values: list[str], type_: Any, held: list[Any], tmp_path: Path
) -> None:
    shard = one(tmp_path, *(f'{{"text": "t", "c": {value}}}' for value in values))
    column = shard.schema().field("c")
    assert (column.type, column.metadata) == ((pa.string(), AS_JSON) if type_ == "json" else (type_, None))
    found = [value for _, table in shard.tables(["c"]) for value in table["c"].to_pylist()]
    assert comparable(found) == comparable(held)


def test_a_field_of_mixed_types_is_json_and_the_fields_beside_it_are_not(tmp_path: Path) -> None:
    shard = one(tmp_path, '{"text": "", "m": {"a": 1, "b": 1}}', '{"text": "", "m": {"a": "x", "b": 2}}')
    assert shard.schema().field("m").type == pa.struct([("a", pa.string()), ("b", pa.int64())])
    assert [row["m"] for row in rows_of(shard)] == [{"a": "1", "b": 1}, {"a": '"x"', "b": 2}]


def test_mixed_types_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one(tmp_path, '{"text": "", "a": 1, "b": 1}', '{"text": "", "a": "1"}').schema()
    assert "a.jsonl: values of several types are kept as JSON in 'a'" in caplog.text


def test_types_do_not_depend_on_the_size_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": str(n), "a": n if n < 90 else n + 0.5, **({"late": [n]} if n > 95 else {})} for n in range(100)]
    (whole,) = shards_of(write(tmp_path / "a.jsonl", rows))
    expected = whole.schema(), [table.to_pylist() for _, table in whole.tables()]
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(lines, "_READ_BYTES", 7)
    monkeypatch.setattr(lines, "_LEAST_BYTES", 7)
    found = whole.schema(), [table.to_pylist() for _, table in whole.tables()]
    assert found[0] == expected[0]
    assert len(found[1]) > 10
    assert [row for rows in found[1] for row in rows] == expected[1][0]


def test_files_of_an_input_have_the_columns_of_all(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "a", "n": 1, "m": {"x": 1}}])
    write(tmp_path / "b.jsonl.gz", gzip.compress(b'{"text": "b", "n": 2.5, "m": {"y": [1]}, "c": true}'))
    a, b = shards_of(tmp_path)
    assert a.schema() == b.schema()
    assert a.schema().field("n").type == pa.float64()
    assert rows_of(a, b)[0] == {"text": "a", "n": 1.0, "m": {"x": 1, "y": None}}


def test_a_map_with_many_keys_is_json(tmp_path: Path) -> None:
    rows = [{"text": "t", "m": {f"k{n}": 1}, "n": {"a": 1}} for n in range(json_tree.MOST_KEYS + 1)]
    (shard,) = shards_of(write(tmp_path / "a.jsonl", rows))
    assert shard.schema().field("m").metadata == AS_JSON
    assert rows_of(shard)[-1]["m"] == '{"k256": 1}'
    assert rows_of(shard)[-1]["n"] == {"a": 1}


def test_rows_with_too_many_keys_are_no_table(tmp_path: Path) -> None:
    rows = [{"text": "t", f"k{n}": 1} for n in range(json_tree.MOST_COLUMNS + 1)]
    with pytest.raises(InputError, match="more than 1,000 different keys"):
        rows_of(*shards_of(write(tmp_path / "a.jsonl", [*rows[:10], {"text": "x" * 300_000}, *rows])))


def passes_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An item for each time that a file is read from now on."""
    passes = []
    blocks = lines.blocks

    def counted(*arguments: Any) -> Iterator[lines.Block]:
        passes.append(arguments)
        return blocks(*arguments)

    monkeypatch.setattr(lines, "blocks", counted)
    return passes


def test_a_worker_reads_a_part_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = passes_of(monkeypatch)
    shard = reading_on()(one(tmp_path, '{"text": "a", "id": 1}', '{"text": "b", "id": 2}'))
    assert [table.to_pydict() for _, table in shard.tables(["text", "id"])] == [{"text": ["a", "b"], "id": [1, 2]}]
    shard.schema()
    assert [table.to_pydict() for _, table in shard.tables(["id"])] == [{"id": [1, 2]}]
    assert len(passes) == 1
    rows_of(shard)
    assert len(passes) == 2


@pytest.mark.parametrize("limit", ["_MOST_HELD_BYTES", "_MOST_TEXT_BYTES"])
def test_a_part_that_is_too_large_to_be_held_is_read_again(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, limit, 10_000)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 4_000)
    passes = passes_of(monkeypatch)
    rows = [{"text": "t" * 90, "id": n, "beside": "b" * 90} for n in range(300)]
    shard = reading_on()(shards_of(write(tmp_path / "a.jsonl", rows))[0])
    assert [row["id"] for _, table in shard.tables(["text", "id"]) for row in table.to_pylist()] == [*range(300)]
    assert len(passes) == 2
    assert rows_of(shard) == rows
    assert len(passes) == 3


FIRST = b'{"text": "first", "d": {"text": "first", "x": ""}, "n": 0, "s": ""}'
LINES = st.sampled_from(
    [b'{"n": 2.5, "text": "\\u00e9b", "d": {"x": "y", "text": "c", "z": ["w"]}, "s": "\\n"}', b"nope", b"", b"{",
     b'{"text": "a", "n": 1}', b'{"text": [{"n": 1}], "n": 4}', b'{"d": 5, "n": "5"}', b'{"d": {"text": 6, "q": 6}}',
     b'{"d": null, "text": ""}', b'{"s": "t", "d": {"text": {"x": 1}, "x": null}, "text": 5}', b'{"text": "\xff"}',
     b'{"text": null}']
)  # fmt: skip


@pytest.mark.slow
@given(written=st.lists(LINES, max_size=8), text=st.sampled_from(["text", "d.text"]))
def test_what_is_held_of_a_part_is_what_its_file_has(
    written: list[bytes], text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "held.jsonl", b"\n".join([FIRST, *written]))
    (shard,) = cut_shards(path, text=text).shards
    for first in (["n", text, MALFORMED], [text, "d.x"], ["s", "d", MALFORMED], ["d.x"], None):
        of_worker = reading_on()(shard)
        for columns in (first, ["n", "s", MALFORMED], ["d"], ["d.x", "n"], ["text", "n"]):
            assert table_or_error(of_worker, columns) == table_or_error(shard, columns)


def table_or_error(shard: Shard, columns: list[str] | None) -> pa.Table | str:
    try:
        return pa.concat_tables(table for _, table in shard.tables(columns))
    except InputError as error:
        return str(error)


def test_a_path_into_a_column_that_is_no_struct_in_this_file(tmp_path: Path) -> None:
    shard = one(tmp_path, '{"text": "a", "d": {"x": 1}}', '{"text": "b", "d": 5}')
    with pytest.raises(InputError, match=r"a.jsonl: cannot read: no column 'd.x': 'd' holds values of several types"):
        list(shard.tables(["d.x"]))


# Traps, each with a stated answer


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nope", "expected a JSON object"),
        (b"[1]", "expected a JSON object"),
        (b'"text"', "expected a JSON object"),
        (b'{"text": "a"} {"text": "b"}', "byte 15: more than one value on a line"),
        (b'{"text": "a"', "byte 13: not JSON: the line ends too early"),
        (b'{"text": "a', "byte 12: not JSON: the line ends too early"),
        (b'{"text": tru}', "byte 10: not JSON"),
        (b"{'text': 'a'}", "byte 2: not JSON"),
        (b'{"text": "a",}', "byte 14: not JSON"),
        (b'{"text": 01}', "byte 11: not JSON"),
        (b'{"text": "a\tb"}', "byte 12: not JSON: a control character in a string"),
        (b'{"text": "\\x"}', "byte 11: not JSON: an escape that JSON does not have"),
        (b'{"text": "\\ud800"}', "byte 11: half a surrogate pair, which is no character"),
        (b'{"text": "\\udc00\\ud800"}', "byte 11: half a surrogate pair, which is no character"),
        (b'{"text": "a", "text": "b"}', "byte 16: a key occurs twice in an object"),
        (b'{"text": "a", "te\\u0078t": "b"}', "byte 16: a key occurs twice in an object"),
        (b'{"text": "a", "m": {"x": 1, "x": 2}}', "byte 30: a key occurs twice in an object"),
        (b'{"text": "a", "m": [{"x": 1, "x": 2}]}', "byte 31: a key occurs twice in an object"),
        (b'{"text": "\xff"}', "invalid UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "invalid UTF-8"),
        (b'{"text": "a", "x": ' + b"[" * 100 + b"]" * 100 + b"}", "byte 120: nested more than 100 levels deep"),
        (b'{"text": "a", "' + b"k" * 1001 + b'": 1}', "byte 16: a key of more than 1,000 bytes"),
        (b'{"text": "a"}\x00', "byte 14: more than one value on a line"),
    ],
)
def test_a_malformed_line_is_a_row_with_its_number_and_its_bytes(line: bytes, reason: str, tmp_path: Path) -> None:
    shard = one(tmp_path, '{"text": "before", "id": 1}', "", line, '{"text": "after", "id": 2}')
    separator = ", " if reason.startswith("byte") else ": "
    assert wrong_of(shard) == [(b"before", None), (line, f"line 3{separator}{reason}"), (b"after", None)]
    assert shard.schema() == pa.schema([("text", pa.string()), ("id", pa.int64())])
    ids = [value for _, table in shard.tables(["id"]) for value in table["id"].to_pylist()]
    assert ids == [1, None, 2]


@pytest.mark.parametrize("value", ["5", "1.5", "true", "[]", '{"a": "b"}', '["x"]'])
def test_a_text_that_is_no_string_is_quarantined_and_its_row_kept(value: str, tmp_path: Path) -> None:
    shard = one(tmp_path, '{"text": "a", "id": 1}', f'{{"id": 2, "text": {value}}}')
    (_, (text, reason)) = wrong_of(shard)
    assert text == value.encode()
    assert reason is not None
    assert reason.endswith(": its text is not a string")
    assert [row["id"] for row in rows_of(shard)] == [1, 2]
    assert shard.schema().field("text").type == pa.string()


def test_a_text_in_a_struct(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        b'{"d": {"text": "a", "n": 1}}\n{"d": 5}\n{"d": {"text": 5, "n": 2}}\nnope\n{"d": null}\n{"d": {"n": 3}}\n',
    )
    (shard,) = cut_shards(path, text="d.text").shards
    found = [row for _, table in shard.tables(["d.text", MALFORMED]) for row in table.to_pylist()]
    assert [row["d.text"] for row in found] == ["a", "5", "5", "nope", None, None]
    assert [(row[MALFORMED] or "").partition(": ")[2] for row in found] == [
        "", "its text is not a string", "its text is not a string", "expected a JSON object", "", "",
    ]  # fmt: skip
    ns = [value for _, table in shard.tables(["d.n"]) for value in table["d.n"].to_pylist()]
    assert ns == [1, None, 2, None, None, 3]


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b"\n\n", []),
        (b'{"text": "a"}', ["a"]),
        (b'{"text": "a"}\r\n{"text": "b"}\r\n', ["a", "b"]),
        (b'\xef\xbb\xbf{"text": "a"}\n', ["a"]),
        (b'\n  \t\n{"text": "a"}\n\r\n{"text": "b"}', ["a", "b"]),
        (b'{"text": "a\\u0000b"}\n', ["a\0b"]),
        (b'{"text": "\\ud83d\\ude00 \\u00e9\\/\\b\\f\\n\\r\\t\\"\\\\"}\n', ['\U0001f600 é/\b\f\n\r\t"\\']),
        ('{"text": "\u2028\x7f\x85"}\n'.encode(), ["\u2028\x7f\x85"]),
        (b'{"text": null}\n{"text": ""}\n{}\n{"text": "a"}\n', [None, "", None, "a"]),
    ],
)
def test_lines_are_what_newlines_end(data: bytes, texts: list[str | None], tmp_path: Path) -> None:
    (shard,) = shards_of(write(tmp_path / "a.jsonl", data))
    assert [text if text is None else text.decode() for text, _ in wrong_of(shard)] == texts
    assert [reason for _, reason in wrong_of(shard)] == [None] * len(texts)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"text": "a"}\n'.encode("utf-16"), "expected lines of UTF-8, found UTF-16"),
        (gzip.compress(b'{"text": "a"}\n', mtime=0), "compressed by gzip, and its name does not say so"),
        (pa.compress(b'{"text": "a"}\n', "zstd", asbytes=True), "compressed by zstd"),
        (
            b'[\n{"text": "a"},\n{"text": "b"}\n]\n',
            "line 1: expected a JSON object; a file that is one array is no JSON",
        ),
        (b'{\n  "text": "a"\n}\n', "expected a JSON object on each line; line 1: not JSON: the line ends too early"),
        (b'{"content": "a"}\n', "expected a column 'text', found content"),
        (b'{"text": 5}\n', "column 'text': expected string, found int64"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(data: bytes, reason: str, tmp_path: Path) -> None:
    write(tmp_path / "in/bad.jsonl", data)
    write(tmp_path / "in/good.jsonl", [{"text": "a"}])
    found = cut_shards(tmp_path / "in", text="text")
    assert [shard.id for shard in found.shards] == ["good"]
    ((id_, told),) = [(file.id, file.reason) for file in found.unreadable]
    assert id_ == "bad"
    assert reason in told


def test_a_line_that_is_too_long_is_one_malformed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_LINE_BYTES", 1000)
    monkeypatch.setattr(lines, "KEPT_BYTES", 10)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(lines, "_READ_BYTES", 64)
    monkeypatch.setattr(lines, "_LEAST_BYTES", 64)
    long = b'{"text": "' + b"x" * 5000 + b'"}'
    for data in (long, b'{"text": "a"}\n' + long + b'\n{"text": "b"}\nnope\n'):
        (shard,) = shards_of(write(tmp_path / "a.jsonl", data))
        found = wrong_of(shard)
        assert (long[:10], f"line {len(found) // 2 or 1}: longer than 128 MiB") in found
    assert [text for text, _ in found] == [b"a", long[:10], b"b", b"nope"]
    assert found[3][1] == "line 4: expected a JSON object"


# Ranges and compression


@given(
    rows=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    edges=st.sets(st.integers(1, 900), max_size=6),
    block=st.sampled_from([1, 16, 1000]),
    ends=st.booleans(),
)
def test_ranges_share_out_the_lines(
    rows: list[int], edges: set[int], block: int, ends: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = b"\n".join(b"%d:" % number + b"x" * size for number, size in enumerate(rows)) + b"\n" * ends
    path = write(tmp_path_factory.mktemp("ranges") / "a.jsonl", data)
    marks = [0, *sorted(edge for edge in edges if edge < len(data)), len(data)]
    found: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block)
        patch.setattr(lines, "_READ_BYTES", 5)
        patch.setattr(lines, "_LEAST_BYTES", 3)
        for low, high in pairwise(marks):
            for read_block in lines.blocks(place_of(path), low, high, 0):
                raw = read_block.data[: read_block.size].tobytes()
                assert data[read_block.first_byte :].startswith(raw[:-1])
                assert low <= read_block.first_byte < high
                found += raw.splitlines()
    assert found == data.splitlines()


def test_a_plain_file_is_cut_into_ranges(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + "é" * (n % 50), "id": n} for n in range(1000)]
    path = write(tmp_path / "a.jsonl", rows)
    shards = shards_of(path, shard_max_bytes=10_000)
    assert len(shards) > 3
    assert [shard.id for shard in shards] == sorted(shard.id for shard in shards)
    found = rows_of(*shards)
    assert [row["id"] for row in found] == list(range(1000))
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    data = path.read_bytes()
    for shard in shards:
        for table in shard.format.tables(shard.file, shard.part, ["id", POSITION]):
            for id_, at in zip(table["id"].to_pylist(), table[POSITION].to_pylist(), strict=True):
                assert json.loads(data[at:].split(b"\n")[0])["id"] == id_
    assert shards[0].rows == pytest.approx(1000 / len(shards), rel=0.3)
    assert shards[0].known_rows is None


def test_a_malformed_line_of_a_range_says_where_the_range_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "aaaaaaaaaa"}\n' * 50 + b"nope\n")
    shards = shards_of(path, shard_max_bytes=300)
    (found,) = [wrong for wrong in wrong_of(*shards) if wrong[1]]
    start = shards[1].part.start
    assert found == (b"nope", f"line {50 - -(-start // 23) + 1} from byte {start} on: expected a JSON object")


@pytest.mark.parametrize("codec", COMPRESS)
def test_a_compressed_file_is_a_shard_and_read_to_its_end(codec: str, tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "id": n} for n in range(100)]
    halves = [b"".join(json.dumps(row).encode() + b"\n" for row in half) for half in (rows[:50], rows[50:])]
    path = write(tmp_path / f"a.jsonl{codec}", b"".join(map(COMPRESS[codec], halves)))
    (shard,) = shards_of(path, shard_max_bytes=2**40)
    assert [row["id"] for row in rows_of(shard)] == list(range(100))
    assert shard.id == "a"
    assert shard.text_bytes == pytest.approx(sum(len(row["text"]) for row in rows), rel=0.02)


def seekable(*chunks: bytes, checksums: bool = False) -> bytes:
    """Chunks as frames of zstd, and a table of them."""
    stored = [pa.compress(chunk, "zstd", asbytes=True) for chunk in chunks]
    rest = b"\0" * 4 if checksums else b""
    table = b"".join(
        struct.pack("<II", len(frame), len(chunk)) + rest for frame, chunk in zip(stored, chunks, strict=True)
    )
    table += struct.pack("<IBI", len(chunks), 0x80 if checksums else 0, 0x8F92EAB1)
    return b"".join(stored) + struct.pack("<II", 0x184D2A5E, len(table)) + table


@given(
    cuts=st.lists(st.integers(0, 1_000), max_size=9), size=st.sampled_from([30, 200, 500]), checksums=st.booleans(),
    last=st.sampled_from([b"", b"\n", b"nope"]),
)  # fmt: skip
def test_a_seekable_file_is_cut_at_frames(
    cuts: list[int], size: int, checksums: bool, last: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = b"".join(b'{"text": "text %d"}\n' % number for number in range(50)) + last
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[low:high] for low, high in pairwise(edges)]
    path = write(tmp_path_factory.getbasetemp() / "seekable.jsonl.zst", seekable(*chunks, checksums=checksums))
    (whole,) = shards_of(path)
    shards = shards_of(path, shard_max_bytes=size)
    columns = ["text", POSITION]

    def read(*chosen: Shard) -> list[dict[str, Any]]:
        tables = [table for shard in chosen for table in shard.format.tables(shard.file, shard.part, columns)]
        return [row for table in tables for row in table.to_pylist()]

    assert read(*shards) == read(whole)
    assert len(read(whole)) == 50 + (last == b"nope")
    assert {shard.part.start for shard in shards} <= {*edges}
    assert [row["text"] for shard in shards for row in rows_of(shard)] == [row["text"] for row in read(whole)]


def test_a_table_of_frames_that_lies(tmp_path: Path) -> None:
    chunks = [b'{"text": "%d"}\n' % number * 20 for number in range(9)]
    data = seekable(*chunks)
    at = len(data) - 9 - 8 * len(chunks)
    first, second = struct.unpack_from("<I", data, at + 4)[0], struct.unpack_from("<I", data, at + 12)[0]
    lie = bytearray(data)
    struct.pack_into("<I", lie, at + 4, first + 14)
    struct.pack_into("<I", lie, at + 12, second - 14)
    shards = shards_of(write(tmp_path / "a.jsonl.zst", bytes(lie)), shard_max_bytes=50)
    assert len(shards) > 2
    with pytest.raises(InputError, match="damaged, or cut short"):
        rows_of(shards[0])
    for damaged in (data + b"\0", data[:-1], data[9:]):  # no such file: one shard, or what zstd says of it
        assert len(shards_of(write(tmp_path / "b.jsonl.zst", damaged), shard_max_bytes=50)) <= 1


def test_a_compressed_file_that_is_too_large_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jsonl.gz", "b.jsonl"):
        data = b"".join(json.dumps({"text": "x" * 90}).encode() + b"\n" for _ in range(100))
        write(tmp_path / name, COMPRESS[".gz" if name.endswith("gz") else ""](data))
    shards = shards_of(tmp_path, shard_max_bytes=2_000)
    assert [shard.id for shard in shards].count("a") == 1
    assert "1 files cannot be cut and have more than shard_max_bytes of text, such as" in caplog.text
    assert "a.jsonl.gz with about 0 MB" in caplog.text


@pytest.mark.parametrize("name", ["a.ndjson", "a.json.gz", "a.JSONL.ZST", "a.jsonlines", "a.jsonl.zstd", "a.json.bz2"])
def test_spellings_of_names(name: str, tmp_path: Path) -> None:
    codec = next((suffix for suffix in (".gz", ".zst", ".bz2") if suffix in name.lower()), "")
    write(tmp_path / "in" / name, COMPRESS[codec](b'{"text": "a"}\n'))
    write(tmp_path / "in/dataset_info.json", b"{}")
    assert rows_of(*shards_of(tmp_path / "in")) == [{"text": "a"}]


@pytest.mark.slow
@pytest.mark.parametrize("codec", [codec for codec in COMPRESS if codec])
@pytest.mark.parametrize("damage", ["cut short", "followed by others"])
def test_a_damaged_file_is_unreadable_and_says_after_how_many_lines(codec: str, damage: str, tmp_path: Path) -> None:
    import random

    text = random.Random(1)
    rows = [{"text": "".join(text.choices("abcdefghijklmnop", k=200))} for _ in range(8000)]
    data = COMPRESS[codec](b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    data = data[: len(data) * 4 // 5] if damage == "cut short" else data + b"something else, long enough to be read"
    (shard,) = shards_of(write(tmp_path / f"a.jsonl{codec}", data))
    with pytest.raises(InputError, match=r"after at least [\d,]+ lines: damaged, or cut short"):
        rows_of(shard)
