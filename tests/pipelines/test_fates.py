"""Every row has one fate, whatever is wrong with it or with its file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gneiss.errors import BudgetError
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.runs import Material, write_corpus


def test_every_row_has_one_fate_and_kept_rows_are_in_data(material: Material, uninterrupted: FinishedRun) -> None:
    counts = uninterrupted.statistics.counts
    assert (counts["rows"], counts["quarantined"]) == (180, 4)
    assert counts["rows"] == counts["kept"] + counts["dropped"] + counts["quarantined"]
    assert counts["kept"] > 0
    assert counts["dropped"] > 0
    table = runs.annotations(uninterrupted.folder)
    assert {name: pc.sum(pc.equal(table["status"], name)).as_py() for name in ("kept", "dropped", "quarantined")} == {
        name: counts[name] for name in ("kept", "dropped", "quarantined")
    }
    kept = table.filter(pc.equal(table["status"], "kept"))
    assert runs.data(uninterrupted.folder)["id"].to_pylist() == kept["id"].to_pylist()
    came = pq.read_table(material.input / "a.parquet", columns=["id"])["id"].to_pylist()
    assert pq.read_table(uninterrupted.folder / "annotations/base/a.parquet")["id"].to_pylist() == came


def test_other_columns_pass_and_what_an_edit_makes_stale_is_computed_again(uninterrupted: FinishedRun) -> None:
    kept = runs.annotations(uninterrupted.folder)
    kept = kept.filter(pc.equal(kept["status"], "kept")).to_pylist()
    documents = runs.data(uninterrupted.folder).to_pylist()
    edited = [row["dedup_bytes"] > 0 for row in kept]
    assert any(edited)
    for row, document, was_edited in zip(kept, documents, edited, strict=True):
        assert document["url"] == f"https://x/{document['id']}"
        assert document["token_count"] == (row["tokens"] if was_edited else 7)
        assert len(document["text"].encode()) == row["text_bytes"]


def test_quarantined_rows_are_kept_aside_with_their_bytes_and_reason(
    material: Material, uninterrupted: FinishedRun
) -> None:
    rows = pq.read_table(uninterrupted.folder / "quarantine/a.parquet").to_pylist()
    assert [(row["quarantine_row"], row["quarantine_reason"], row["text"]) for row in rows] == [
        (20, "null text", None),
        (21, "invalid UTF-8", b"not \xff\xfe UTF-8"),
    ]


def test_the_output_says_what_it_is(material: Material, uninterrupted: FinishedRun) -> None:
    card = (uninterrupted.folder / "README.md").read().decode()
    counts = uninterrupted.statistics.counts
    assert f"| kept | {counts['kept']:,} |" in card
    assert Recipe.load(material.recipe).digest() in card
    told = json.loads((uninterrupted.folder / "_gneiss/statistics.json").read())
    assert told["statistics"]["counts"] == counts
    again = Recipe.parse((uninterrupted.folder / "_gneiss/recipe.yaml").read().decode())
    assert again.digest() == Recipe.load(material.recipe).digest()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("harm", ["cut short", "data damaged", "empty", "no Parquet"])
@pytest.mark.slow
def test_an_unreadable_file_costs_itself_alone_and_is_mended_by_the_same_command(
    harm: str, simple: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [text for text in runs.documents(30, seed=2) if text]
    paths = [write_corpus(tmp_path / f"input/{name}.parquet", texts) for name in "abc"]
    whole = paths[1].read_bytes()
    harmed = {
        "cut short": whole[: len(whole) // 2],
        "data damaged": whole[:4] + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :],
        "empty": b"",
        "no Parquet": b"id,text\n1,some text\n" * 100,
    }
    paths[1].write_bytes(harmed[harm])
    output = tmp_path / "output"
    arguments = ("run", simple, "--input", tmp_path / "input", "--output", output)
    assert runs.command(*arguments) == 3
    assert "1 shard could not be curated (budgets.shards: 0), first 'b'" in capsys.readouterr().err
    assert sorted(path.name for path in (output / "data").iterdir()) == ["a.parquet", "c.parquet"]
    told = json.loads((output / "_gneiss/statistics.json").read_text())
    assert list(told["quarantined_shards"]) == ["b"]
    assert told["quarantined_shards"]["b"]
    assert told["statistics"]["counts"]["rows"] == 2 * len(texts)
    assert "`b`" in (output / "README.md").read_text()

    before = runs.touched(output / "data")
    paths[1].write_bytes(whole)
    assert runs.command(*arguments) == 0
    assert {name: place for name, place in runs.touched(output / "data").items() if name != "b.parquet"} == before
    told = json.loads((output / "_gneiss/statistics.json").read_text())
    assert told["quarantined_shards"] == {}
    assert told["statistics"]["counts"]["rows"] == 3 * len(texts)


@pytest.mark.usefixtures("here")
def test_unusable_documents_beyond_the_budget_end_with_3(
    simple: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "input/x.parquet", runs.documents(60, seed=0), row_group_size=60)
    arguments = ("--input", tmp_path / "input", "--output", tmp_path / "output")
    assert runs.command("run", simple, *arguments) == 3
    said = capsys.readouterr()
    assert "2 of 60 documents were quarantined (budgets.documents: 0.10%): " in said.err
    assert "null text (1)" in said.err
    assert "invalid UTF-8 (1)" in said.err
    assert (tmp_path / "output/data/x.parquet").is_file()
    lenient = Recipe.parse(runs.WITHOUT_MODEL.replace("phases:", "budgets: {documents: 0.04}\nphases:"))
    run(lenient, tmp_path / "input", tmp_path / "lenient").check_budgets()
    strict = Recipe.parse(runs.WITHOUT_MODEL.replace("phases:", "budgets: {documents: 0.03}\nphases:"))
    with pytest.raises(BudgetError):
        run(strict, tmp_path / "input", tmp_path / "strict").check_budgets()


@pytest.mark.usefixtures("here")
def test_a_shard_without_and_one_of_nothing_but_duplicates(simple: Path, tmp_path: Path) -> None:
    draw = random.Random(3)
    alone = [" ".join(str(draw.random()) for _ in range(12)).encode() for _ in range(20)]
    write_corpus(tmp_path / "input/alone.parquet", alone)
    write_corpus(tmp_path / "input/same.parquet", [alone[0]] * 20)
    done = run(simple, tmp_path / "input", tmp_path / "output")
    told = {name: pq.read_table(tmp_path / f"output/annotations/base/{name}.parquet") for name in ("alone", "same")}
    assert told["alone"]["dedup_bytes"].to_pylist() == [0] * 20
    assert told["same"]["dedup_bytes"].to_pylist() == [0] + [len(alone[0])] * 19
    assert told["same"]["text_bytes"].to_pylist() == [len(alone[0])] + [0] * 19
    assert done.statistics.counts["dedup_bytes"] == 19 * len(alone[0])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("row_groups", [0, 1])
def test_a_file_without_rows_is_a_shard_without_rows(row_groups: int, simple: Path, tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "input/none.parquet", [])
    if row_groups == 0:
        with pq.ParquetWriter(path, pq.read_schema(path)):
            pass
    assert pq.read_metadata(path).num_row_groups == row_groups
    done = run(simple, tmp_path / "input", tmp_path / "output")
    done.check_budgets()
    assert (len(done.shards), done.statistics.counts["rows"], done.quarantined_shards) == (1, 0, {})
    assert pq.read_table(tmp_path / "output/data/none.parquet").schema.names == ["id", "text", "url", "token_count"]
    assert pq.read_table(tmp_path / "output/annotations/base/none.parquet").num_rows == 0


@pytest.mark.usefixtures("here")
def test_repeated_ids_are_counted_and_warned_about(
    simple: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [b"Some words that make one sentence.", b"And three other words follow.", b"The last of the four."]
    write_corpus(tmp_path / "input/x.parquet", [*texts, b"It is."], id=["x", "y", "x", "x"])
    assert runs.command("run", simple, "--input", tmp_path / "input", "--output", tmp_path / "output") == 0
    assert (
        json.loads((tmp_path / "output/_gneiss/statistics.json").read_text())["statistics"]["counts"]["repeated_ids"]
        == 2
    )
    said = capsys.readouterr()
    assert "2 documents repeat the id of another one in their shard" in said.out + said.err


@pytest.mark.usefixtures("here")
@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_document_of_100_mb(tmp_path: Path) -> None:
    """The slow one (about 8 s): a document far larger than a text batch; dedup alone would take half a minute."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(runs.PLAIN, k=12)).encode() + b".\n" for _ in range(1000)]
    large = b"".join(draw.choices(lines, k=2_000_000))[:100_000_001]
    assert len(large) == 100_000_001
    write_corpus(tmp_path / "input/x.parquet", [b"A small one before it.", large, b"And a small one after it."])
    recipe = Recipe.parse(
        "name: large\nphases: [{name: only, annotate: [readability, tokens], rules: {long: tokens > 1000000}}]"
    )
    done = run(recipe, tmp_path / "input", tmp_path / "output")
    assert (done.statistics.counts["dropped"], done.statistics.counts["kept"]) == (2, 1)
    assert done.statistics.counts["kept_text_bytes"] == len(large)
    assert runs.data(tmp_path / "output")["text"][0].as_py().encode() == large
    told = runs.annotations(tmp_path / "output").to_pylist()[1]
    assert (told["text_bytes"], told["text_chars"]) == (len(large), len(large))
