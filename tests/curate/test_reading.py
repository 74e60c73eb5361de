"""Documents as they come in: which texts can be used, which cannot and why, and readable ids."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.curate.reading import INVALID_TEXT, NULL_TEXT, Documents, read_documents
from gneiss.input.shard import cut_shards


def strings_of(values: list[bytes | None], type_: pa.DataType) -> pa.Array:
    """A string array of any bytes, valid UTF-8 or not, as other writers put into files."""
    if pa.types.is_dictionary(type_):
        raw = pa.array(values, pa.binary()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(raw.indices, raw.dictionary.view(type_.value_type))
    if pa.types.is_string_view(type_):
        return pa.array(values, pa.binary_view()).view(type_)
    binary = pa.large_binary() if pa.types.is_large_string(type_) else pa.binary()
    return pa.array(values, binary).view(type_)


LAYOUTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


def read(folder: Path, table: pa.Table, limit: int | None = None, id_: str | None = "id", groups: int = 4) -> Documents:
    pq.write_table(table, folder / "a.parquet", row_group_size=groups)
    (shard,) = cut_shards(folder / "a.parquet", text="text").shards
    return read_documents(shard, "text", {"id": id_} if id_ else {}, limit)


def is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


# Surrogates, overlong forms, code points beyond the last, lone and missing continuation bytes.
texts = st.none() | st.sampled_from(
    [b"", b"plain", "é€😀".encode(), b"\xff", b"ab\x80", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)  # fmt: skip


@given(st.lists(texts, max_size=12), st.sampled_from(LAYOUTS), st.none() | st.integers(1, 13))
def test_usable_texts_are_those_that_python_can_decode(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes | None], type_: pa.DataType, limit: int | None
) -> None:
    table = pa.table({"id": [str(i) for i in range(len(values))], "text": strings_of(values, type_)})
    found = read(tmp_path_factory.mktemp("documents"), table, limit)
    seen = values if limit is None else values[:limit]
    good = {row: value for row, value in enumerate(seen) if value is not None and is_utf8(value)}
    assert found.rows == len(seen)
    assert found.ids.to_pylist() == [str(i) for i in range(len(seen))]
    assert found.batch_rows.tolist() == list(good)
    assert found.batch.texts() == [value.decode() for value in good.values()]
    assert found.unusable == {
        row: NULL_TEXT if value is None else INVALID_TEXT for row, value in enumerate(seen) if row not in good
    }
    assert list(found.unusable) == sorted(found.unusable)
    assert found.input_text_bytes == sum(len(value or b"") for value in seen)


def test_one_bad_text_among_many_is_found(tmp_path: Path) -> None:
    values: list[bytes | None] = [f"document {i}".encode() for i in range(5000)]
    values[3217] = b"good until \xfe here"
    found = read(tmp_path, pa.table({"id": range(5000), "text": strings_of(values, pa.string())}), groups=1000)
    assert found.unusable == {3217: INVALID_TEXT}
    assert len(found.batch) == 4999
    assert found.batch.text(3217) == "document 3218"


def test_texts_of_neighbours_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    """A character that begins in one document and ends in the next is whole in the buffer, not in either text."""
    euro = "€".encode()
    table = pa.table({"id": ["1", "2", "3"], "text": strings_of([euro[:1], euro[1:], b"x"], pa.string())})
    assert read(tmp_path, table).unusable == {0: INVALID_TEXT, 1: INVALID_TEXT}


def test_every_text_bad(tmp_path: Path) -> None:
    table = pa.table({"id": range(300), "text": strings_of([b"\xff"] * 300, pa.string())})
    found = read(tmp_path, table, groups=100)
    assert len(found.unusable) == 300
    assert len(found.batch) == 0


UUID = uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")


@pytest.mark.parametrize(
    ("ids", "read_as"),
    [
        (pa.array([1, 2, None]), ["1", "2", None]),
        (pa.array([2**63, 0, 1], pa.uint64()), ["9223372036854775808", "0", "1"]),
        (pa.array(["<urn:uuid:1>", "", None], pa.large_string()), ["<urn:uuid:1>", "", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (strings_of([b"ok", b"\xffbad", None], pa.string()), ["ok", "\ufffdbad", None]),
        (pa.array([b"ok", b"\xffbad", None]), ["ok", "\ufffdbad", None]),
        (pa.array([b"abcd", b"\xff\xff\xff\xff", None], pa.binary(4)), ["abcd", "\ufffd" * 4, None]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([Decimal("1.50"), None, Decimal("-2.00")]), ["1.50", None, "-2.00"]),
        (pa.array([datetime(2026, 1, 2, tzinfo=UTC)] * 3, pa.timestamp("s", "UTC")), ["2026-01-02 00:00:00.000Z"] * 3),
        (pa.nulls(3), [None, None, None]),
        (pa.array([UUID.bytes, None, bytes(16)], pa.uuid()), [str(UUID), None, "00000000-0000-0000-0000-000000000000"]),
        (pa.array(["a", None, "b" * 20], pa.string_view()), ["a", None, "b" * 20]),
        (pa.array([b"a", b"\xff" * 20, None], pa.binary_view()), ["a", "\ufffd" * 20, None]),
        (pa.array([b"a", b"\xff", b"a"]).dictionary_encode(), ["a", "\ufffd", "a"]),
        (pa.array(['{"a": 1}', None, "2"], pa.json_()), ['{"a": 1}', None, "2"]),
        (pa.array([1.5, None, 2], pa.float16()), ["1.5", None, "2"]),
    ],
)
def test_ids_of_any_type_are_shown_as_strings(tmp_path: Path, ids: pa.Array, read_as: list[str | None]) -> None:
    found = read(tmp_path, pa.table({"id": ids, "text": ["a", "b", "c"]}), groups=2)
    assert found.ids.to_pylist() == read_as
    assert found.ids.type == pa.string()


def test_without_an_id_column_ids_are_made(tmp_path: Path) -> None:
    found = read(tmp_path, pa.table({"text": ["a", "b"]}), id_=None)
    assert found.ids.to_pylist() == ["a.parquet#0", "a.parquet#1"]


def test_a_shard_that_is_a_part_of_a_row_group_has_its_own_rows(tmp_path: Path) -> None:
    """Slices of arrays: offsets that do not begin at zero, and a null and a bad text in another part."""
    values: list[bytes | None] = [b"text number %04d" % i for i in range(40)]
    values[3], values[21] = None, b"\xff"
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": range(40), "text": strings_of(values, pa.string())}), path, use_dictionary=False)
    shards = cut_shards(path, text="text", shard_max_bytes=300).shards
    assert len(shards) > 2
    rows = 0
    for shard in shards:
        found = read_documents(shard, "text", {"id": "id"})
        expected = values[rows : rows + shard.rows]
        assert found.ids.to_pylist() == [str(i) for i in range(rows, rows + shard.rows)]
        assert found.batch.texts() == [v.decode() for v in expected if v is not None and is_utf8(v)]
        assert len(found.unusable) == sum(row in (3, 21) for row in range(rows, rows + shard.rows))
        rows += shard.rows
    assert rows == 40


def test_a_text_column_of_nulls_has_null_texts(tmp_path: Path) -> None:
    found = read(tmp_path, pa.table({"id": ["1", "2"], "text": pa.nulls(2)}))
    assert (found.rows, found.unusable, len(found.batch)) == (2, {0: NULL_TEXT, 1: NULL_TEXT}, 0)


def test_a_shard_without_rows(tmp_path: Path) -> None:
    found = read(tmp_path, pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}))
    assert (found.rows, len(found.batch), found.unusable, found.input_text_bytes) == (0, 0, {}, 0)
    assert len(found.ids) == 0
