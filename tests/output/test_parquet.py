"""The writer: equal rows give equal bytes, and a name appears only with a whole file behind it."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError, OutputError
from gneiss.output import parquet
from gneiss.output.parquet import read_table, refusal, writable, write_bytes, write_parquet
from gneiss.store.place import place_of

ROWS = pa.table(
    {
        "id": [f"doc-{i}" for i in range(40)],
        "text": pa.array([None if i % 7 == 3 else "word " * i for i in range(40)], pa.large_string()),
        "score": [None if i % 5 == 0 else i / 7 for i in range(40)],
        "labels": [["a", "b"][: i % 3] for i in range(40)],
        "kind": pa.array(["x", "y", None, "x"] * 10).dictionary_encode(),
    }
)


def rechunked(table: pa.Table, at: list[int]) -> pa.Table:
    bounds = sorted({0, table.num_rows, *at})
    pieces = [table.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    copied = [pa.Table.from_pylist(piece.to_pylist(), table.schema) for piece in pieces]
    return pa.concat_tables(copied if len(at) % 2 else pieces)


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@given(st.lists(st.integers(0, 40), max_size=6), st.lists(st.integers(0, 40), max_size=3))
def test_the_same_rows_give_the_same_bytes_however_they_are_chunked(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[int], tables: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("chunks")
    whole = write_parquet([ROWS], ROWS.schema, place_of(folder), "whole.parquet")
    bounds = sorted({0, 40, *tables})
    parts = [rechunked(ROWS, chunks).slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    chunked = write_parquet(parts, ROWS.schema, place_of(folder), "chunked.parquet")
    assert (folder / "chunked.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    assert (chunked.checksum, chunked.rows) == (whole.checksum, 40)


def test_row_groups_end_where_enough_has_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 3000)
    parts = [ROWS.slice(start, 5) for start in range(0, 40, 5)]
    write_parquet(parts, ROWS.schema, place_of(tmp_path), "a.parquet")
    footer = pq.read_metadata(tmp_path / "a.parquet")
    assert 1 < footer.num_row_groups < 8
    assert all(footer.row_group(g).num_rows % 5 == 0 for g in range(footer.num_row_groups))
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == ROWS.to_pylist()
    write_parquet([rechunked(part, [2, 3]) for part in parts], ROWS.schema, place_of(tmp_path), "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_schema_metadata_is_kept_and_added_to(tmp_path: Path) -> None:
    schema = ROWS.schema.with_metadata({"huggingface": '{"info": 1}'})
    write_parquet([ROWS], schema, place_of(tmp_path), "a.parquet", {"gneiss.receipt": "yes"})
    written = pq.read_schema(tmp_path / "a.parquet")
    assert written.metadata == {b"huggingface": b'{"info": 1}', b"gneiss.receipt": b"yes"}
    assert written.equals(ROWS.schema)


@pytest.mark.parametrize("tables", [[], [ROWS.slice(0, 0)], [ROWS.slice(0, 0), ROWS.slice(40, 0)]])
def test_no_rows_are_a_file_of_no_rows(tmp_path: Path, tables: list[pa.Table]) -> None:
    written = write_parquet(tables, ROWS.schema, place_of(tmp_path), "a.parquet")
    assert written.rows == 0
    assert pq.read_table(tmp_path / "a.parquet").schema.equals(ROWS.schema)
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 0


def test_a_written_file_is_known_by_size_and_checksum(tmp_path: Path) -> None:
    written = write_bytes(b"some bytes", place_of(tmp_path), "deep/down/a.txt")
    assert (tmp_path / written.path).read_bytes() == b"some bytes"
    assert (written.path, written.size_bytes) == ("deep/down/a.txt", 10)
    assert written.checksum == place_of(tmp_path / "deep/down/a.txt").checksum()
    assert written.checksum != write_bytes(b"some bytes!", place_of(tmp_path), "b.txt").checksum
    assert files_under(tmp_path) == ["b.txt", "deep/down/a.txt"]


def failing(error: BaseException) -> Iterator[pa.Table]:
    yield ROWS
    raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), InputError("unreadable"), KeyboardInterrupt(), MemoryError()]
)
def test_nothing_appears_when_rows_stop_coming(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_parquet(failing(error), ROWS.schema, place_of(tmp_path), "data/a.parquet")
    assert files_under(tmp_path) == []


def test_an_earlier_file_stays_as_it_was_when_writing_fails(tmp_path: Path) -> None:
    write_bytes(b"earlier", place_of(tmp_path), "a.parquet")
    with pytest.raises(RuntimeError):
        write_parquet(failing(RuntimeError("broken")), ROWS.schema, place_of(tmp_path), "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == b"earlier"
    assert files_under(tmp_path) == ["a.parquet"]


def test_rows_of_another_schema_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="schema"):
        write_parquet([pa.table({"id": [1]})], ROWS.schema, place_of(tmp_path), "a.parquet")
    assert files_under(tmp_path) == []


def raising(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


FULL = "No space left on device; free some space and run again: finished shards are kept"


@pytest.mark.parametrize("where", ["os.fsync", "pyarrow.parquet.ParquetWriter.write_table", "os.replace"])
def test_a_full_disk_is_an_output_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(where, raising(errno.ENOSPC))
    with pytest.raises(OutputError, match=rf"data/a\.parquet: cannot write: {FULL}") as caught:
        write_parquet([ROWS], ROWS.schema, place_of(tmp_path), "data/a.parquet")
    assert "\n" not in str(caught.value)
    assert files_under(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="check the path and its permissions"):
        write_bytes(b"x", place_of(tmp_path), "data/a.parquet")


def test_errors_that_are_not_of_the_disk_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unreadable"), place_of(tmp_path / "a").create():
        raise InputError("unreadable")


VIEWS = pa.struct([("a", pa.string_view()), ("b", pa.list_(pa.binary_view()))])


@pytest.mark.parametrize(
    ("type_", "value"),
    [(pa.list_(VIEWS), [{"a": "u" * 20, "b": [b"v"]}]), (pa.large_list(pa.list_(VIEWS)), [[{"a": "u", "b": []}], []])],
    ids=str,
)
def test_views_in_structs_in_lists_are_written_as_strings(tmp_path: Path, type_: pa.DataType, value: object) -> None:
    """Which pyarrow reads, if another writer wrote them, and cannot write."""
    column = pa.array([value, None, value], type_)
    with pytest.raises(pa.ArrowNotImplementedError):
        pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    table = pa.table({"x": column.cast(writable(type_))})
    write_parquet([table], table.schema, place_of(tmp_path), "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet")["x"].to_pylist() == [value, None, value]


def test_other_types_are_written_as_they_are() -> None:
    struct = pa.struct([pa.field("a", pa.list_(pa.string_view()), nullable=False), ("b", pa.int8())])
    for type_ in (pa.string_view(), struct, pa.list_(pa.binary_view()), pa.map_(pa.string_view(), pa.int8()),
                  pa.list_(pa.struct([("a", pa.string())])), pa.list_(pa.float32(), 2), pa.uuid()):  # fmt: skip
        assert writable(type_) == type_


@pytest.mark.parametrize("values", [pa.string_view(), pa.binary_view()])
def test_dictionaries_of_views_are_written_as_dictionaries_of_strings(tmp_path: Path, values: pa.DataType) -> None:
    """As polars writes its categories to Arrow files."""
    column = pa.array(["u" * 20, None, "v", "v"]).dictionary_encode().cast(pa.dictionary(pa.int32(), pa.string()))
    views = pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(values))
    table = pa.table({"x": views.cast(writable(views.type))})
    write_parquet([table], table.schema, place_of(tmp_path), "a.parquet")
    found = pq.read_table(tmp_path / "a.parquet")["x"].cast(pa.string())
    assert found.to_pylist() == ["u" * 20, None, "v", "v"]


@pytest.mark.parametrize(
    "type_",
    [
        pa.month_day_nano_interval(),
        pa.struct([]),
        pa.run_end_encoded(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.list_(pa.int8())),
    ],
    ids=str,
)
def test_a_column_that_parquet_cannot_have_is_refused_by_name(type_: pa.DataType) -> None:
    said = refusal(pa.schema({"id": pa.string(), "gap": type_}))
    assert (said or "").startswith(f"column 'gap': {type_} cannot be written to Parquet: ")


def test_other_columns_are_not_refused() -> None:
    never_null = pa.struct([pa.field("n", pa.int8(), nullable=False)])
    of_view = pa.dictionary(pa.int32(), pa.string_view())
    for type_ in (pa.list_(VIEWS), pa.string_view(), never_null, pa.null(), of_view, pa.list_(of_view), pa.uuid()):
        assert refusal(pa.schema({"x": type_})) is None


def test_columns_are_read_in_the_order_asked_for_and_missing_ones_are_named(tmp_path: Path) -> None:
    write_parquet([ROWS], ROWS.schema, place_of(tmp_path), "a.parquet")
    place = place_of(tmp_path) / "a.parquet"
    assert read_table(place).equals(ROWS)
    assert read_table(place, ["score", "id"]).equals(ROWS.select(["score", "id"]))
    with pytest.raises(pa.ArrowException, match="no column 'texts'"):
        read_table(place, ["id", "texts"])
