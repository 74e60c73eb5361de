"""Annotations as attributes of Dolma and Marin: what they hold, and that they come back as they were."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss import run
from gneiss.cli.main import app
from gneiss.errors import GneissError, InputError
from gneiss.export import export_dolma, export_marin, export_mds, tokenized
from gneiss.layers import annotate_from
from gneiss.loader.reader import documents
from gneiss.output.finished_run import open_run
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.layers.test_weights import rows_of
from tests.support import write_documents

Copy = Callable[[Path], Path]
COLUMNS = ["prose", "words", "prose_label", "log_prior"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_attributes_of_dolma_lie_beside_their_documents(released: Path, tmp_path: Path) -> None:
    source = documents(released, layers=["weights"], columns=COLUMNS)
    done = export_dolma(source, tmp_path / "dolma")
    shards = [shard.id for shard in open_run(released).shards]
    assert (done.samples, done.files) == (132, 2 * len(shards))
    for shard in shards:
        texts, found = (
            lines(tmp_path / "dolma" / where / f"{shard}.json.gz") for where in ("documents", "attributes/gneiss")
        )
        rows = pq.read_table(released / f"annotations/base/{shard}.parquet").to_pylist()
        kept = [row for row in rows if row["status"] == "kept"]
        assert [row["id"] for row in texts] == [row["id"] for row in found] == [row["id"] for row in kept]
        for text, row, stored in zip(texts, found, kept, strict=True):
            whole = [0, len(text["text"])]
            assert row["attributes"]["gneiss__prose"] == [[*whole, stored["prose"]]]
            assert row["attributes"]["gneiss__words"] == [[*whole, float(stored["words"])]]
            assert row["attributes"][f"gneiss__prose_label__{stored['prose_label']}"] == [[*whole, 1.0]]
            assert isinstance(row["attributes"]["gneiss__prose"][0][1], int)


@pytest.mark.slow
def test_attributes_come_back_as_they_were(released: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(released)
    spans = [[{"start": 0, "end": 2, "score": 0.5}, {"start": 2, "end": 4, "score": None}], [], None]
    ids = [row["id"] for row in rows_of(output, "base")]
    odd = pa.table({
        "id": ids, "bool": [True, False, None] * 60, "odd": [math.nan, math.inf, 1.5] * 60,
        "its_spans": pa.array(spans * 60), "deep": pa.array([{"a": [1]}, None, {"a": []}] * 60),
    })  # fmt: skip
    pq.write_table(odd, tmp_path / "odd.parquet")
    annotate_from(output, tmp_path / "odd.parquet", on="id", layer="odd")
    columns = ["prose", "log_prior", "bool", "odd", "its_spans"]
    source = documents(output, layers=["weights", "odd"], columns=columns)
    export_dolma(source, tmp_path / "dolma")
    annotate_from(output, tmp_path / "dolma/attributes", on="id", layer="dolma")
    export_marin(
        documents(output, layers=["weights", "odd"], columns=[*columns, "prose_label", "deep"]), tmp_path / "marin"
    )
    annotate_from(output, tmp_path / "marin/outputs", on="id", layer="marin")
    layers = [rows_of(output, name) for name in ("base", "weights", "odd", "dolma", "marin")]
    for base, weights, odd_row, dolma, marin in zip(*layers, strict=True):
        if base["status"] != "kept":
            assert {dolma["gneiss__prose"], marin["prose"]} == {None}
            continue
        assert dolma["gneiss__prose"] == marin["prose"] == base["prose"]
        assert dolma["gneiss__log_prior"] == marin["log_prior"] == weights["log_prior"]
        assert dolma["gneiss__bool"] == odd_row["bool"] == marin["bool"]
        assert dolma["gneiss__odd"] == (odd_row["odd"] if odd_row["odd"] == 1.5 else None)
        assert repr(marin["odd"]) == repr(odd_row["odd"])
        assert dolma["gneiss__its_spans"] == (odd_row["its_spans"] or [])
        assert (marin["its_spans"], marin["deep"]) == (odd_row["its_spans"], odd_row["deep"])
        assert marin["prose_label"] == base["prose_label"]
    partitions = {row["id"]: row["partition_id"] for row in layers[4] if row["prose"] is not None}
    assert set(partitions.values()) == set(range(len(open_run(output).shards)))


def test_the_same_bytes_and_a_file_for_a_shard_without_kept_documents(tmp_path: Path) -> None:
    recipe = Recipe.parse("name: one\nphases: [{name: only, rules: {long: text_chars > 3}}]\n")
    write_documents(tmp_path / "in/a.parquet", ["no", None])
    write_documents(tmp_path / "in/b.parquet", ["kept, both", "kept as well"])
    recipe = recipe.changed({"budgets.documents": 0.5})
    run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    for number in range(2):
        source = documents(tmp_path / "out", layers=(), columns=["text_chars"])
        export_dolma(source, tmp_path / f"dolma{number}")
        export_marin(source, tmp_path / f"marin{number}")
    for kind in ("dolma", "marin"):
        assert runs.promised(tmp_path / f"{kind}0") == runs.promised(tmp_path / f"{kind}1")
    assert lines(tmp_path / "dolma0/attributes/gneiss/a.json.gz") == []
    assert pq.read_table(tmp_path / "marin0/outputs/a.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "marin0/outputs/b.parquet")["partition_id"].to_pylist() == [1, 1]


@pytest.mark.parametrize(
    ("export", "columns", "message"),
    [
        (export_dolma, ["failed"], "column 'failed': expected numbers, strings or lists of spans"),
        (export_dolma, ["dedup_cuts"], "column 'dedup_cuts': expected spans of start, end and score"),
        (export_dolma, ["url"], "'url' is a column of documents, not an annotation"),
        (export_marin, [], "no columns to export"),
        (export_marin, ["url"], "'url' is a column of documents, not an annotation"),
    ],
)
def test_what_cannot_be_an_attribute_is_refused(
    export: Any, columns: list[str], message: str, curated: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        export(documents(curated, layers=(), columns=columns), tmp_path / "out")
    assert not (tmp_path / "out/export.json").exists()


def test_tokens_have_no_attributes(curated: Path, tmp_path: Path) -> None:
    source = tokenized(documents(curated, layers=(), columns=()), lambda text: [1])
    for export in (export_dolma, export_marin):
        with pytest.raises(InputError, match="expected the documents of a run, found tokens"):
            export(source, tmp_path / "out")


def test_the_command_takes_columns_and_layers(released: Path, tmp_path: Path) -> None:
    def said(*options: str) -> Any:
        return CliRunner().invoke(app, ["export", str(released), *options])

    ended = said("--format", "marin", "--layer", "weights", "--output", str(tmp_path / "marin"))
    assert ended.output == f"132 documents in 5 files: {tmp_path}/marin\n"
    names = pq.read_schema(tmp_path / "marin/outputs/a.parquet").field("attributes").type
    found = {names.field(at).name for at in range(names.num_fields)}
    assert {"prose", "words", "log_prior", "document"} <= found
    assert found.isdisjoint({"row", "id", "prose_label", "status"})
    for options, message in (
        (["--format", "dolma", "--weights", "weights"], "takes no weights"),
        (["--format", "mds", "--columns", "prose"], "takes no annotations"),
        (["--format", "dolma", "--layer", "weight"], "did you mean 'weights'"),
        (["--format", "dolma", "--columns", "proze"], "did you mean 'prose'"),
    ):
        refused = said(*options, "--output", str(tmp_path / "refused"))
        assert isinstance(refused.exception, GneissError)
        assert message in str(refused.exception)
    assert not (tmp_path / "refused").exists()
    assert export_mds(documents(released), tmp_path / "mds").samples == 132
