"""Files of other writers: what a run keeps of them has the same types and values, for the library that wrote them."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from tests import runs
from tests.support import recipe_of

KEPT = recipe_of("- {name: only, rules: {long: text_chars > 5}}")
ROWS = 30
TEXTS = [f"text number {row}" if row % 7 else "no" for row in range(ROWS)]
STAY = [row for row in range(ROWS) if row % 7]
BASE = pa.table({"id": [str(row) for row in range(ROWS)], "text": TEXTS})


def kept(source: Path, folder: Path) -> Path:
    """The folder of the documents of a run."""
    gneiss.run(KEPT, source, folder / "out", backend=runs.InThisProcess())
    return folder / "out/data"


def assert_kept(folder: Path, table: pa.Table, **options: Any) -> None:
    pq.write_table(table, folder / "a.parquet", row_group_size=11, **options)
    given, found = (
        pq.ParquetFile(path).read() for path in (folder / "a.parquet", kept(folder / "a.parquet", folder) / "a.parquet")
    )
    assert found.schema.equals(given.schema, check_metadata=True)
    rows = given.to_pylist()
    assert str(found.to_pylist()) == str([rows[row] for row in STAY])


@pytest.mark.parametrize(
    "options",
    [
        *({"compression": codec} for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd")),
        {"version": "1.0", "data_page_version": "2.0"},
        {"write_page_index": True, "write_page_checksum": True, "data_page_size": 100},
        {"bloom_filter_options": {"text": {"ndv": 100, "fpp": 0.01}}},
        {"store_schema": False},
        *(
            {"use_dictionary": False, "column_encoding": {"text": f"DELTA_{prefix}BYTE_ARRAY"}}
            for prefix in ("", "LENGTH_")
        ),
        {"use_dictionary": False, "column_encoding": {"f": "BYTE_STREAM_SPLIT", "i": "DELTA_BINARY_PACKED"}},
    ],
    ids=str,
)
@pytest.mark.slow
def test_any_codec_page_and_encoding(tmp_path: Path, options: dict[str, Any]) -> None:
    numbers = {"f": pa.array(np.arange(ROWS) / 3), "i": pa.array(range(ROWS), pa.int32())}
    assert_kept(tmp_path, pa.table({**dict(zip(BASE.column_names, BASE.columns, strict=True)), **numbers}), **options)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (pa.decimal32(5, 1), Decimal("1.5")),
        (pa.decimal256(50, 3), Decimal("1.125")),
        (pa.map_(pa.string(), pa.list_(pa.int64())), [("k", [1, None])]),
        (pa.float16(), np.float16(0.5)),
        (pa.date64(), date(2026, 1, 2)),
        (pa.time64("us"), time(1, 2, 3)),
        (pa.duration("us"), 5),
        (pa.timestamp("ns", "Europe/Berlin"), 7),
        (pa.uint64(), 2**63),
        (pa.list_view(pa.string()), ["x"]),
        (pa.list_(pa.int16(), 2), [1, 2]),
        (pa.struct([("a", pa.struct([("b", pa.list_(pa.string_view()))]))]), {"a": {"b": ["x" * 20]}}),
        (pa.json_(), "{}"),
        (pa.bool8(), 1),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
@pytest.mark.slow
def test_columns_of_any_type(tmp_path: Path, type_: pa.DataType, value: object) -> None:
    values = pa.array([None if row % 5 == 0 else value for row in range(ROWS)], type_)
    assert_kept(tmp_path, BASE.append_column("a.b", values))


@pytest.mark.parametrize(
    "type_",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_texts_of_any_layout(tmp_path: Path, type_: pa.DataType) -> None:
    texts = BASE["text"].dictionary_encode().cast(type_) if pa.types.is_dictionary(type_) else BASE["text"].cast(type_)
    assert_kept(tmp_path, BASE.set_column(1, "text", texts))


def test_row_groups_without_rows_and_files_without_any(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pq.ParquetWriter(tmp_path / "in/a.parquet", BASE.schema) as writer:
        for part in (BASE.slice(0, 0), BASE.slice(0, 10), BASE.slice(0, 0), BASE.slice(10)):
            writer.write_table(part)
    pq.write_table(BASE.slice(0, 0), tmp_path / "in/b.parquet")
    pq.ParquetWriter(tmp_path / "in/c.parquet", BASE.schema).close()
    folder = kept(tmp_path / "in", tmp_path)
    assert [pq.read_metadata(folder / f"{name}.parquet").num_rows for name in "abc"] == [len(STAY), 0, 0]


@pytest.mark.parametrize("index", ["range", "named", "of two levels"])
def test_pandas_has_its_index_and_types_again(tmp_path: Path, index: str) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "id": [str(row) for row in range(ROWS)],
            "text": TEXTS,
            "kind": pd.Categorical(["a", "b", None] * (ROWS // 3), categories=["b", "a", "c"]),
            "when": pd.date_range("2026-01-01", periods=ROWS, tz="Europe/Berlin"),
            "count": pd.array([1, None] * (ROWS // 2), dtype="Int64"),
        }
    )
    if index == "named":
        frame = frame.set_index("id", drop=False).rename_axis("key")
    if index == "of two levels":
        frame = frame.set_index([list("xy") * (ROWS // 2), list(range(ROWS))])
    frame.to_parquet(tmp_path / "a.parquet")
    expected = frame.iloc[STAY]
    found = pd.read_parquet(kept(tmp_path / "a.parquet", tmp_path) / "a.parquet")
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True) if index == "range" else expected)


@pytest.mark.parametrize("has_ids", [True, False])
@pytest.mark.parametrize("form", ["parquet", "saved"])
@pytest.mark.slow
def test_datasets_has_its_features_again(
    tmp_path: Path, has_ids: bool, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a column that is added, which its metadata must name."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    features = {
        "id": datasets.Value("string"),
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["x", "y"]),
        "tags": datasets.List(datasets.Value("int32")),
        "meta": {"a": datasets.Value("float32")},
    }
    rows = [
        {"id": str(row), "text": text, "label": row % 2, "tags": [row], "meta": {"a": row / 2}}
        for row, text in enumerate(TEXTS)
    ]
    dataset = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    dataset = dataset if has_ids else dataset.remove_columns("id")
    (tmp_path / "in").mkdir()
    if form == "saved":
        dataset.save_to_disk(tmp_path / "in")
    else:
        dataset.to_parquet(tmp_path / "in/a.parquet")
    (file,) = kept(tmp_path / "in", tmp_path).rglob("*.parquet")
    found = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert found.features == {**dataset.features, "id": datasets.Value("string")}
    assert found.remove_columns("id").to_list() == [
        {name: value for name, value in rows[row].items() if name != "id"} for row in STAY
    ]


def test_duckdb_has_its_types_again(tmp_path: Path) -> None:
    """But for INTERVAL, which pyarrow reads as 12 bytes."""
    import duckdb

    duckdb.sql(
        "COPY (SELECT i::VARCHAR id, CASE WHEN i % 7 = 0 THEN 'no' ELSE 'text number ' || i END AS text,"
        " {'a': i, 'b': [i]} s, MAP {'k': i} m, i::DECIMAL(9, 2) d, uuid() u, TIMESTAMP '2026-01-01' t, i::HUGEINT h,"
        " 'x'::ENUM ('x', 'y') e, '\\x01'::BLOB b, TIME '01:00' o, i::UTINYINT n"
        f" FROM range({ROWS}) r(i)) TO '{tmp_path}/a.parquet' (FORMAT parquet)"
    )
    given = duckdb.sql(f"SELECT * FROM '{tmp_path}/a.parquet' WHERE text != 'no' ORDER BY id::INT")
    found = duckdb.sql(f"SELECT * FROM '{kept(tmp_path / 'a.parquet', tmp_path)}/a.parquet' ORDER BY id::INT")
    assert (found.columns, found.types) == (given.columns, given.types)
    assert found.fetchall() == given.fetchall()
