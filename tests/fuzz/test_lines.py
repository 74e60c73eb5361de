"""Whatever the bytes of a file of lines: a row a line, malformed where Python cannot read it, or a file refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.input.formats import json_rows, json_values, lines
from gneiss.input.formats.format import MALFORMED
from gneiss.input.formats.json_tree import Tree
from gneiss.input.shard import Shard, cut_shards, reading_on
from tests.input.test_jsonl import COMPRESS, VALUES, seekable, write

ROWS = st.fixed_dictionaries({"text": st.none() | st.text(max_size=9)}, optional={"a": VALUES, "ü": VALUES}).map(
    lambda row: json.dumps(row).encode()
)
PIECES = st.sampled_from(
    [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"0", b"-", b"1", b".", b"e", b"E", b"+", b"u", b"\\u00e9",
     b"null", b"true", b"NaN", b"Infinity", b" ", b"\t", b"\r", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc3\xa9",
     b"\\ud83d\\ude00", b"\\ud83d", b"a", b'"a"', b'"a":', b"/", b"\\n"]
)  # fmt: skip
JUNK = st.lists(PIECES, max_size=12).map(b"".join)


def is_object(line: bytes) -> bool:
    """Whether a line is an object as Python reads it, without the two things that it lets pass."""
    try:
        value = json.loads(line.decode(), object_pairs_hook=refuse_twice)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return isinstance(value, dict)


def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def is_fine(line: bytes) -> bool:
    """Whether a line is a row; a blank one is none, and here not fine."""
    data = line + b"\n"
    block = lines.Block(np.frombuffer(bytearray(data) + bytes(json_values.PADDING), np.uint8), len(data), 0, 0)
    found = [wrong == json_values.FINE for rows in json_rows.scanned_rows(block, Tree()) for wrong in rows.wrong]
    assert len(found) <= 1
    return found == [True]


@pytest.mark.slow
@given(ROWS, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), PIECES), max_size=3))
def test_a_line_is_malformed_where_python_cannot_read_it(row: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for at, size, piece in edits:
        at %= len(row) + 1
        row = row[:at] + piece + row[at + size :]
    assert is_fine(row) == is_object(row)


@given(JUNK)
def test_any_line(inner: bytes) -> None:
    around = (b"", b""), (b"{", b"}"), (b'{"a":', b"}"), (b'{"a":"', b'"}'), (b'{"a":[', b"]}")
    for line in (before + inner + behind for before, behind in around):
        assert is_fine(line) == is_object(line)


def read(shards: tuple[Shard, ...], *columns: str) -> list[dict[str, Any]]:
    of_worker = reading_on()
    tables = [table for shard in shards for _, table in of_worker(shard).tables(columns)]
    return [row for table in tables for row in bytes_of(table).to_pylist()]


def bytes_of(table: pa.Table) -> pa.Table:
    return table.set_column(0, "text", table["text"].cast(pa.binary()))


@pytest.mark.slow
@given(given_=st.lists(ROWS | JUNK, max_size=6), codec=st.sampled_from([*COMPRESS]), size=st.sampled_from([40, 1000]))
def test_any_lines(given_: list[bytes], codec: str, size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    written = [b'{"text": "first"}', *given_]
    path = tmp_path_factory.getbasetemp() / f"any.jsonl{codec}"
    path.write_bytes(COMPRESS[codec](b"\n".join(written)))
    rows = read(cut_shards(path, text="text", shard_max_bytes=size).shards, "text", MALFORMED)
    expected = [line for line in written if line.strip(b" \t\r")]
    assert len(rows) == len(expected)
    for row, line in zip(rows, expected, strict=True):
        if not is_object(line):
            assert row["text"] == line
            assert row[MALFORMED]
        elif (text := json.loads(line).get("text")) is None or isinstance(text, str):
            assert row == {"text": text if text is None else text.encode(), MALFORMED: None}
        else:
            assert json.loads(row["text"]) == text
            assert row[MALFORMED].endswith("its text is not a string")


FIELDS = st.sampled_from(
    [b",", b'"', b'""', b"\n", b"\r\n", b"\r", b"a", b"b c", b"\t", b"\\", b"\0", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf",
     b'"a\nb"', b"x,y\n", b'x,"y"\n', b"x,y,z\n", b"x\n"]
)  # fmt: skip


@given(data=st.lists(FIELDS | st.binary(max_size=3), max_size=12).map(b"".join), suffix=st.sampled_from(["csv", "tsv"]))
def test_any_values(data: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_bytes((b"text,id\n" if suffix == "csv" else b"text\tid\n") + data)
    try:
        shards = cut_shards(path, text="text").shards
        rows = read(shards, "text", MALFORMED, "id")
    except InputError:
        return
    assert read(shards, "text", MALFORMED) == [{"text": row["text"], MALFORMED: row[MALFORMED]} for row in rows]
    assert all(row["id"] is None if row[MALFORMED] else None not in (row["text"], row["id"]) for row in rows)


EDITS = st.tuples(st.integers(0, 9_999), st.integers(0, 9), st.binary(max_size=3))


@pytest.mark.parametrize("codec", [codec for codec in COMPRESS if codec])
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 9), st.binary(max_size=3)), min_size=1, max_size=3)
)
def test_any_damage(codec: str, edits: list[tuple[int, int, bytes]], tmp_path_factory: pytest.TempPathFactory) -> None:
    data = COMPRESS[codec](b"".join(b'{"text": "%d"}\n' % number for number in range(300)))
    for at, size, piece in edits:
        at %= len(data) + 1
        data = data[:at] + piece + data[at + size :]
    path = write(tmp_path_factory.getbasetemp() / f"any.jsonl{codec}", data)
    try:
        rows = read(cut_shards(path, text="text").shards, "text", MALFORMED)
    except InputError:
        return
    assert all(row["text"] is not None for row in rows if row[MALFORMED])


@given(edits=st.lists(EDITS, min_size=1, max_size=3))
def test_any_table_of_frames(edits: list[tuple[int, int, bytes]], tmp_path_factory: pytest.TempPathFactory) -> None:
    chunks = [b"".join(b'{"text": "%d"}\n' % (20 * chunk + number) for number in range(20)) for chunk in range(5)]
    data = seekable(*chunks)
    table = data[-8 - 8 * len(chunks) - 9 :]
    frames = data[: -len(table)]
    for at, size, piece in edits:
        at %= len(table) + 1
        table = table[:at] + piece + table[at + size :]
    path = write(tmp_path_factory.getbasetemp() / "any-table.jsonl.zst", frames + table)
    found = cut_shards(path, text="text", shard_max_bytes=50)
    try:
        rows = read(found.shards, "text")
    except InputError:
        return
    assert found.unreadable or [row["text"] for row in rows] == [b"%d" % number for number in range(100)]
