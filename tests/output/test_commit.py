"""Commit: kept rows with all their columns as they were, what is stale renewed, nothing half written."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.batch import TextBatch
from gneiss.curate.curate import Curated, curate
from gneiss.curate.loaded_models import load_models
from gneiss.curate.statistics import Statistics
from gneiss.errors import DefectError, InputError, OutputError
from gneiss.input.shard import cut_shards
from gneiss.output.commit import _as_column, commit
from gneiss.output.layout import annotations_path, data_path, quarantine_path, statistics_path
from gneiss.output.ledger import Receipt, receipt_of
from gneiss.output.parquet import write_parquet
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import place_of
from tests.support import recipe_of

PASSAGE = "a passage of some length that is in two documents"
TEXTS = [
    "Kept as it is.",
    PASSAGE,
    None,
    f"Kept, but edited. {PASSAGE}",
    "no",
    "Bad \udcff text.",
    "Also kept as it is.",
]
STRING = pa.string()
STATUS = ["kept", "kept", "quarantined", "kept", "dropped", "quarantined", "kept"]
RULES = "- {name: only, dedup: {min_length: 20}, annotate: [readability], rules: {long: text_chars > 5}}"


def table_of(text_type: pa.DataType = STRING, nullable: bool = True) -> pa.Table:
    """A table of many types, with metadata on the schema and on a field."""
    n = len(TEXTS)
    binary = pa.large_binary() if text_type == pa.large_string() else pa.binary()
    raw = [None if text is None else text.encode("utf-8", "surrogateescape") for text in TEXTS]
    columns: dict[str, tuple[pa.Array, dict[str, Any]]] = {
        "id": (pa.array([f"<urn:uuid:{i}>" for i in range(n)]), {}),
        "date": (pa.array([datetime(2026, 1, i + 1, tzinfo=UTC) for i in range(n)], pa.timestamp("us", "UTC")), {}),
        "text": (pa.array(raw, binary).view(text_type), {"metadata": {"note": "the text"}}),
        "token_count": (pa.array(range(100, 100 + n), pa.int32()), {"nullable": nullable}),
        "language_score": (pa.array([i / 7 for i in range(n)], pa.float32()), {}),
        "kind": (pa.array(["web", None, "book", "web", "web", "book", "x"]).dictionary_encode(), {}),
        "meta": (pa.array([{"text": f"t{i}", "links": [i] * (i % 3)} for i in range(n)]), {}),
        "price": (pa.array([Decimal(f"{i}.50") for i in range(n)]), {}),
        "raw": (pa.array([b"\xff" * i for i in range(n)]), {}),
        "nothing": (pa.nulls(n), {}),
    }
    fields = [pa.field(name, array.type, **options) for name, (array, options) in columns.items()]
    schema = pa.schema(fields, metadata={"huggingface": '{"info": {}}', "pandas": "{}"})
    return pa.Table.from_arrays([array for array, _ in columns.values()], schema=schema)


def decide(
    folder: Path, table: pa.Table, derived: str = "{}", rules: str = RULES, rows: int = 2
) -> tuple[Curated, Recipe]:
    pq.write_table(table, folder / "in.parquet", row_group_size=rows)
    recipe = recipe_of(rules, input=f"{{derived_from_text: {derived}}}")
    (shard,) = cut_shards(folder / "in.parquet", text="text", required=["id"]).shards
    return curate(shard, recipe, load_models(recipe)), recipe


def committed(folder: Path, table: pa.Table, **given: Any) -> tuple[Receipt, pa.Table]:
    """The receipt, and the data shard."""
    curated, recipe = decide(folder, table, **given)
    assert curated.annotations["status"].to_pylist() == STATUS
    receipt = commit(curated, recipe, place_of(folder / "out"))
    return receipt, pq.read_table(folder / "out" / data_path("in"))


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
@pytest.mark.slow
def test_kept_rows_have_their_columns_types_and_metadata(tmp_path: Path, text_type: pa.DataType, rows: int) -> None:
    table = table_of(text_type)
    receipt, data = committed(tmp_path, table, rows=rows)
    assert data.schema.equals(pq.read_schema(tmp_path / "in.parquet"), check_metadata=True)
    assert data.schema.metadata[b"huggingface"] == b'{"info": {}}'
    kept = [0, 1, 3, 6]
    assert data["text"].to_pylist() == [TEXTS[0], PASSAGE, "Kept, but edited. ", TEXTS[6]]
    assert data.drop_columns("text").to_pylist() == table.drop_columns("text").take(kept).to_pylist()
    assert (receipt.rows, receipt.counts) == (7, {"kept": 4, "dropped": 1, "quarantined": 2})


def test_annotations_of_few_rows_are_smaller_for_not_being_compressed(tmp_path: Path) -> None:
    committed(tmp_path, table_of())
    file = tmp_path / "out" / annotations_path("in")
    footer, rows = pq.read_metadata(file), pq.read_table(file)
    assert footer.row_group(0).column(0).compression == "UNCOMPRESSED"
    metadata = {name.decode(): value.decode() for name, value in footer.metadata.items() if name != b"ARROW:schema"}
    plain = write_parquet([rows], rows.schema, place_of(tmp_path), "compressed.parquet", metadata)
    assert pq.read_table(tmp_path / "compressed.parquet").equals(rows)
    assert file.stat().st_size < plain.size_bytes


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string(), pa.string_view()])
def test_a_text_in_a_struct_is_replaced_in_it(tmp_path: Path, text_type: pa.DataType) -> None:
    """Rows: kept, kept, null text, edited, dropped, bad bytes, kept; then one whose struct is null."""
    raw = [None if text is None else text.encode("utf-8", "surrogateescape") for text in (*TEXTS, None)]
    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    texts = pa.array(raw, as_bytes[text_type]).view(text_type)
    fields = [pa.field("text", text_type, metadata={"note": "the text"}), pa.field("n", pa.int32(), nullable=False)]
    page = pa.StructArray.from_arrays(
        [texts, pa.array(range(8), pa.int32())], fields=fields, mask=pa.array([False] * 7 + [True])
    )
    table = pa.table({"text": ["no text"] * 8, "page": page, "id": [str(row) for row in range(8)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=8 if text_type == pa.string_view() else 3)
    recipe = recipe_of(RULES, input="{text: page.text, id: id, derived_from_text: {page.n: null}}")
    (shard,) = cut_shards(tmp_path / "in.parquet", text="page.text", required=["id"]).shards
    curated = curate(shard, recipe, load_models(recipe))
    assert curated.annotations["status"].to_pylist() == [*STATUS, "quarantined"]
    commit(curated, recipe, place_of(tmp_path / "out"))
    data = pq.read_table(tmp_path / "out" / data_path("in"))
    n = pa.field("n", pa.int32())
    assert data.schema.field("page").type == pa.struct([fields[0], n])
    assert data.to_pylist() == [
        {"text": "no text", "page": {"text": text, "n": n}, "id": id_}
        for text, n, id_ in (
            (TEXTS[0], 0, "0"), (PASSAGE, 1, "1"), ("Kept, but edited. ", None, "3"), (TEXTS[6], 6, "6"),
        )
    ]  # fmt: skip
    aside = pq.read_table(tmp_path / "out/quarantine/in.parquet")
    assert aside["page"].to_pylist() == [{"text": None, "n": 2}, {"text": b"Bad \xff text.", "n": 5}, None]


VIEW, INDEXED = pa.string_view(), pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (VIEW, ["u", None, "v" * 20, "", "w", "x" * 13, "y"]),
        (pa.binary_view(), [b"u", None, b"\xff" * 20, b"", b"w", b"x" * 13, b"y"]),
        (pa.list_(VIEW), [["u"], [], None, ["v" * 20, None], ["w"], ["x"], ["y", "z"]]),
        (pa.struct([("a", pa.large_list(pa.binary_view()))]), [{"a": [b"u" * i] * i} for i in range(7)]),
        (pa.map_(VIEW, VIEW), [[("k", "v" * i)] * i for i in range(7)]),
        (pa.list_view(pa.int64()), [[i] * i for i in range(7)]),
        (pa.uuid(), [bytes([i] * 16) for i in range(7)]),
        (INDEXED, ["u", "v", None, "u", "v", "u", "w"]),
        (pa.list_(pa.float32(), 2), [[i, -i] for i in range(7)]),
        (pa.null(), [None] * 7),
    ],
    ids=lambda given: str(given) if isinstance(given, pa.DataType) else "",
)
@pytest.mark.slow
def test_columns_of_any_type_are_copied_as_they_came(
    tmp_path: Path, rows: int, type_: pa.DataType, values: list[object]
) -> None:
    table = table_of().append_column("x", pa.array(values, type_))
    _, data = committed(tmp_path, table, rows=rows)
    back = pq.read_table(tmp_path / "in.parquet")["x"]
    assert data.schema.field("x").type == back.type
    assert data["x"].to_pylist() == [back.to_pylist()[row] for row in (0, 1, 3, 6)]
    quarantined = pq.read_table(tmp_path / "out" / quarantine_path("in"))
    assert quarantined["x"].to_pylist() == [back.to_pylist()[row] for row in (2, 5)]


@pytest.mark.parametrize("type_", [VIEW, INDEXED, pa.dictionary(pa.int8(), pa.large_string())], ids=str)
def test_a_text_column_keeps_its_layout(tmp_path: Path, type_: pa.DataType) -> None:
    table = table_of().filter(pa.array([text is not None and "\udcff" not in text for text in TEXTS]))
    index = table.column_names.index("text")
    table = table.set_column(index, "text", table["text"].cast(type_))
    curated, recipe = decide(tmp_path, table)
    commit(curated, recipe, place_of(tmp_path / "out"))
    data = pq.read_table(tmp_path / "out" / data_path("in"))
    assert data["text"].to_pylist() == [TEXTS[0], PASSAGE, "Kept, but edited. ", TEXTS[6]]
    assert data.schema.equals(pq.read_schema(tmp_path / "in.parquet"))


def test_a_text_column_of_nulls_is_quarantined_row_by_row(tmp_path: Path) -> None:
    curated, recipe = decide(tmp_path, pa.table({"id": ["1", "2"], "text": pa.nulls(2)}))
    receipt = commit(curated, recipe, place_of(tmp_path / "out"))
    assert receipt.counts == {"kept": 0, "dropped": 0, "quarantined": 2}
    assert pq.read_schema(tmp_path / "out" / data_path("in")).field("text").type == pa.null()


def test_texts_longer_than_32_bits_count_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gneiss.output.commit._PIECE_BYTES", 40)
    for type_ in (pa.string(), INDEXED):
        batch = TextBatch.of([text for text in TEXTS if text and "\udcff" not in text] * 9)
        column = _as_column(batch, 3, 40, type_)
        assert column.type == type_
        assert column.num_chunks > 20
        assert column.to_pylist() == batch.texts()[3:40]


def test_columns_that_quarantine_adds_are_named_apart_from_those_that_came(tmp_path: Path) -> None:
    names = {"quarantine_row": [f"r{i}" for i in range(7)], "quarantine_row_": range(7), "quarantine_reason": ["x"] * 7}
    table = table_of()
    for name, values in names.items():
        table = table.append_column(name, pa.array(values))
    committed(tmp_path, table)
    found = pq.read_table(tmp_path / "out" / quarantine_path("in")).to_pylist()
    assert [row["quarantine_row"] for row in found] == ["r2", "r5"]
    assert [row["quarantine_row__"] for row in found] == [2, 5]
    assert [row["quarantine_reason"] for row in found] == ["x", "x"]
    assert [row["quarantine_reason_"] for row in found] == ["null text", "invalid UTF-8"]


@pytest.mark.parametrize("type_", [pa.decimal128(1, 0), pa.list_(pa.int8()), pa.struct([("a", pa.int8())])], ids=str)
def test_what_does_not_fit_its_column_is_refused_by_name(tmp_path: Path, type_: pa.DataType) -> None:
    table = table_of().append_column("size", pa.array([None] * 7, type_))
    curated, recipe = decide(tmp_path, table, derived="{size: text_chars}")
    with pytest.raises(InputError, match="annotation 'text_chars' does not fit its column of type"):
        commit(curated, recipe, place_of(tmp_path / "out"))


def test_a_file_replaced_while_it_is_curated_is_not_published(tmp_path: Path) -> None:
    curated, recipe = decide(tmp_path, table_of())
    write = write_parquet

    def replaced(*given: Any) -> Any:
        written = write(*given)
        pq.write_table(table_of().slice(1), tmp_path / "in.parquet")
        return written

    with (
        mock.patch("gneiss.output.commit.write_parquet", replaced),
        pytest.raises(InputError, match="modified or replaced after the run began"),
    ):
        commit(curated, recipe, place_of(tmp_path / "out"))
    assert not (tmp_path / "out" / annotations_path("in")).exists()


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("fresh", ["words", "null"])
@pytest.mark.slow
def test_what_an_edit_made_stale_is_renewed_for_edited_rows_alone(
    tmp_path: Path, rows: int, nullable: bool, fresh: str
) -> None:
    derived = f"{{token_count: {fresh}, not_there: null}}"
    curated, _ = decide(tmp_path, table_of(nullable=nullable), derived=derived, rows=rows)
    words = curated.annotations["words"].to_pylist()[3]
    _, data = committed(tmp_path, table_of(nullable=nullable), derived=derived, rows=rows)
    assert data["token_count"].to_pylist() == [100, 101, words if fresh == "words" else None, 106]
    assert data.schema.field("token_count").type == pa.int32()
    assert words == 3


def test_without_derived_columns_nothing_is_renewed(tmp_path: Path) -> None:
    _, data = committed(tmp_path, table_of(nullable=False))
    assert data["token_count"].to_pylist() == [100, 101, 103, 106]
    assert not data.schema.field("token_count").nullable


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("nullable", [True, False])
def test_quarantined_rows_are_kept_aside_with_their_bytes(
    tmp_path: Path, text_type: pa.DataType, nullable: bool
) -> None:
    table = table_of(text_type, nullable)
    receipt, _ = committed(tmp_path, table, derived="{token_count: null}")
    aside = pq.read_table(tmp_path / "out/quarantine/in.parquet")
    assert aside["text"].to_pylist() == [None, b"Bad \xff text."]
    assert aside["quarantine_row"].to_pylist() == [2, 5]
    assert aside["quarantine_reason"].to_pylist() == ["null text", "invalid UTF-8"]
    others = [name for name in table.column_names if name != "text"]
    assert aside.select(others).to_pylist() == table.select(others).take([2, 5]).to_pylist()
    assert "quarantine/in.parquet" in [file.path for file in receipt.files]


def test_annotations_hold_every_row_and_statistics_what_was_counted(tmp_path: Path) -> None:
    curated, recipe = decide(tmp_path, table_of())
    commit(curated, recipe, place_of(tmp_path / "out"))
    annotations = pq.read_table(tmp_path / "out" / annotations_path("in"))
    assert annotations.to_pylist() == curated.annotations.to_pylist()
    told = json.loads((tmp_path / "out" / statistics_path("in")).read_text("utf-8"))
    assert Statistics.from_json(told["statistics"]) == curated.statistics
    assert told["samples"] == curated.examples


def test_without_unusable_rows_there_is_no_quarantine(tmp_path: Path) -> None:
    curated, recipe = decide(tmp_path, table_of().take([0, 1, 3]))
    commit(curated, recipe, place_of(tmp_path / "out"))
    assert files_under(tmp_path / "out") == [
        "_gneiss/statistics/in.json",
        "annotations/base/in.parquet",
        "data/in.parquet",
    ]


@pytest.mark.parametrize("names", [["id", "a.b", "text"], ["id", "text.more", "text"], ["text", "", "a\n", "id"]])
def test_columns_of_odd_names_pass_too(tmp_path: Path, names: list[str]) -> None:
    columns = [pa.array([f"{name} {i} of {row}" for row in range(5)]) for i, name in enumerate(names)]
    table = pa.Table.from_arrays(columns, names)
    curated, recipe = decide(tmp_path, table)
    commit(curated, recipe, place_of(tmp_path / "out"))
    data = pq.ParquetFile(tmp_path / "out" / data_path("in")).read()
    assert data.column_names == names
    assert [column.to_pylist() for column in data.columns] == [column.to_pylist() for column in table.columns]


def test_a_file_of_texts_alone_is_curated(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["long enough", "no", "also long enough"]}), tmp_path / "in.parquet")
    recipe = recipe_of(RULES, input="{id: null}")
    (shard,) = cut_shards(tmp_path / "in.parquet", text="text").shards
    commit(curate(shard, recipe, load_models(recipe)), recipe, place_of(tmp_path / "out"))
    data = pq.read_table(tmp_path / "out" / data_path("in"))
    assert data.to_pydict() == {"text": ["long enough", "also long enough"]}


def test_a_shard_that_keeps_nothing_has_a_data_shard_without_rows(tmp_path: Path) -> None:
    rules = RULES.replace("> 5", "> 5000")
    curated, recipe = decide(tmp_path, table_of(), rules=rules)
    receipt = commit(curated, recipe, place_of(tmp_path / "out"))
    data = pq.read_table(tmp_path / "out" / data_path("in"))
    assert (data.num_rows, receipt.counts["kept"]) == (0, 0)
    assert data.schema.equals(pq.read_schema(tmp_path / "in.parquet"), check_metadata=True)


def test_the_footer_of_the_annotations_holds_the_receipt_of_the_other_files(tmp_path: Path) -> None:
    receipt, _ = committed(tmp_path, table_of())
    assert receipt_of(place_of(tmp_path / "out"), annotations_path("in")) == replace(receipt, etag=None)


def test_a_second_commit_gives_the_same_bytes(tmp_path: Path) -> None:
    first, _ = committed(tmp_path, table_of())
    again, _ = committed(tmp_path, table_of())
    assert [replace(file, etag=None) for file in again.files] == [replace(file, etag=None) for file in first.files]


def test_rows_that_do_not_add_up_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    curated, recipe = decide(tmp_path, table_of())
    curated.statistics.counts["kept"] -= 1
    with pytest.raises(DefectError, match="7 rows came in, but 3 kept \\+ 1 dropped \\+ 2 quarantined"):
        commit(curated, recipe, place_of(tmp_path / "out"))
    assert files_under(tmp_path) == ["in.parquet"]


@pytest.mark.parametrize("name", ["data/", "quarantine/", "_gneiss/statistics/", "annotations/base/"])
def test_a_shard_whose_disk_fills_up_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whichever file it is: no half file under a final name, and no annotation shard, which would end the shard."""
    curated, recipe = decide(tmp_path, table_of())
    rename = os.replace

    def full(path: str, target: str) -> None:
        if name in target:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(path, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="free some space and run again"):
        commit(curated, recipe, place_of(tmp_path / "out"))
    left = files_under(tmp_path / "out")
    assert not any(path.startswith((name, "annotations/")) or path.endswith(".part") for path in left)
    monkeypatch.undo()
    receipt = commit(curated, recipe, place_of(tmp_path / "out"))
    assert all((tmp_path / "out" / file.path).stat().st_size == file.size_bytes for file in receipt.files)
