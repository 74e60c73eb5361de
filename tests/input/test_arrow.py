"""Arrow IPC: every row once, in order, whoever wrote the file; damage is an error, never other rows."""

from __future__ import annotations

import io
import struct
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.input.formats.arrow import Arrow
from gneiss.input.formats.messages import BATCH, column_bytes, messages
from gneiss.input.shard import Shard, cut_shards, reading_on
from gneiss.store.place import place_of

#: Columns of every layout that has buffers of its own, before and after the text.
COLUMNS: dict[str, tuple[pa.DataType, Any]] = {
    "null": (pa.null(), None),
    "bool": (pa.bool_(), True),
    "view": (pa.string_view(), "a view that is longer than twelve bytes"),
    "decimal": (pa.decimal128(9, 2), None),
    "list": (pa.list_(pa.string()), ["x", None]),
    "map": (pa.map_(pa.string(), pa.int32()), [("k", 1)]),
    "fixed": (pa.list_(pa.float32(), 2), [1.0, 2.0]),
    "list view": (pa.list_view(pa.string_view()), ["y" * 20]),
    "kind": (pa.dictionary(pa.int8(), pa.string()), "web"),
    "uuid": (pa.uuid(), bytes(16)),
    "binary": (pa.binary(4), b"abcd"),
    "text": (pa.string(), "first"),
    "meta": (pa.struct([("view", pa.binary_view()), ("content", pa.large_string()), ("n", pa.int64())]), None),
}


def table_of(texts: list[str | None], names: list[str]) -> pa.Table:
    """Rows with texts in `text`, and in the field `content` of `meta`."""
    arrays: dict[str, pa.Array] = {}
    for name in names:
        type_, value = COLUMNS[name]
        values = [value if row % 3 else None for row in range(len(texts))]
        if name == "text":
            values = list(texts)
        if name == "meta":
            values = [None if text is None else {"view": b"v" * 20, "content": text, "n": 1} for text in texts]
        if name == "kind":
            arrays[name] = pa.array([f"kind {row % 3}" for row in range(len(texts))]).dictionary_encode().cast(type_)
        else:
            arrays[name] = pa.array(values, type_)
    return pa.table(arrays)


def write(path: Path, tables: list[pa.Table], kind: str = "stream", **options: Any) -> Path:
    """A file with a record batch a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    if kind == "file":  # which has one dictionary for all batches
        whole, ends = pa.concat_tables(tables).combine_chunks(), accumulate(map(len, tables))
        tables = [whole.slice(end - len(table), len(table)) for table, end in zip(tables, ends, strict=True)]
    with new(path, tables[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks())
    return path


def rows_of(shard: Shard, *columns: str) -> list[dict[str, Any]]:
    return [row for _, table in shard.tables(columns or None) for row in table.to_pylist()]


texts = st.lists(st.none() | st.text(max_size=30), max_size=9)


@given(st.lists(texts, min_size=1, max_size=6), st.permutations(list(COLUMNS)), st.data())
@pytest.mark.slow
def test_every_row_is_read_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str | None]], names: list[str], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["stream", "file"]))
    compression = data.draw(st.sampled_from([None, "lz4", "zstd"]))
    text = data.draw(st.sampled_from(["text", "meta.content"]))
    tables = [table_of(batch, names) for batch in batches]
    schema = tables[0].schema.with_metadata({"huggingface": "{}"})
    tables = [table.cast(schema) for table in tables]
    path = tmp_path_factory.mktemp("arrow") / "a.arrow"
    write(path, tables, kind, compression=compression, unify_dictionaries=kind == "file")
    shards = cut_shards(path, text=text, shard_max_bytes=data.draw(st.sampled_from([1, 40, 200, 10**6]))).shards
    expected = [row for table in tables for row in table.to_pylist()]
    of_worker = reading_on() if data.draw(st.booleans()) else lambda shard: shard
    found = [row for shard in shards for row in rows_of(of_worker(shard))]
    assert found == expected
    assert [shard.rows for shard in shards] == [len(rows_of(shard, "text")) for shard in shards]
    chosen = data.draw(st.lists(st.sampled_from([*names, "meta.n"]), unique=True))
    assert [row for shard in shards for row in rows_of(shard, *chosen, "text")] == [
        {name: row["meta"] and row["meta"]["n"] if name == "meta.n" else row[name] for name in (*chosen, "text")}
        for row in expected
    ]
    assert [shard.id for shard in shards] == sorted(shard.id for shard in shards)
    assert shards[0].schema().equals(schema, check_metadata=True)
    assert all(table.nbytes >= 0 for table in tables)


@given(texts, st.permutations(list(COLUMNS)))
def test_the_size_of_a_column_is_that_of_its_buffers(batch: list[str | None], names: list[str]) -> None:
    sink = io.BytesIO()
    table = table_of(batch, names)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], names))
    (found,) = [message for message in messages(pa.BufferReader(sink.getvalue())) if message.kind == BATCH]
    content = sum(len((text or "").encode()) for text in batch)
    for path in (("text",), ("meta", "content")):
        size = column_bytes(table.schema, found, path)
        width = 4 if path == ("text",) else 8
        overhead = width * (len(batch) + 1) + len(batch) // 8 + 1
        assert content <= size <= content + overhead + 3 * 8  # each buffer is padded
    assert sum(column_bytes(table.schema, found, (name,)) for name in names) == sum(size for _, size in found.buffers)


def test_a_batch_that_is_too_large_is_cut_by_rows_and_read_once_by_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"id": [str(row) for row in range(100)], "text": [f"{row:010}" for row in range(100)]})
    path = write(tmp_path / "a.arrow", [table.slice(0, 2), table.slice(2, 90), table.slice(92)])
    shards = cut_shards(path, text="text", shard_max_bytes=500).shards
    assert [shard.id for shard in shards] == [
        "a.b00000", "a.b00001.r000000000", "a.b00001.r000000030", "a.b00001.r000000060", "a.b00002",
    ]  # fmt: skip
    read: list[int] = []
    open_stream = pa.ipc.open_stream

    def counting(*given: Any, **options: Any) -> Any:
        read.append(1)
        return open_stream(*given, **options)

    monkeypatch.setattr(pa.ipc, "open_stream", counting)
    of_worker = reading_on()
    assert [row["text"] for shard in shards for row in rows_of(of_worker(shard), "text")] == table["text"].to_pylist()
    assert len(read) == 3, "the batch that was cut was read once"


def test_tiny_batches_are_gathered(tmp_path: Path) -> None:
    write(tmp_path / "a.arrow", [pa.table({"text": [f"text {row}"]}) for row in range(300)])
    (shard,) = cut_shards(tmp_path, text="text").shards
    assert [table.num_rows for _, table in shard.tables()] == [300]


def test_files_of_feather_and_pandas_are_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"text": ["one", "two"]}, index=[3, 7]).reset_index().to_feather(tmp_path / "a.feather")
    feather.write_feather(pa.table({"text": ["three"]}), tmp_path / "b.ipc", compression="zstd")
    found = [row["text"] for shard in cut_shards(tmp_path, text="text").shards for row in rows_of(shard)]
    assert found == ["one", "two", "three"]


@pytest.mark.parametrize("splits", [False, True])
@pytest.mark.slow
def test_folders_of_save_to_disk_are_read_without_their_caches(
    tmp_path: Path, splits: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"text": [f"text {row}" for row in range(10)]})
    whole = datasets.DatasetDict({"train": dataset, "test": dataset.select([4, 2])}) if splits else dataset
    whole.save_to_disk(tmp_path / "saved", **({} if splits else {"num_shards": 3}))
    again = datasets.load_from_disk(tmp_path / "saved")
    again.map(lambda row: {"text": row["text"] + "!"})  # leaves cache-….arrow beside
    assert list((tmp_path / "saved").rglob("cache-*.arrow"))
    found = {
        shard.id: [row["text"] for row in rows_of(shard)]
        for shard in cut_shards(tmp_path / "saved", text="text").shards
    }
    if splits:
        assert found == {
            "test/data-00000-of-00001": ["text 4", "text 2"],
            "train/data-00000-of-00001": [f"text {row}" for row in range(10)],
        }
    else:
        assert sorted(found) == [f"data-0000{part}-of-00003" for part in range(3)]
        assert [row for id_ in sorted(found) for row in found[id_]] == [f"text {row}" for row in range(10)]


# Damage.


def reason_of(path: Path) -> str:
    found = cut_shards(path, text="text")
    return found.unreadable[0].reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected an Arrow IPC file or stream"),
        (b"ab", "expected an Arrow IPC file or stream"),
        (b"no Arrow at all", "expected an Arrow IPC file or stream"),
        (b'{"text": "one"}\n', "expected an Arrow IPC file or stream"),
        (b"PAR1" + bytes(50), "expected an Arrow IPC file or stream"),
        (b"FEA1" + bytes(50), "Feather of version 1"),
        (b"ARROW1\0\0", "without its footer: cut short"),
        (b"ARROW1\0\0" + b"\xff" * 50 + b"ARROW1", "without its footer: cut short"),
        (struct.pack("<ii", -1, 0), "expected an Arrow IPC file or stream"),
        (struct.pack("<ii", -1, 8) + b"\xff" * 8, "damaged"),
        (struct.pack("<ii", -1, 1 << 30) + b"\xff" * 8, "expected an Arrow IPC file or stream"),
    ],
)
def test_a_file_that_is_no_arrow_is_set_aside_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.arrow").write_bytes(content)
    assert reason in reason_of(tmp_path)


@pytest.mark.parametrize("kind", ["stream", "file"])
@pytest.mark.slow
def test_a_file_cut_short_is_never_a_shorter_file(tmp_path: Path, kind: str) -> None:
    """But for a stream that ends between two messages, which is whole by definition."""
    table = pa.table({"text": ["one", "two", "three"]})
    content = write(tmp_path / "a.arrow", [table, table], kind).read_bytes()
    with (tmp_path / "a.arrow").open("rb") as file:
        whole_at = [message.end for message in messages(pa.PythonFile(file, "r"))]
    (tmp_path / "a.arrow").unlink()
    for size in range(len(content)):
        (tmp_path / "bad.arrow").write_bytes(content[:size])
        found = cut_shards(tmp_path / "bad.arrow", text="text")
        assert bool(found.shards) is (kind == "stream" and (size in whole_at or size >= whole_at[-1] + 8))


@given(st.data())
def test_damage_anywhere_ends_in_an_error_or_in_as_many_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind, compression = data.draw(st.sampled_from([("stream", None), ("file", None), ("stream", "lz4")]))
    path = tmp_path_factory.mktemp("damaged") / "a.arrow"
    table = table_of(["one", None, "three", "four"], list(COLUMNS))
    content = bytearray(write(path, [table, table.slice(1)], kind, compression=compression).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=8))
    content[at : at + len(junk)] = junk
    path.write_bytes(content)
    try:
        found = cut_shards(path, text="text")
        for shard in found.shards:
            for _, part in shard.tables():
                assert part.num_rows <= 100
                part.drop_columns("text").nbytes  # noqa: B018
    except InputError:
        pass


def test_a_batch_with_offsets_beyond_its_values_is_an_error(tmp_path: Path) -> None:
    """pyarrow takes offsets as they come, and reads beyond the buffer."""
    path = write(tmp_path / "a.arrow", [pa.table({"text": ["one", "two"]})])
    content = path.read_bytes()
    at = content.index(struct.pack("<iii", 0, 3, 6))
    path.write_bytes(content[:at] + struct.pack("<iii", 0, 3, 1 << 30) + content[at + 12 :])
    (shard,) = cut_shards(path, text="text").shards
    with pytest.raises(InputError, match=r"a\.arrow: cannot read: "):
        rows_of(shard)


def test_texts_that_are_no_utf8_are_read_as_they_are(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff"]).view(pa.string())
    write(tmp_path / "a.arrow", [pa.table({"text": raw})])
    (shard,) = cut_shards(tmp_path, text="text").shards
    ((_, table),) = shard.tables()
    assert table["text"].chunk(0).view(pa.binary()).to_pylist() == [b"good", b"\xff"]


def test_the_digest_changes_with_the_ends_of_a_file(tmp_path: Path) -> None:
    place = place_of(write(tmp_path / "a.arrow", [pa.table({"text": ["one"]})]))
    first = Arrow().digest(place)
    write(tmp_path / "a.arrow", [pa.table({"text": ["two"]})])
    assert Arrow().digest(place) != first
    write(tmp_path / "a.arrow", [pa.table({"text": ["one"]})])
    assert Arrow().digest(place) == first
