"""Training a fusion model from a run and labels: the file, its card, and what cannot be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss.cli.main import app
from gneiss.errors import InputError, OutputError
from gneiss.filters.fusion_model import read_model
from gneiss.model_training.fusion.examples import blocks_of, read_labelled_run
from gneiss.model_training.fusion.methods import Learning
from gneiss.model_training.fusion.training import train_fusion
from gneiss.model_training.labelling.choice import choose_labels
from gneiss.model_training.labelling.next_round import next_labels
from gneiss.model_training.labels import Rule
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from tests import runs
from tests.support import recipe_of, write_documents

ROWS = 160
BLOCKS = {"first": ["a"], "second": ["b", {"kind": ["x", "y"]}]}
QUICK = Learning(epochs=8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run whose annotations are columns of its input; `a` tells the label, `b` is missing for half."""
    folder, draw = tmp_path_factory.mktemp("fusion"), np.random.default_rng(0)
    labels = np.arange(ROWS) % 2
    a = labels + draw.normal(0, 0.4, ROWS)
    columns = {"a": a, "b": pa.array(draw.normal(0, 1, ROWS), mask=np.arange(ROWS) % 4 < 2), "kind": ["x", "y"] * 80}
    write_documents(folder / "in/a.parquet", [f"text number {number}" for number in range(ROWS)], **columns)
    entries = ", ".join(f"input_column: {{name: {name}, type: float64}}" for name in "ab")
    recipe = recipe_of(f"- {{name: only, annotate: [{entries}, input_column: {{name: kind}}]}}")
    found = run(recipe, folder / "in", folder / "out", backend=runs.InThisProcess())
    names = [f"doc-{number}" for number in range(ROWS)]
    pq.write_table(pa.table({"id": names, "label": np.where(labels, "hq", "cc")}), folder / "labels.parquet")
    return found


def labels_of(finished: FinishedRun) -> Path:
    return Path(str(finished.folder)).parent / "labels.parquet"


@pytest.mark.slow
def test_a_model_its_card_and_the_same_bytes_again(finished: FinishedRun, tmp_path: Path) -> None:
    labels, blocks = labels_of(finished), blocks_of(BLOCKS, "blocks.yaml")
    first = train_fusion(labels, finished, blocks, tmp_path / "first", learning=QUICK)
    at = pa.table({"shard": ["a"] * ROWS, "row": range(ROWS), "label": pq.read_table(labels)["label"]})
    pq.write_table(at, tmp_path / "by-row.parquet")
    again = train_fusion(tmp_path / "by-row.parquet", finished, blocks, tmp_path / "again", learning=QUICK)
    assert (tmp_path / "first/fusion.safetensors").read_bytes() == (tmp_path / "again/fusion.safetensors").read_bytes()
    assert read_model(again.path).blocks == blocks
    assert (first.trained, first.held_out.documents) == (128, 32)
    assert [(pattern.blocks, pattern.trained + pattern.held_out) for pattern in first.patterns] == [
        (("first", "second"), 80),
        (("first",), 80),
    ]
    assert first.is_weighted
    ways = {way.name: way for way in first.ways}
    assert {"masked", "laser", "first alone, where it is there", "mean of the blocks alone"} <= set(ways)
    assert (ways["masked"].accuracy or 0) > 0.7
    losses = {name: ways[name].loss or 9.0 for name in ("masked", "laser")}
    assert first.is_auto
    assert first.method == min(losses, key=losses.__getitem__)
    card = (tmp_path / "first/MODEL.md").read_text()
    assert "- second: `b`, `kind`" in card
    assert str(tmp_path) not in card


@pytest.mark.slow
def test_on_the_command_line_and_in_a_recipe(finished: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "blocks.yaml").write_text("first: [a]\nsecond: [b, {kind: [x, y]}]\n")
    given = ["--labels", str(labels_of(finished)), "--annotations", str(finished.folder), "--epochs", "2"]
    given += ["--blocks", str(tmp_path / "blocks.yaml"), "--output", str(tmp_path / "fusion"), "--method", "laser"]
    found = CliRunner().invoke(app, ["train", "fusion", *given])
    assert found.exit_code == 0, found.output
    assert "`laser` was asked for." in found.output
    entry = {"fusion": {"model": f"{tmp_path}/fusion/"}}
    recipe = finished.recipe.changed({"phases.only.annotate": [*finished.recipe.phases[0].annotate, entry]})
    out = run(recipe, Path(str(finished.folder)).parent / "in", tmp_path / "out", backend=runs.InThisProcess())
    table = runs.annotations(tmp_path / "out")
    assert out.documents == ROWS
    assert table["fusion"].null_count == 0
    assert table["fusion_blocks"].to_pylist() == [1, 1, 3, 3] * 40


def test_what_cannot_be_trained_on(finished: FinishedRun, tmp_path: Path) -> None:
    labels, blocks = labels_of(finished), blocks_of(BLOCKS, "blocks.yaml")
    table = pq.read_table(labels)
    pq.write_table(table.slice(0, 30), tmp_path / "few.parquet")
    pq.write_table(table.select(["label"]), tmp_path / "unnamed.parquet")
    other = blocks_of({"first": ["a"], "second": ["bb"]}, "blocks.yaml")
    text = blocks_of({"first": ["kind"]}, "blocks.yaml")
    for given, of, message in (
        (tmp_path / "few.parquet", blocks, "too few labelled documents with a block: 15 positive and 15 other"),
        (tmp_path / "unnamed.parquet", blocks, "no column 'id'; expected label, and shard and row, or id"),
        (labels, other, "no annotation 'bb'"),
        (labels, text, "the annotation 'kind': expected numbers, found string"),
    ):
        with pytest.raises(InputError, match=message):
            train_fusion(given, finished, of, tmp_path / "out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    with pytest.raises(OutputError, match="expected an empty folder"):
        train_fusion(labels, finished, blocks, tmp_path / "used")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected names of blocks with lists of annotations, found list"),
        ({}, "expected 1 to 16 blocks, found 0"),
        ({"a": "x"}, "a: expected a list of annotations"),
        ({"a": [{"x": "y"}]}, "each NAME or {NAME: "),
        ({"a": []}, "the block 'a' has no annotations"),
        ({"a": [{"x": ["y", "y"]}]}, "the annotation 'x' has a value twice"),
    ],
)
def test_blocks_that_are_none(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        blocks_of(given, "blocks.yaml")


def test_audited_documents_are_left_out(finished: FinishedRun, tmp_path: Path) -> None:
    table = pq.read_table(labels_of(finished))
    why = ["audit" if number % 8 == 0 else "margin" for number in range(ROWS)]
    pq.write_table(table.append_column("why", pa.array(why)), tmp_path / "labels.parquet")
    rule = Rule("label", ("hq",))
    found = read_labelled_run(tmp_path / "labels.parquet", finished, blocks_of(BLOCKS, "blocks.yaml"), rule)
    assert found.labelled == len(found.labels) == ROWS * 7 // 8


@pytest.mark.slow
def test_a_fusion_model_says_what_to_label_next(finished: FinishedRun, tmp_path: Path) -> None:
    blocks = blocks_of(BLOCKS, "blocks.yaml")
    train_fusion(
        labels_of(finished), finished, blocks, tmp_path / "fusion", method="laser", learning=Learning(epochs=2)
    )
    choose_labels(finished.folder, tmp_path / "queue", budget=40)
    found = next_labels(finished.folder, tmp_path / "queue", model=tmp_path / "fusion", budget=12)
    to_half = np.abs(np.array(finished.annotations(columns=["a"])["a"]) - 0.5)
    rows = pq.read_table(tmp_path / "queue" / found.round.file)["row"].to_pylist()
    assert len(rows) == 12
    assert to_half[rows].mean() < to_half.mean() / 2
