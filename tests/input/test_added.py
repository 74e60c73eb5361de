"""Keys of Hive folders and made ids are columns like others; those of the file come first."""

from __future__ import annotations

import json
import logging
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import InputError
from gneiss.input.added import MADE_ID
from gneiss.input.shard import Shard, cut_shards
from gneiss.loader.reader import documents
from tests import runs
from tests.support import recipe_of, write_documents

RULES = "- {name: only, dedup: {min_length: 20}, rules: {long: text_chars > 5}}"


def table_of(shard: Shard, *columns: str) -> pa.Table:
    return pa.concat_tables(table for _, table in shard.tables(columns or None))


def shards_of(folder: Path, hive: dict[str, str] | None = None, **given: Any) -> tuple[Shard, ...]:
    return cut_shards(folder, text="text", hive=hive or {}, **given).shards


# Keys of folders.


@pytest.mark.parametrize(
    ("folders", "keys"),
    [
        ("dump=CC-2024/lang=en", {"dump": "CC-2024", "lang": "en"}),
        ("lang=__HIVE_DEFAULT_PARTITION__", {"lang": None}),
        ("lang=", {"lang": ""}),
        ("of%20page=a%2Fb%3D+c", {"of page": "a/b=+c"}),
        ("lang=a=b", {"lang": "a=b"}),
        ("plain/lang=en/deeper", {"lang": "en"}),
        ("=x/plain", {}),
        ("_of=x", {"_of": "x"}),
        ("lang=%C3%A4", {"lang": "ä"}),
    ],
)
def test_keys_are_columns_after_those_of_the_file(tmp_path: Path, folders: str, keys: dict[str, str | None]) -> None:
    write_documents(tmp_path / folders / "x.parquet", ["one", "two"])
    (shard,) = shards_of(tmp_path)
    assert shard.schema().names == ["id", "text", *keys]
    assert table_of(shard).schema == shard.schema()
    assert table_of(shard).to_pylist() == [
        {"id": f"doc-{row}", "text": text, **keys} for row, text in enumerate(("one", "two"))
    ]
    assert table_of(shard, *reversed(keys), "text").select([*keys]).to_pylist() == [keys] * 2
    assert cut_shards(tmp_path, text="text").shards[0].schema().names == ["id", "text"], "null: names of folders"


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("int64", "2024", 2024),
        ("float64", "0.5", 0.5),
        ("bool", "true", True),
        ("int64", "__HIVE_DEFAULT_PARTITION__", None),
        ("string", "2024", "2024"),
    ],
)
def test_types_are_as_the_recipe_says(tmp_path: Path, type_: str, value: str, expected: object) -> None:
    write_documents(tmp_path / f"key={value}/x.parquet", ["one"])
    (shard,) = shards_of(tmp_path, {"key": type_})
    assert table_of(shard)["key"].to_pylist() == [expected]
    assert shard.schema().field("key").type == pa.type_for_alias(type_)


@pytest.mark.parametrize(
    ("folders", "hive", "reason"),
    [
        ("year=x", {"year": "int64"}, "folder 'year=x': 'x' is no int64, as `input.hive` of the recipe says"),
        ("year=1", {"month": "int64"}, "expected a folder month=…, as `input.hive` of the recipe names it, found none"),
        ("a=1/a=2", {}, "folder 'a=2': the key 'a' occurs twice in this path"),
        ("a=%FF", {}, "folder 'a=%FF': its %-escapes are not UTF-8"),
        ("id=1", {"id": "int64"}, "its own column 'id' comes before the key of its folder; take it off `input.hive`"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(tmp_path: Path, folders: str, hive: dict[str, str], reason: str) -> None:
    write_documents(tmp_path / folders / "x.parquet", ["one"])
    with pytest.raises(InputError, match=r"x\.parquet: ") as caught:
        shards_of(tmp_path, hive)
    assert reason in str(caught.value)


def test_a_column_of_the_file_comes_before_the_key(tmp_path: Path) -> None:
    write_documents(tmp_path / "lang=en/x.parquet", ["one"], lang=["fr"])
    assert table_of(shards_of(tmp_path)[0]).to_pylist() == [{"id": "doc-0", "text": "one", "lang": "fr"}]


def test_keys_above_the_input_are_none_and_ids_may_be_keys(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["one"]}), write_documents(tmp_path / "a=1/id=7/x.parquet", ["one"]))
    (shard,) = shards_of(tmp_path / "a=1", required=["id"], id="id")
    assert table_of(shard).to_pylist() == [{"text": "one", "id": "7"}]


def test_a_run_keeps_what_other_readers_find(tmp_path: Path) -> None:
    """pyarrow and DuckDB read the same rows of the input and of `data/`, whose files have the keys as columns."""
    duckdb = pytest.importorskip("duckdb")
    for lang in ("en", "__HIVE_DEFAULT_PARTITION__", "a%2Fb"):
        texts = [f"{row} {lang[:9]} is it." for row in range(3)]
        write_documents(tmp_path / f"in/dump=2024/lang={lang}/x.parquet", texts)
    gneiss.run(recipe_of(RULES), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    partitioning = ds.partitioning(pa.schema([("dump", pa.string()), ("lang", pa.string())]), flavor="hive")
    names = ["dump", "id", "lang", "text"]

    def rows(folder: Path) -> list[dict[str, Any]]:
        found = ds.dataset(folder, partitioning=partitioning).to_table(names).to_pylist()
        return sorted(found, key=lambda row: (str(row["lang"]), row["id"]))

    files = sorted((tmp_path / "out/data").rglob("*.parquet"))
    own = [row for file in files for row in pq.ParquetFile(file).read().select(names).to_pylist()]
    assert sorted(own, key=lambda row: (str(row["lang"]), row["id"])) == rows(tmp_path / "in")
    assert rows(tmp_path / "out/data") == rows(tmp_path / "in")
    for folder in (tmp_path / "in", tmp_path / "out/data"):
        found = duckdb.sql(
            f"SELECT dump, id, lang, text FROM read_parquet('{folder}/**/*.parquet', hive_partitioning=true,"
            " hive_types_autocast=false) ORDER BY lang::VARCHAR NULLS FIRST, id"
        ).to_arrow_table()
        expected = sorted(rows(tmp_path / "in"), key=lambda row: (row["lang"] is not None, row["lang"], row["id"]))
        assert found.to_pylist() == expected


# Made ids.


def write_texts(path: Path, count: int, rows: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [f"text {row} of {path.name}" for row in range(count)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=rows, use_dictionary=False)
    return path


def test_ids_are_made_of_file_and_row_however_shards_are_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_texts(tmp_path / "deep/a.parquet", 10)
    expected = [f"deep/a.parquet#{row}" for row in range(10)]
    for shard_max_bytes in (1, 40, 100, 1_000_000):
        shards = shards_of(tmp_path, id="id", shard_max_bytes=shard_max_bytes)
        assert [id_ for shard in shards for id_ in table_of(shard, "id")["id"].to_pylist()] == expected
        assert [id_ for shard in shards for id_ in table_of(shard, MADE_ID)[MADE_ID].to_pylist()] == expected
        assert [shard.schema().names for shard in shards] == [["text", "id"]] * len(shards)
    assert "deep/a.parquet: no column 'id'; ids are made of its path and the row" in caplog.text


def test_ids_of_lines_are_the_bytes_where_they_begin(tmp_path: Path) -> None:
    """The number of a line is not known where a shard begins in mid-file; lines of bad JSON have ids too."""
    lines = [json.dumps({"text": f"text {row}", "meta": {"n": row}}) for row in range(20)]
    lines[7] = "no JSON"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    begins = [0, *accumulate(len(line) + 1 for line in lines)][:-1]
    expected = [f"a.jsonl#{begin}" for begin in begins]
    for shard_max_bytes in (60, 200, 10**6):
        shards = shards_of(tmp_path, id="id", shard_max_bytes=shard_max_bytes)
        assert [id_ for shard in shards for id_ in table_of(shard, "id")["id"].to_pylist()] == expected
        numbers = [n for shard in shards for n in table_of(shard, "meta.n")["meta.n"].to_pylist()]
        assert numbers == [None if row == 7 else row for row in range(20)]
    assert len(shards_of(tmp_path, shard_max_bytes=60)) > 1


@pytest.mark.parametrize("id_", ["id", "null"])
def test_ids_of_data_annotations_and_loaded_documents_agree(tmp_path: Path, id_: str) -> None:
    write_texts(tmp_path / "in/a.parquet", 10)
    recipe = recipe_of(RULES, input=f"{{id: {id_}}}", shard_max_bytes=60)
    gneiss.run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    expected = [f"a.parquet#{row}" for row in range(10)]
    annotations = sorted((tmp_path / "out/annotations/base").rglob("*.parquet"))
    assert len(annotations) > 1
    assert [id_ for file in annotations for id_ in pq.read_table(file)["id"].to_pylist()] == expected
    assert [document.id for document in documents(tmp_path / "out", layers=(), columns=(), shuffled=False)] == expected
    data = pa.concat_tables(pq.read_table(file) for file in sorted((tmp_path / "out/data").rglob("*.parquet")))
    assert data.column_names == (["text"] if id_ == "null" else ["text", "id"]), "null: columns stay as they are"
    if id_ == "id":
        assert data["id"].to_pylist() == expected


def test_an_id_column_that_is_named_must_be_there(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.parquet", 2)
    recipe = recipe_of(RULES, input="{id: key}")
    with pytest.raises(InputError, match="expected a column 'key', found text"):
        gneiss.run(recipe, path, tmp_path / "out", backend=runs.InThisProcess())


# Metadata.


def test_other_libraries_are_told_of_columns_that_are_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spark = {"type": "struct", "fields": [{"name": "text", "type": "string", "nullable": True, "metadata": {}}]}
    features = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}}}}
    metadata = {
        "org.apache.spark.sql.parquet.row.metadata": json.dumps(spark),
        "huggingface": json.dumps(features),
        "other": "no JSON",
    }
    table = pa.table({"text": ["one"]}).replace_schema_metadata(metadata)
    (tmp_path / "year=2024/lang=en").mkdir(parents=True)
    pq.write_table(table, tmp_path / "year=2024/lang=en/x.parquet")
    caplog.set_level(logging.ERROR)
    (shard,) = shards_of(tmp_path, {"year": "int64"}, id="id")
    told = {key.decode(): value.decode() for key, value in shard.schema().metadata.items()}
    assert told["other"] == "no JSON"
    fields = json.loads(told["org.apache.spark.sql.parquet.row.metadata"])["fields"]
    assert [(field["name"], field["type"]) for field in fields] == [
        ("text", "string"), ("year", "long"), ("lang", "string"), ("id", "string"),
    ]  # fmt: skip
    assert json.loads(told["huggingface"])["info"]["features"] == {
        "text": {"dtype": "string", "_type": "Value"},
        "year": {"dtype": "int64", "_type": "Value"},
        "lang": {"dtype": "string", "_type": "Value"},
        "id": {"dtype": "string", "_type": "Value"},
    }


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", '{"info": null}', "1", "\udcff"])
def test_metadata_that_is_not_as_we_know_it_stays(tmp_path: Path, content: str) -> None:
    raw = content.encode("utf-8", "surrogateescape")
    table = pa.table({"text": ["one"]}).replace_schema_metadata({"huggingface": raw})
    pq.write_table(table, tmp_path / "x.parquet")
    (shard,) = shards_of(tmp_path, id="id")
    assert shard.schema().metadata[b"huggingface"] == raw
