"""Parquet files: cut by what they decode to, never the end of a process, and columns that come as they are."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.input.formats import parquet, row_groups
from gneiss.input.formats.footer import BYTE_ARRAY, column_chunks
from gneiss.input.shard import Shard, cut_shards

DOCUMENT = "A page that was served for every address that is not there any more. " * 15


def footer_of(content: bytes) -> bytes:
    return content[-8 - int.from_bytes(content[-8:-4], "little") : -8]


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def texts_of(shards: tuple[Shard, ...]) -> list[str]:
    return [text for shard in shards for _, table in shard.tables(["text"]) for text in table["text"].to_pylist()]


# Footers.


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False},
        {"write_page_index": True, "compression": "zstd"},
        {"write_statistics": False, "store_schema": False, "data_page_version": "2.0"},
    ],
)
def test_a_footer_is_read_as_pyarrow_reads_it(rows: int, options: dict[str, Any]) -> None:
    table = pa.table(
        {
            "id": pa.array([str(i) for i in range(20)]),
            "text": pa.array([None, "ä" * 30] * 10),
            "n": pa.array(range(20)),
            "meta": pa.array([{"a": [1, 2], "b": "x", "c": None}] * 20),
            "flag": pa.array([True, None] * 10),
            "price": pa.array(range(20)).cast(pa.decimal128(30, 2)),
        }
    ).replace_schema_metadata({"huggingface": "{}" * 100})
    if rows == 0:
        table, rows = table.slice(0, 0), 1
    content = written(table, row_group_size=rows, **options)
    metadata = pq.read_metadata(io.BytesIO(content))
    found = column_chunks(footer_of(content), metadata.num_row_groups, metadata.num_columns)
    assert not found.is_encrypted
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            assert found.values[group, column] == chunk.num_values
            assert found.encoded_bytes[group, column] == chunk.total_uncompressed_size
            assert (found.physical_type[group, column] == BYTE_ARRAY) == (chunk.physical_type == "BYTE_ARRAY")
            assert found.is_packed[group, column] == ("RLE_DICTIONARY" in chunk.encodings)
        texts = pq.ParquetFile(io.BytesIO(content)).read_row_group(group)["text"].drop_null().to_pylist()
        assert found.value_bytes[group, 1] == (sum(len(text.encode()) for text in texts) if table.num_rows else -1)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), st.floats(0, 1))
@settings(max_examples=400)
@pytest.mark.slow
def test_no_footer_ends_the_process(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]], end: float
) -> None:
    """pyarrow's own accessors do, on footers like some of these; it would be the end of this test, too."""
    content = bytearray(
        written(pa.table({"id": ["1", "2", "3"], "text": ["one", "two", "two"], "m": [[1], [2], []]}), row_group_size=2)
    )
    start, stop = len(content) - 8 - len(footer_of(content)), len(content) - 8
    for place, value in changes:
        content[start + int(place * (stop - start - 1))] = value
    if end < 0.1:
        content[stop - int(end * 100) : stop] = b"\0" * int(end * 100)
    path = tmp_path_factory.mktemp("footer") / "a.parquet"
    path.write_bytes(content)
    try:
        found = cut_shards(path, text="text", shard_max_bytes=4)
        for shard in found.shards:
            for _, table in shard.tables():
                assert table.num_rows <= 3
    except InputError:
        return
    assert len(found.unreadable) + len(found.shards) > 0


@given(st.binary(max_size=60), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=500)
def test_bytes_that_are_no_footer_are_refused(content: bytes, row_groups: int, columns: int) -> None:
    try:
        column_chunks(content, row_groups, columns)
    except OSError as error:
        assert str(error).startswith("the footer is damaged: ")  # noqa: PT017


class _Kms(pe.KmsClient):  # type: ignore[misc]
    """Keys that anybody could wrap."""

    def __init__(self, config: pe.KmsConnectionConfig) -> None:
        pe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("column", ["id", "text", "more", None])
@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_encrypted_files_are_set_aside_with_the_reason(
    tmp_path: Path, column: str | None, plaintext_footer: bool
) -> None:
    table = pa.table({"id": ["a"] * 9, "text": ["one"] * 9, "more": ["x"] * 9})
    keys = {"c": [column]} if column else {"c": table.column_names}
    config = pe.EncryptionConfiguration(footer_key="f", column_keys=keys, plaintext_footer=plaintext_footer)
    properties = pe.CryptoFactory(_Kms).file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table, row_group_size=4)
    pq.write_table(table, tmp_path / "good.parquet")
    found = cut_shards(tmp_path, text="text")
    assert [shard.id for shard in found.shards] == ["good"]
    reason = "its columns are encrypted, some or all" if plaintext_footer else "its footer is encrypted"
    assert [file.reason for file in found.unreadable] == [f"{reason}; decrypt it first"]


# Sizes.


@pytest.mark.parametrize("says_sizes", [True, False])
@pytest.mark.parametrize("kind", ["repeated", "repeated late", "beside others", "categories"])
def test_a_file_is_cut_by_what_its_texts_decode_to(
    tmp_path: Path, kind: str, says_sizes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        "repeated": [DOCUMENT] * 2000,
        "repeated late": [f"{i}" for i in range(100)] + [DOCUMENT] * 1900,
        "beside others": [DOCUMENT if i % 2 else f"{i}" * 20 for i in range(2000)],
        "categories": [DOCUMENT * (i % 3) for i in range(2000)],
    }[kind]
    content = written(pa.table({"id": [str(i) for i in range(2000)], "text": texts}), row_group_size=500)
    if not says_sizes:
        monkeypatch.setattr(parquet, "_known", lambda chunks: chunks.value_bytes * 0 - 1)
    (tmp_path / "a.parquet").write_bytes(content)
    size = sum(len(text) for text in texts)
    shards = cut_shards(tmp_path, text="text", shard_max_bytes=100_000).shards
    assert size / 100_000 <= len(shards) <= 1.5 * size / 100_000 + 4
    assert 0.9 * size <= sum(shard.text_bytes for shard in shards) <= 1.3 * size
    assert max(sum(map(len, texts_of((shard,)))) for shard in shards) <= 200_000
    assert texts_of(shards) == texts


def test_files_that_decode_to_what_they_hold_are_cut_by_their_footers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With or without sizes in the footer, and with a few repeats."""
    texts = [f"{i} {DOCUMENT[: i % 900]}" for i in range(1000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=100)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    encoded = [metadata.row_group(group).column(0).total_uncompressed_size for group in range(10)]
    for _ in range(2):
        shards = cut_shards(tmp_path, text="text", shard_max_bytes=100_000).shards
        assert sum(shard.text_bytes for shard in shards) == sum(encoded)
        monkeypatch.setattr(parquet, "_known", lambda chunks: chunks.value_bytes * 0 - 1)


def test_row_groups_that_are_too_large_to_hold_are_read_in_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the size of all columns: texts are not all that takes memory."""
    monkeypatch.setattr(row_groups, "_TABLE_BYTES", 20_000)
    table = pa.table({"id": ["x" * 1000] * 300, "text": [f"{i}" for i in range(300)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    (shard,) = cut_shards(tmp_path, text="text").shards
    assert shard.part.table_bytes == 20_000
    tables = list(shard.tables())
    assert max(table.nbytes for _, table in tables) < 25_000
    assert [first for first, _ in tables] == [*range(0, 300, tables[0][1].num_rows)][: len(tables)] or len(tables) > 9
    assert pa.concat_tables(table for _, table in tables).equals(table)
    (small,) = cut_shards(tmp_path, text="text").shards
    assert pa.concat_tables(part for _, part in small.tables(["text"])).equals(table.select(["text"]))


# Timestamps.


def int96(*values: datetime | int | None) -> pa.Array:
    unit = "ns" if any(isinstance(value, int) for value in values) else "us"
    return pa.array(values, pa.timestamp(unit))


LAST, FIRST, COMMON = datetime(9999, 12, 31), datetime(1, 1, 1), datetime(2024, 2, 29, 1, 2, 3, 456789)


def nested(values: list[Any]) -> Iterator[tuple[str, pa.Array]]:
    type_ = pa.timestamp("us")
    yield "plain", pa.array(values, type_)
    yield "struct", pa.array([{"a": value} for value in values], pa.struct([("a", type_)]))
    yield "list", pa.array([[value, None] for value in values], pa.list_(type_))


@pytest.mark.parametrize("values", [[LAST, COMMON], [FIRST, None], [datetime(2262, 4, 12), datetime(1677, 9, 20)]])
def test_int96_timestamps_of_any_year_stay_what_they_are(tmp_path: Path, values: list[datetime | None]) -> None:
    """9999-12-31 is what many tables hold for ever; in nanoseconds it would be 1816."""
    table = pa.table({"text": ["a", "b"], **dict(nested(values))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    (shard,) = cut_shards(tmp_path, text="text").shards
    ((_, found),) = shard.tables()
    assert found.to_pylist() == table.to_pylist()
    assert found.schema.equals(shard.schema())
    assert next(shard.tables(["text"]))[1].to_pylist() == [{"text": "a"}, {"text": "b"}]


def test_int96_timestamps_that_fit_keep_their_nanoseconds(tmp_path: Path) -> None:
    at = pa.array([1_600_000_000_123_456_789, None], pa.timestamp("ns"))
    pq.write_table(
        pa.table({"text": ["a", "b"], "at": at}), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True
    )
    (shard,) = cut_shards(tmp_path, text="text").shards
    ((_, found),) = shard.tables()
    assert found["at"].combine_chunks().equals(at)


@pytest.mark.parametrize(
    ("days", "reason"),
    [(2**31 - 1, "beyond all years"), (5_000_000, "beyond the years 1677 to 2262 beside others finer")],
)
def test_int96_timestamps_that_no_unit_holds_are_refused_by_name(tmp_path: Path, days: int, reason: str) -> None:
    time = 1_600_000_000_123_456_789
    table = pa.table({"text": ["a", "b"], "at": pa.array([time] * 2, pa.timestamp("ns"))})
    options = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    content = written(table, use_deprecated_int96_timestamps=True, **options)
    day, nanoseconds = divmod(time, 86_400_000_000_000)
    old = nanoseconds.to_bytes(8, "little") + (day + 2_440_588).to_bytes(4, "little")
    assert content.count(old) == 2
    (tmp_path / "a.parquet").write_bytes(content.replace(old, old[:8] + days.to_bytes(4, "little"), 1))
    (shard,) = cut_shards(tmp_path, text="text").shards
    with pytest.raises(InputError, match=f"at: INT96 timestamps {reason}"):
        list(shard.tables())
    assert len(list(shard.tables(["text"]))) == 1, "what is not read does not matter"


def test_neighbours_in_a_list_of_shards_follow_each_other(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [DOCUMENT] * 500}), tmp_path / "a.parquet")
    shards = cut_shards(tmp_path, text="text", shard_max_bytes=50_000).shards
    assert all(left.part.end == right.part.start for left, right in pairwise(shards))
