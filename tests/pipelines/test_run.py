"""Whole runs, worked on in this process unless a test says otherwise: conservation, resume, refusals, fates."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gneiss.cli import main as cli
from gneiss.errors import BudgetError, InputError, MachineError, ModelError, OutputError, RecipeError
from gneiss.input.plan import make_plan
from gneiss.output.claim import claim
from gneiss.pipelines.run import Run, run
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.chaos import killing
from tests.runs import Material, write_corpus

WITHOUT_MODEL = """
name: without-model
shard_max_bytes: 24000
phases:
  - name: only
    dedup: {min_length: 80}
    annotate: [readability]
    rules: {readable: eflaw < 30}
"""


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return runs.make_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="session")
def uninterrupted(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run by the command line's defaults: real worker processes."""
    return run(material.recipe, material.input, tmp_path_factory.mktemp("uninterrupted"), workers=2, backend="local")


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are worked on in this process."""
    monkeypatch.setattr("gneiss.pipelines.run.choose_backend", lambda *_: (runs.InThisProcess(), 1))


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    """A recipe without a model."""
    path = tmp_path / "simple.yaml"
    path.write_text(WITHOUT_MODEL)
    return path


def command(*arguments: str | Path) -> int:
    """The exit code of a command line, run in this process."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def annotations(output: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((output / "annotations/base").rglob("*.parquet")))


def data(output: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((output / "data").rglob("*.parquet")))


# Conservation


def test_every_row_has_one_fate_and_kept_rows_are_in_data(material: Material, uninterrupted: Run) -> None:
    counts = uninterrupted.statistics.counts
    assert (counts["rows"], counts["quarantined"]) == (180, 4)
    assert counts["rows"] == counts["kept"] + counts["dropped"] + counts["quarantined"]
    assert counts["kept"] > 0
    assert counts["dropped"] > 0
    table = annotations(uninterrupted.output)
    assert {name: pc.sum(pc.equal(table["status"], name)).as_py() for name in ("kept", "dropped", "quarantined")} == {
        name: counts[name] for name in ("kept", "dropped", "quarantined")
    }
    kept = table.filter(pc.equal(table["status"], "kept"))
    assert data(uninterrupted.output)["id"].to_pylist() == kept["id"].to_pylist()
    came = pq.read_table(material.input / "a.parquet", columns=["id"])["id"].to_pylist()
    assert pq.read_table(uninterrupted.output / "annotations/base/a.parquet")["id"].to_pylist() == came


def test_other_columns_pass_and_what_an_edit_makes_stale_is_computed_again(uninterrupted: Run) -> None:
    kept = annotations(uninterrupted.output)
    kept = kept.filter(pc.equal(kept["status"], "kept")).to_pylist()
    documents = data(uninterrupted.output).to_pylist()
    edited = [row["dedup_bytes"] > 0 for row in kept]
    assert any(edited)
    for row, document, was_edited in zip(kept, documents, edited, strict=True):
        assert document["url"] == f"https://x/{document['id']}"
        assert document["token_count"] == (row["tokens"] if was_edited else 7)
        assert len(document["text"].encode()) == row["text_bytes"]


def test_quarantined_rows_are_kept_aside_with_their_bytes_and_reason(material: Material, uninterrupted: Run) -> None:
    rows = pq.read_table(uninterrupted.output / "quarantine/a.parquet").to_pylist()
    assert [(row["quarantine_row"], row["quarantine_reason"], row["text"]) for row in rows] == [
        (20, "null text", None),
        (21, "invalid UTF-8", b"not \xff\xfe UTF-8"),
    ]


def test_the_output_says_what_it_is(material: Material, uninterrupted: Run) -> None:
    card = (uninterrupted.output / "README.md").read_text()
    counts = uninterrupted.statistics.counts
    assert f"| kept | {counts['kept']:,} |" in card
    assert Recipe.load(material.recipe).digest() in card
    told = json.loads((uninterrupted.output / "_gneiss/statistics.json").read_text())
    assert told["statistics"]["counts"] == counts
    again = Recipe.parse((uninterrupted.output / "_gneiss/recipe.yaml").read_text())
    assert again.digest() == Recipe.load(material.recipe).digest()


# Resume


def test_a_second_call_does_nothing(material: Material, uninterrupted: Run) -> None:
    before = runs.touched(uninterrupted.output)
    again = run(material.recipe, material.input, uninterrupted.output, backend="local")
    assert again.skipped_shards == again.shards == 5
    assert again.statistics == uninterrupted.statistics
    assert again.samples == uninterrupted.samples
    assert runs.touched(uninterrupted.output) == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "lost",
    ["data/a.parquet", "annotations/base/a.parquet", "_gneiss/statistics/a.json", "quarantine/a.parquet", "ledger"],
)
def test_what_is_missing_is_made_again_and_nothing_else(
    lost: str, material: Material, uninterrupted: Run, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    shutil.copytree(uninterrupted.output, output)
    shutil.rmtree(output / "_gneiss/ledger") if lost == "ledger" else (output / lost).unlink()
    before = runs.touched(output)
    run(material.recipe, material.input, output)
    assert runs.promised(output) == runs.promised(uninterrupted.output)
    after = runs.touched(output)
    again = {name for name in before if after[name] != before[name] and not name.startswith("_gneiss/ledger")}
    assert again <= {
        "data/a.parquet",
        "annotations/base/a.parquet",
        "quarantine/a.parquet",
        "_gneiss/statistics/a.json",
    }


@pytest.mark.usefixtures("here")
def test_a_file_cut_short_afterwards_is_made_again(material: Material, uninterrupted: Run, tmp_path: Path) -> None:
    output = tmp_path / "output"
    shutil.copytree(uninterrupted.output, output)
    os.truncate(output / "data/a.parquet", 100)
    run(material.recipe, material.input, output)
    assert runs.promised(output) == runs.promised(uninterrupted.output)


@pytest.mark.usefixtures("here")
def test_leftovers_of_a_killed_writer_are_cleaned_and_other_hidden_files_are_not(
    material: Material, uninterrupted: Run, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    shutil.copytree(uninterrupted.output, output)
    leftovers = [output / "data/.a.parquet.123.part", output / "annotations/base/deep/.b.g00000.parquet.9.part"]
    for path in leftovers:
        path.write_bytes(b"half")
    (output / ".note").write_text("mine")
    run(material.recipe, material.input, output)
    assert not any(path.exists() for path in leftovers)
    assert (output / ".note").read_text() == "mine"


def test_relative_paths_count_from_where_the_run_was_started(
    material: Material, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(material.folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")  # after multiprocessing has noted where the process was started
    run("runs.yaml", "input", "output", workers=1, backend="local")
    assert runs.promised(tmp_path / "elsewhere/output") == runs.promised(uninterrupted.output)


# The same bytes


def test_hash_seed_and_folder_change_no_byte(material: Material, uninterrupted: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(material.input)
    arguments = ("--input", "link", "--output", "output", "--workers", "1")
    ended = runs.gneiss("run", material.recipe, *arguments, env={"PYTHONHASHSEED": "77"}, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert runs.promised(tmp_path / "output") == runs.promised(uninterrupted.output)


def test_an_older_cpu_changes_no_byte(material: Material, uninterrupted: Run, tmp_path: Path) -> None:
    """NumPy, Arrow and numba without what this CPU has beyond the baseline; all kernels are compiled anew: slow."""
    from numpy._core import _multiarray_umath as numpy_core

    beyond = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
    older = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(beyond),
        "ARROW_USER_SIMD_LEVEL": "NONE",
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "kernels"),
    }
    code = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(*[n for n in f if f[n]])"
    assert set(runs.python("-c", code, env=older).stdout.split()).isdisjoint(beyond)
    arguments = ("--input", material.input, "--output", tmp_path / "output", "--workers", "1")
    ended = runs.gneiss("run", material.recipe, *arguments, env=older)
    assert ended.returncode == 0, ended.stderr
    assert runs.promised(tmp_path / "output") == runs.promised(uninterrupted.output)


# Refusals: of outputs


def other_recipe(folder: Path, material: Material, old: str, new: str) -> Path:
    """The material's recipe with a change, beside the same model."""
    text = material.recipe.read_text()
    assert old in text
    path = folder / "other.yaml"
    path.write_text(text.replace(old, new))
    shutil.copy(material.folder / "tiny.bin", folder)
    return path


@pytest.mark.usefixtures("here")
def test_an_output_of_another_recipe_is_refused_with_what_differs(
    material: Material, uninterrupted: Run, tmp_path: Path
) -> None:
    before = runs.touched(uninterrupted.output)
    with pytest.raises(OutputError, match=r"another run \(what differs: recipe\)"):
        run(other_recipe(tmp_path, material, "eflaw < 30", "eflaw < 31"), material.input, uninterrupted.output)
    assert runs.touched(uninterrupted.output) == before


@pytest.mark.usefixtures("here")
def test_an_output_made_with_another_model_or_library_is_refused(
    material: Material, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = other_recipe(tmp_path, material, "name: runs", "name: runs")
    with (tmp_path / "tiny.bin").open("ab") as model:
        model.write(b"\0")
    with pytest.raises(OutputError, match=r"another run \(what differs: models\)"):
        run(recipe, material.input, uninterrupted.output)
    monkeypatch.setattr("gneiss.input.plan.version", lambda _: "0.1")
    with pytest.raises(OutputError, match=r"another run \(what differs: libraries\)"):
        run(material.recipe, material.input, uninterrupted.output)


@pytest.mark.usefixtures("here")
def test_a_foreign_folder_is_refused_and_left_as_it_was(simple: Path, material: Material, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"expected an empty folder or an output of gneiss, found 'chapter\.tex'"):
        run(simple, material.input, tmp_path / "thesis")
    assert list(runs.files(tmp_path / "thesis")) == ["chapter.tex"]


@pytest.mark.usefixtures("here")
def test_two_drivers_at_once_are_refused(simple: Path, material: Material, tmp_path: Path) -> None:
    recipe = Recipe.load(simple)
    with (
        claim(tmp_path / "output", make_plan(recipe, material.input).identity),
        pytest.raises(OutputError, match="another run is writing here"),
    ):
        run(recipe, material.input, tmp_path / "output")
    run(recipe, material.input, tmp_path / "output")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("inside", ["input/output", "input", "."])
def test_an_output_in_the_input_or_around_it_is_refused(
    inside: str, simple: Path, material: Material, tmp_path: Path
) -> None:
    shutil.copytree(material.input, tmp_path / "around/input")
    with pytest.raises(OutputError, match="lie one in the other"):
        run(simple, tmp_path / "around/input", tmp_path / "around" / inside)
    assert [name for name in runs.files(tmp_path / "around") if "_gneiss" in name] == []


@pytest.mark.usefixtures("here")
def test_an_output_of_another_input_is_refused(simple: Path, material: Material, tmp_path: Path) -> None:
    shutil.copytree(material.input, tmp_path / "input")
    run(simple, tmp_path / "input", tmp_path / "output")
    shutil.rmtree(tmp_path / "output/_gneiss/ledger")  # as if killed before the ledger was written
    (tmp_path / "input/a.parquet").unlink()
    with pytest.raises(OutputError, match=r"holds 1 shards that this input lacks, first 'a'"):
        run(simple, tmp_path / "input", tmp_path / "output")


@pytest.mark.usefixtures("here")
def test_modified_input_is_refused(simple: Path, tmp_path: Path) -> None:
    file = write_corpus(tmp_path / "input/x.parquet", runs.documents(20, seed=2))
    run(simple, tmp_path / "input", tmp_path / "output")
    os.utime(file, ns=(1, 1))
    with pytest.raises(OutputError, match=r"x\.parquet: the file was modified after it was curated"):
        run(simple, tmp_path / "input", tmp_path / "output")
    write_corpus(file, runs.documents(30, seed=2))
    shutil.rmtree(tmp_path / "output/_gneiss/ledger")
    with pytest.raises(OutputError, match=r"x\.parquet: this is no longer the file"):
        run(simple, tmp_path / "input", tmp_path / "output")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("in_the_way", ["", "data", "annotations", "_gneiss/statistics"])
def test_an_output_that_cannot_be_written_is_an_error_of_the_run(
    in_the_way: str, simple: Path, material: Material, tmp_path: Path
) -> None:
    """A file where a folder should be: permissions do not hold back root, this does."""
    output = tmp_path / "output"
    if in_the_way:
        with claim(output, make_plan(Recipe.load(simple), material.input).identity):
            pass
    (output / in_the_way).write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write: .*; check the path and its permissions"):
        run(simple, material.input, output)


@pytest.mark.usefixtures("here")
def test_no_scheme_but_file(simple: Path, material: Material, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input s3://crawl: s3:// is not supported yet \(it is coming\)"):
        run(simple, "s3://crawl", tmp_path / "output")
    with pytest.raises(InputError, match=r"output gs://there: gs:// is not supported yet"):
        run(simple, material.input, "gs://there")
    done = run(simple, f"file://{material.input}", f"file://{tmp_path}/output")
    assert done.output == tmp_path / "output"


@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_below_one_is_refused(
    workers: int, backend: Any, simple: Path, material: Material, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=f"--workers {workers}: expected 1 or more"):
        run(simple, material.input, tmp_path / "output", workers=workers, backend=backend)


# Budgets and fates


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("harm", ["cut short", "data damaged", "empty", "no Parquet"])
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
    assert command(*arguments) == 3
    assert "1 shards could not be curated (budgets.shards: 0), first 'b'" in capsys.readouterr().err
    assert sorted(path.name for path in (output / "data").iterdir()) == ["a.parquet", "c.parquet"]
    told = json.loads((output / "_gneiss/statistics.json").read_text())
    assert list(told["quarantined_shards"]) == ["b"]
    assert told["quarantined_shards"]["b"]
    assert told["statistics"]["counts"]["rows"] == 2 * len(texts)
    assert "`b`" in (output / "README.md").read_text()

    before = runs.touched(output / "data")
    paths[1].write_bytes(whole)
    assert command(*arguments) == 0
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
    assert command("run", simple, *arguments) == 3
    said = capsys.readouterr()
    assert "2 of 60 documents were quarantined (budgets.documents: 0.10%): " in said.err
    assert "null text (1)" in said.err
    assert "invalid UTF-8 (1)" in said.err
    assert (tmp_path / "output/data/x.parquet").is_file()
    lenient = Recipe.parse(WITHOUT_MODEL.replace("phases:", "budgets: {documents: 0.04}\nphases:"))
    run(lenient, tmp_path / "input", tmp_path / "lenient").check_budgets()
    strict = Recipe.parse(WITHOUT_MODEL.replace("phases:", "budgets: {documents: 0.03}\nphases:"))
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
    assert (done.shards, done.statistics.counts["rows"], done.quarantined_shards) == (1, 0, {})
    assert pq.read_table(tmp_path / "output/data/none.parquet").schema.names == ["id", "text", "url", "token_count"]
    assert pq.read_table(tmp_path / "output/annotations/base/none.parquet").num_rows == 0


@pytest.mark.usefixtures("here")
def test_repeated_ids_are_counted_and_warned_about(
    simple: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [b"Some words that make one sentence.", b"And three other words follow.", b"The last of the four."]
    write_corpus(tmp_path / "input/x.parquet", [*texts, b"It is."], id=["x", "y", "x", "x"])
    assert command("run", simple, "--input", tmp_path / "input", "--output", tmp_path / "output") == 0
    assert (
        json.loads((tmp_path / "output/_gneiss/statistics.json").read_text())["statistics"]["counts"]["repeated_ids"]
        == 2
    )
    said = capsys.readouterr()
    assert "2 documents repeat the id of another one in their shard" in said.out + said.err


@pytest.mark.usefixtures("here")
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
    assert data(tmp_path / "output")["text"][0].as_py().encode() == large
    told = annotations(tmp_path / "output").to_pylist()[1]
    assert (told["text_bytes"], told["text_chars"]) == (len(large), len(large))


# Recipes and models


@pytest.mark.usefixtures("here")
def test_a_model_with_other_labels_than_named(material: Material, tmp_path: Path) -> None:
    recipe = other_recipe(tmp_path, material, "label: hq", "label: science")
    with pytest.raises(ModelError, match=r"expected the labels cc, science, found cc, hq"):
        run(recipe, material.input, tmp_path / "output")


def test_errors_that_concern_the_run_come_back_from_a_worker_process(
    simple: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in (
        (ModelError("the model is green"), pytest.raises(ModelError, match=r"^the model is green$")),
        (ValueError("no number"), pytest.raises(MachineError, match=r"^a worker failed: ValueError: no number$")),
    ):
        monkeypatch.setattr("gneiss.pipelines.run.CurateStep", lambda *_, error=error: killing.FailsToLoad(error))
        with expected:
            run(simple, material.input, tmp_path / "output", workers=1, backend="local")


@pytest.mark.usefixtures("here")
def test_a_model_that_is_not_there(material: Material, tmp_path: Path) -> None:
    recipe = other_recipe(tmp_path, material, "tiny.bin", "large.bin")
    with pytest.raises(ModelError, match=r"model large\.bin: no file at .*large\.bin; put it there"):
        run(recipe, material.input, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_a_hub_model_without_a_network_says_how_to_get_it(material: Material, tmp_path: Path) -> None:
    recipe = other_recipe(tmp_path, material, "source: tiny.bin", "source: hf://owner/repo@main/model.bin")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    ended = runs.gneiss("run", recipe, "--input", material.input, "--output", tmp_path / "output", env=offline)
    assert ended.returncode == 1
    assert "`hf download owner/repo model.bin --revision main`" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("budgets:", "budget:", r"unknown key 'budget'; did you mean 'budgets'\?"),
        (
            "min_length: 80",
            "min_lenght: 80",
            r"unknown key 'phases\.0\.dedup\.min_lenght'; did you mean 'min_length'\?",
        ),
        ("- readability", "- readabilty", r"no annotator 'readabilty'; did you mean 'readability'\?"),
        ("eflaw < 30", "eflow < 30", r"rule 'readable': no annotation 'eflow'; did you mean 'eflaw'\?"),
        ("eflaw < 30", "(SELECT count(*) FROM '/etc/passwd') > 0", "rule 'readable': subquery is not allowed"),
        ("eflaw < 30", "read_text('/etc/passwd') IS NOT NULL", r"rule 'readable': .*read_text"),
        ("eflaw < 30", "getenv('HOME') = ''", r"rule 'readable': .*getenv"),
        ("eflaw < 30", "true) FROM read_csv('/etc/passwd') --", "rule 'readable': expected a "),
        ("keep: good AND", "keep: goood AND", r"keep: no rule 'goood'; did you mean 'good'\?"),
    ],
)
def test_a_wrong_recipe_names_what_is_wrong_before_anything_is_written(
    old: str, new: str, message: str, material: Material, tmp_path: Path
) -> None:
    recipe = other_recipe(tmp_path, material, old, new)
    with pytest.raises(RecipeError, match=message):
        run(recipe, material.input, tmp_path / "output")
    assert not (tmp_path / "output").exists()
    assert command("run", recipe, "--input", material.input, "--output", tmp_path / "output") == 2


@pytest.mark.usefixtures("here")
def test_columns_that_are_missing_or_mistyped_are_named(simple: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["a"], "content": ["b"]}), path)
    with pytest.raises(InputError, match="expected a column 'text', found id, content"):
        run(simple, path, tmp_path / "output")
    pq.write_table(pa.table({"id": ["a"], "text": [1]}), path)
    with pytest.raises(InputError, match="column 'text': expected string, found int64"):
        run(simple, path, tmp_path / "output")


# No disk space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many KB; asking again changes the size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size_kb: int) -> Path:
        options = f"{'remount,' if place.is_mount() else ''}size={size_kb}k"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            pytest.skip(f"mounting a small tmpfs needs root: {mounted.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_the_run_and_room_on_it_resumes(
    material: Material, uninterrupted: Run, small_disk: Callable[[int], Path]
) -> None:
    output = small_disk(150) / "output"
    with pytest.raises(OutputError, match=r"cannot write: .*No space left.*; free some space and run again"):
        run(material.recipe, material.input, output, workers=1, backend="local")
    assert [name for name in runs.files(output) if name.endswith(".part")] == []
    finished = {n: place for n, place in runs.touched(output).items() if n.startswith("annotations/")}
    assert finished
    small_disk(10_000)
    run(material.recipe, material.input, output, workers=1, backend="local")
    assert runs.promised(output) == runs.promised(uninterrupted.output)
    assert finished.items() <= runs.touched(output).items()


def test_a_file_larger_than_allowed_ends_the_run_and_leaves_no_half_file(
    material: Material, uninterrupted: Run, tmp_path: Path
) -> None:
    """A limit on file size stands for a full disk where nothing can be mounted."""
    output = tmp_path / "output"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write: .*; free some space and run again"):
            run(material.recipe, material.input, output, workers=1, backend="local")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [name for name in runs.files(output) if name.endswith(".part")] == []
    run(material.recipe, material.input, output, workers=1, backend="local")
    assert runs.promised(output) == runs.promised(uninterrupted.output)


# Scripts


def test_a_script_without_a_main_guard_is_told_so_rather_than_all_shards_being_given_up(
    simple: Path, material: Material, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    arguments = f"{str(simple)!r}, {str(material.input)!r}, {str(tmp_path / 'output')!r}, workers=1"
    script.write_text(f"import gneiss\ngneiss.run({arguments})\n")
    ended = runs.python(script)
    assert ended.returncode != 0
    assert "3 workers died before they were ready" in ended.stderr
    assert "__main__" in ended.stderr.splitlines()[-1]
