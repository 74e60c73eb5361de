"""Separated values: every value a string, every row once, and rows with other numbers of fields in quarantine."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gneiss
from gneiss.errors import InputError
from gneiss.input.formats import csv as csv_files
from gneiss.input.formats.format import MALFORMED
from gneiss.input.shard import Shard, cut_shards
from tests import runs
from tests.support import recipe_of


def shard_of(path: Path, data: bytes) -> Shard:
    path.write_bytes(data)
    (shard,) = cut_shards(path, text="text").shards
    return shard


def rows_of(shard: Shard, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for _, table in shard.tables(columns) for row in table.to_pylist()]


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES), max_size=12), tabs=st.booleans(), end=st.sampled_from(["\n", "\r\n"]),
    block=st.sampled_from([200, 10_000]),
)  # fmt: skip
def test_values_are_those_of_python(
    rows: list[tuple[str, str]], tabs: bool, end: str, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = io.StringIO()
    writer = csv.writer(written, delimiter="\t" if tabs else ",", lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "text"), *rows])
    path = tmp_path_factory.mktemp("csv") / ("a.tsv" if tabs else "a.csv")
    shard = shard_of(path, written.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_BLOCK_BYTES", block)
        assert rows_of(shard) == [{"id": id_, "text": text} for id_, text in rows]
        assert [row["text"] for row in rows_of(shard, ["text"])] == [text for _, text in rows]
        assert sum(table.num_rows for _, table in shard.tables([])) == len(rows)


@pytest.mark.parametrize("block", [24, 10_000])
def test_malformed_rows_are_rows_with_their_numbers(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", block)
    shard = shard_of(tmp_path / "a.csv", b'id,text\n0\n1,"a\nb"\n2\n3,c,d\n\n4,\n5,007\n6\n')
    found = rows_of(shard, ["id", "text", MALFORMED])
    assert [tuple(row.values()) for row in found] == [
        (None, "0", "row 2: fewer fields than columns"),
        ("1", "a\nb", None),
        (None, "2", "row 4: fewer fields than columns"),
        (None, "3,c,d", "row 5: more fields than columns"),
        ("4", "", None),
        ("5", "007", None),
        (None, "6", "row 8: fewer fields than columns"),
    ]
    assert [row["id"] for row in rows_of(shard)] == [None, "1", None, None, "4", "5", None]
    assert shard.schema() == pa.schema([("id", pa.string()), ("text", pa.string())])


def test_a_file_of_malformed_rows_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "_MOST_MALFORMED", 100)
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 200)
    many = shard_of(tmp_path / "many.csv", b"id,text\n" + b"0\n1,a\n" * 500)
    assert len(rows_of(many, ["id", MALFORMED])) == 1_000
    shard = shard_of(tmp_path / "a.csv", b"id,text\n1,a\n" + b"\t\n" * 500)
    with pytest.raises(InputError, match="100 malformed rows close together; is it another format"):
        rows_of(shard)


@pytest.mark.parametrize("data", [b"id,text", b"id,text\n", b"\xef\xbb\xbfid,text\r\n"])
def test_a_file_with_no_rows(data: bytes, tmp_path: Path) -> None:
    assert rows_of(shard_of(tmp_path / "a.csv", data)) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "expected a row with the names of columns, found an empty file"),
        (b"id,content\n1,a\n", "expected a column 'text', found id, content"),
        (b"text,text\n1,a\n", "the column 'text' occurs 2 times"),
        ("text\na\n".encode("utf-16"), "found UTF-16"),
        (b"text\n\xe9\n", "can't decode byte 0xe9"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(data)
    (tmp_path / "good.csv").write_bytes(b"text\na\n")
    found = cut_shards(tmp_path, text="text")
    assert [shard.id for shard in found.shards] == ["good"]
    assert reason in found.unreadable[0].reason


def test_bytes_that_are_not_utf8_make_a_file_unreadable(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.csv", b"id,text\n" + b"1,some text\n" * 30_000 + b"2,\xe9\n")
    with pytest.raises(InputError, match="invalid UTF8"):
        rows_of(shard)


def test_a_run_over_compressed_values(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv.gz").write_bytes(gzip.compress(b"id,text\n1,the river runs south\n2\n3,a cat sat\n"))
    recipe = recipe_of(
        "- {name: only, annotate: [readability], rules: {readable: eflaw < 90}}", budgets="{documents: 1}"
    )
    done = gneiss.run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    assert (done.statistics.counts["kept"], done.statistics.counts["quarantined"]) == (2, 1)
    assert done.statistics.reasons == {"malformed line: fewer fields than columns": 1}
    kept = pq.read_table(tmp_path / "out/data/a.parquet").to_pylist()
    assert kept == [{"id": "1", "text": "the river runs south"}, {"id": "3", "text": "a cat sat"}]
    assert pq.read_table(tmp_path / "out/quarantine/a.parquet")["text"].to_pylist() == [b"2"]
