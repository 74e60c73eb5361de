"""Published annotations as layers: against a dictionary, from every form that tables have, and what is refused."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss.cli.main import app
from gneiss.errors import GneissError, InputError, OutputError
from gneiss.layers import annotate_from
from gneiss.layers.surt import surt
from gneiss.output import annotation_tables
from gneiss.output.finished_run import open_run
from tests import runs
from tests.layers.test_weights import rows_of
from tests.store.fake_hub import FakeHub

Copy = Callable[[Path], Path]


def ids_of(output: Path) -> list[str]:
    return [row["id"] for row in rows_of(output, "base")]


def values_of(output: Path, layer: str, *columns: str) -> list[Any]:
    """The values of a layer for every row of a run; a tuple where several columns are named."""
    rows = rows_of(output, layer)
    return [row[columns[0]] if len(columns) == 1 else tuple(row[name] for name in columns) for row in rows]


def write_table(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=len(next(iter(columns.values()))) // 3 + 1)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


COLUMNS: dict[str, pa.Array] = {
    "flag": pa.array([True, None, False]),
    "small": pa.array([-3, None, 127], pa.int8()),
    "large": pa.array([0, 2**64 - 1, None], pa.uint64()),
    "half": pa.array([0.5, math.inf, None], pa.float32()),
    "score": pa.array([-0.0, 1e-300, None]),
    "label": pa.array(["", "a\x1b[31m\0\n", None], pa.large_string()),
    "coded": pa.array(["x", None, "y"]).dictionary_encode(),
    "raw": pa.array([b"\xff\x00", b"", None], pa.binary()),
    "day": pa.array([0, 1, None], pa.date32()),
    "second": pa.array([0, 1, None], pa.timestamp("s")),
    "zoned": pa.array([0, 10**15, None], pa.timestamp("us", "UTC")),
    "nano": pa.array([0, 1, None], pa.timestamp("ns")),
    "list": pa.array([[], ["a", None], None], pa.list_(pa.string())),
    "fixed": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2)),
    "struct": pa.array([{"A": 1, "b": [{"c": 0.5}]}, None, {"A": None, "b": []}]),
    "none": pa.nulls(3),
}


def test_values_of_every_type_come_through(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    named = ["elsewhere", ids[7], ids[-1]]
    metadata = annotate_from(output, write_table(tmp_path / "t.parquet", id=named, **COLUMNS), on="id").metadata
    plain = {name: column.to_pylist() for name, column in COLUMNS.items()}
    for row in rows_of(output, "published"):
        at = named.index(row["id"]) if row["id"] in named else None
        assert {name: row[name] for name in plain} == {
            name: None if at is None else values[at] for name, values in plain.items()
        }
    schema = pq.read_schema(output / "annotations/published/a.parquet")
    for name, column in COLUMNS.items():
        kept = name not in {"label", "coded", "fixed", "none", "second"}  # which have the plain layout of their type
        assert not kept or schema.field(name).type.equals(column.type), name
    summary = metadata["summary"]
    assert (summary["documents"], summary["documents_matched"], summary["documents_without_key"]) == (180, 2, 0)
    assert (summary["rows"], summary["rows_matched"], summary["rows_without_key"]) == (3, 2, 0)


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_those_of_a_dictionary(
    seed: int, curated: Path, copy_of: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order and number of rows, files and portions; keys that are null, empty or repeated on our side."""
    draw = Random(seed)
    output = copy_of(curated)
    ids = ids_of(output)
    table: dict[str | None, float] = dict.fromkeys([*draw.sample(ids, draw.randrange(len(ids))), "", "ä\0"], 0.0)
    keys: list[str | None] = [*table, None, None]
    draw.shuffle(keys)
    score = [draw.random() for _ in keys]
    cut = draw.randrange(len(keys))
    for name, low, high in (("b", 0, cut), ("a", cut, len(keys))):
        write_table(tmp_path / f"t/{name}.parquet", id=pa.array(keys[low:high], pa.string()), score=score[low:high])
    monkeypatch.setattr(annotation_tables, "BATCH_ROWS", draw.choice([7, 20_000]))
    summary = annotate_from(output, tmp_path / "t", on=["id"]).metadata["summary"]
    expected = dict(zip(keys, score, strict=True))
    assert values_of(output, "published", "score") == [expected.get(id_) for id_ in ids]
    assert summary["rows_without_key"] == 2
    assert summary["documents_matched"] == summary["rows_matched"] == len(table) - 2


def test_the_form_of_a_table_does_not_matter(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    rows = [{"id": id_, "score": at / 7, "tags": ["a"] * (at % 3)} for at, id_ in enumerate(ids[::2])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    forms = [tmp_path / "t.parquet", write_jsonl(tmp_path / "t.jsonl", rows), write_jsonl(tmp_path / "t.json.gz", rows)]
    for number, table in enumerate(forms):
        annotate_from(output, table, on="id", layer=f"l{number}")
    found = [values_of(output, f"l{number}", "id", "score", "tags") for number in range(len(forms))]
    assert found[0] == found[1] == found[2]


def test_columns_that_annotations_lack_are_read_of_documents(
    curated: Path, copy_of: Copy, tmp_path: Path, material: runs.Material
) -> None:
    """Of those that were kept from data/, of all from the input; `url_surtkey` is compared with the SURT of URLs."""
    output = copy_of(curated)
    base = rows_of(output, "base")
    urls = {row["id"]: f"https://x/{row['id']}" for row in base}
    table = write_table(
        tmp_path / "t.parquet", url_surtkey=[surt(url.encode()) for url in urls.values()], score=list(range(180))
    )
    kept = annotate_from(output, table, on="url", layer="kept").metadata
    assert kept["parameters"]["kept_only"]
    assert kept["summary"]["documents_without_key"] == 48
    whole = annotate_from(output, table, on="url", layer="whole", input=material.input).metadata
    assert not whole["parameters"]["kept_only"]
    assert values_of(output, "whole", "score") == list(range(180))
    expected = [at if row["status"] == "kept" else None for at, row in enumerate(base)]
    assert values_of(output, "kept", "score") == expected


def test_keys_of_several_columns_and_of_folders(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    """As Common Crawl's tables: a folder a crawl, and the time of the fetch."""
    output = copy_of(curated)
    ids = ids_of(output)
    for number, crawl in enumerate(("7", "8")):  # token_count, by name a folder's key, is 7 for all documents
        times = pa.array([datetime(2024, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)] * 180, pa.timestamp("ms", "UTC"))
        write_table(tmp_path / f"t/crawl={crawl}/a.parquet", page_id=ids, fetch_time=times, score=[number] * 180)
    with pytest.raises(InputError, match=r"2 rows have page_id=id 'a-0', and 180 rows in all repeat"):
        annotate_from(output, tmp_path / "t", on="page_id=id")
    assert not (output / "annotations/published").exists()
    summary = annotate_from(output, tmp_path / "t", on="page_id=id", repeats="first").metadata["summary"]
    assert values_of(output, "published", "score") == [0] * 180
    assert values_of(output, "published", "crawl") == ["7"] * 180
    assert summary["rows_repeated"] == 180
    with pytest.raises(InputError, match=r"column 'token_count' of its documents: expected strings .* found int64"):
        annotate_from(output, tmp_path / "t", on=["page_id=id", "crawl=token_count"], layer="other")


def test_times_are_those_that_fineweb_writes(tmp_path: Path) -> None:
    from gneiss.layers.keys import comparable

    instant = datetime(2024, 1, 2, 3, 4, 5, 678_000)
    for type_ in (pa.timestamp("ms"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "America/New_York")):
        column = pa.chunked_array([pa.array([instant, None], pa.timestamp("us")).cast(type_)])
        assert comparable(column).to_pylist() == [b"2024-01-02T03:04:05Z", None]


def test_columns_that_documents_have_are_left_out_unless_they_are_named(
    curated: Path, copy_of: Copy, tmp_path: Path
) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    table = write_table(tmp_path / "t.parquet", id=ids, text=["a"] * 180, score=[1] * 180, int_score=[2] * 180)
    written = annotate_from(output, table, on="id", layer="edu")
    assert [*written.metadata["columns"]] == ["score", "int_score"]
    assert written.metadata["summary"]["left_out"] == ["text"]
    assert [*annotate_from(output, table, on="id", layer="texts", columns=["text"]).metadata["columns"]] == ["text"]


def test_columns_of_names_that_are_taken_are_called_after_their_layer(
    curated: Path, copy_of: Copy, tmp_path: Path
) -> None:
    from gneiss.report import open_documents

    output = copy_of(curated)
    table = write_table(tmp_path / "t.parquet", id=["a-0"], Prose=[0.5], shard=["x"], words=[3])
    annotate_from(output, table, on="id", layer="its")
    with open_documents(open_run(output), ["its"]) as connection:
        rows = connection.sql('SELECT "its.Prose", "its.shard", "its.words", shard, words FROM documents').fetchall()
    assert [row[:3] for row in rows if row[0] is not None] == [(0.5, "x", 3)]
    assert "x" not in {row[3] for row in rows}
    assert open_run(output).annotations(["its"], ["its.shard"])["its.shard"].null_count == 179


def test_a_table_on_the_hub_is_pinned(curated: Path, copy_of: Copy, hub: FakeHub, tmp_path: Path) -> None:
    output = copy_of(curated)
    table = write_table(tmp_path / "t.parquet", id=["a-0"], score=[0.5])
    hub.add("datasets/own/scores", {"data/a.parquet": table.read_bytes()}, private=True)
    annotate_from(output, "hf://datasets/own/scores/data", on="id")
    assert values_of(output, "published", "score")[:2] == [0.5, None]


def test_attributes_of_dolma_are_scores_and_spans(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    spans = [[[0, 9, 0.25]], [[0, 4, 1], [4, 9, 0.5]], [], None]
    rows = [
        {"id": id_, "source": "s", "attributes": {"exp__tagger__label": spans[at % 4], "toxicity": at}}
        for at, id_ in enumerate(ids)
    ]
    write_jsonl(tmp_path / "attributes/exp/part.json.gz", rows)
    annotate_from(output, tmp_path / "attributes", on="id", layer="dolma")
    found = rows_of(output, "dolma")
    assert [row["exp__tagger__label"] for row in found] == [0.25, None, None, None] * 45
    named = [
        row_spans and [dict(zip(("start", "end", "score"), span, strict=True)) for span in row_spans]
        for row_spans in spans
    ]
    assert [row["exp__tagger__label_spans"] for row in found[:3]] == named[:3]
    assert not found[3]["exp__tagger__label_spans"]
    assert [row["toxicity"] for row in found] == list(range(180))


def test_signals_of_redpajama_are_json(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    signals = [{"rps_doc_words": [[0, 9, at]], "rps_lines": [[0, 4, None], [4, 9, 0.5]]} for at in range(180)]
    signals[5] = {}
    table = write_table(tmp_path / "t.parquet", doc_id=ids, quality_signals=list(map(json.dumps, signals)))
    annotate_from(output, table, on="doc_id=id", layer="rp")
    annotate_from(output, table, on="doc_id=id", layer="one", columns=["rps_doc_words"])
    expected = [None if at == 5 else float(at) for at in range(180)]
    assert values_of(output, "rp", "rps_doc_words") == values_of(output, "one", "rps_doc_words") == expected
    assert rows_of(output, "rp")[0]["rps_lines_spans"][0] == {"start": 0, "end": 4, "score": None}
    assert "rps_lines" not in rows_of(output, "one")[0]


def test_attributes_of_marin_are_values(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    attributes = [{"quality": at / 180, "topic": {"top_label": "a", "top_score": 0.5}} for at in range(180)]
    table = write_table(tmp_path / "t.parquet", id=ids, partition_id=[0] * 180, attributes=attributes)
    annotate_from(output, table, on="id", layer="marin", columns=["quality", "topic", "attributes.topic.top_label"])
    row = rows_of(output, "marin")[-1]
    assert row | {"quality": 179 / 180, "topic": attributes[0]["topic"], "top_label": "a"} == row


def test_a_layer_that_was_begun_is_completed(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    table = write_table(tmp_path / "t.parquet", id=ids, score=list(range(180)))
    annotate_from(output, table, on="id")
    expected = runs.promised(output)
    for lost in [name for name in expected if name.startswith("annotations/published/")][:2]:
        (output / "_gneiss/layers/published.json").unlink()
        (output / lost).unlink()
        before = runs.touched(output)
        assert not annotate_from(output, table, on="id").was_there
        assert runs.promised(output) == expected
        assert {name: runs.touched(output)[name] for name in before} == before
    assert annotate_from(output, table, on="id").was_there
    write_table(table, id=ids, score=[0] * 179 + [None])
    with pytest.raises(OutputError, match="with another table; a layer is never rewritten"):
        annotate_from(output, table, on="id")


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        ({"score": [1.0]}, {}, r"t.parquet: no column 'id' to join on; known: score"),
        ({"idx": ["a"], "score": [1.0]}, {}, r"no column 'id' to join on; did you mean 'idx'\?"),
        ({"id": [7], "score": [1.0]}, {}, r"column 'id': expected strings to join on, or times, found int64"),
        ({"id": ["a"], "score": [1.0]}, {"columns": ["skore"]}, r"no column 'skore'; did you mean 'score'\?"),
        ({"id": ["a"], "row": [1]}, {}, r"every layer has a column 'row'"),
        ({"id": ["a"], "text": ["b"]}, {}, r"no column beside id, text; name those to take"),
        ({"id": ["a"], "gap": pa.array([1], pa.duration("s"))}, {}, r"column 'gap': a layer cannot take duration"),
        ({"id": ["a"], "both": [{"a": 1, "A": 2}]}, {}, r"column 'both': a layer cannot take struct"),
        ({"id": ["a"], "score": [1.0]}, {"on": []}, r"name the column to join on"),
        ({"id": ["a"], "score": [1.0]}, {"on": "id=nothing"}, r"no column 'nothing'; known: id, text, .*url"),
        ({"url": ["a"], "score": [1.0]}, {"on": "url=id", "input": "x"}, r"input x: not needed"),
        ({"id": ["a"], "score": [1.0]}, {"repeats": "last"}, r"repeats 'last': expected 'refuse' or 'first'"),
        ({"id": ["a"], "score": [1.0]}, {"layer": "base"}, r"not `base`"),
        ({"id": ["a"], "quality_signals": ['{"a": 1}']}, {}, r"row 0 or one after it: quality_signals: expected lists"),
        ({"id": ["a"], "attributes": [{"a": [[1.0]]}]}, {}, r"expected lists of \[start, end, score\]"),
        ({"id": ["a"], "Score": [1], "score": [2]}, {}, r"differ in capitals only, 'score'"),
        ({"id": ["a"], "attributes": [{"b": 1}], "b": [2]}, {}, r"'attributes.b' and 'b' would both be 'b'"),
    ],
)
def test_unfit_tables_and_options_are_refused(
    columns: dict[str, Any], given: dict[str, Any], message: str, curated: Path, tmp_path: Path
) -> None:
    before = runs.touched(curated)
    with pytest.raises(GneissError, match=message):
        annotate_from(curated, write_table(tmp_path / "t.parquet", **columns), **{"on": "id", **given})
    assert runs.touched(curated) == before


def test_files_that_are_damaged_or_malformed_are_refused(curated: Path, tmp_path: Path) -> None:
    before = runs.touched(curated)
    table = write_table(tmp_path / "t/a.parquet", id=["a"], score=[1.0])
    (tmp_path / "t/b.parquet").write_bytes(b"no Parquet file")
    with pytest.raises(InputError, match=r"b.parquet: expected a Parquet file.*joined whole"):
        annotate_from(curated, table.parent, on="id")
    write_table(tmp_path / "t/b.parquet", id=["a"], other=[1.0])
    with pytest.raises(InputError, match=r"column 'score': .*b.parquet has none"):
        annotate_from(curated, table.parent, on="id")
    write_table(tmp_path / "t/b.parquet", id=["a"], score=["high"])
    for columns in (None, ["score"]):
        with pytest.raises(InputError, match=r"column 'score': files have different types: .*score"):
            annotate_from(curated, table.parent, on="id", columns=columns)
    (tmp_path / "t.jsonl").write_text('{"id": "a", "score": 1}\n{"id": "b", "sco\n')
    with pytest.raises(InputError, match=r"t.jsonl: row 0 or one after it: a malformed row"):
        annotate_from(curated, tmp_path / "t.jsonl", on="id")
    with pytest.raises(InputError, match="no such file"):
        annotate_from(curated, tmp_path / "nothing", on="id")
    with pytest.raises(InputError, match="no finished run here"):
        annotate_from(tmp_path, table, on="id")
    assert runs.touched(curated) == before


def test_an_input_that_is_not_the_runs_is_refused(curated: Path, tmp_path: Path, material: runs.Material) -> None:
    table = write_table(tmp_path / "t.parquet", url=["a"], score=[1.0])
    with pytest.raises(InputError, match=r"no shard 'a"):
        annotate_from(curated, table, on="url", input=material.input / "c.parquet")


@pytest.mark.slow
def test_very_many_rows_of_one_key(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    keys = pa.DictionaryArray.from_arrays(np.zeros(1_000_000, np.int32), ["a-0"])
    table = write_table(tmp_path / "t.parquet", id=keys, score=np.arange(1_000_000))
    with pytest.raises(InputError, match=r"1,000,000 rows have id 'a-0'"):
        annotate_from(output, table, on="id")
    annotate_from(output, table, on="id", repeats="first")
    assert values_of(output, "published", "score")[:2] == [0, None]


def test_the_command_says_what_matched(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    ids = ids_of(output)
    table = write_table(tmp_path / "t.parquet", id=[*ids, "\x1b[31m"], text=["a"] * 181, score=[1.0] * 181)
    options = ["annotate", str(output), "--from", str(table), "--on", "id", "--layer", "edu"]
    ended = CliRunner().invoke(app, options, catch_exceptions=False)
    assert ended.output.splitlines()[:4] == [
        "180 of 180 documents are in the table",
        "table      181 rows, 1 of them of no document",
        "columns    score",
        "left out   text: the documents have them",
    ]
    assert "it was there already" in CliRunner().invoke(app, options, catch_exceptions=False).output
