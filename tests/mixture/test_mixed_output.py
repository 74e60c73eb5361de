"""A mixed corpus is an output as those of runs are: everything that takes one takes it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

import gneiss
from gneiss.cli.main import app
from gneiss.errors import InputError, OutputError
from gneiss.export.hf_datasets import export_hf
from gneiss.layers.weights import write_weights
from gneiss.loader.packed_files import pack, packed
from gneiss.loader.packing import sequences
from gneiss.loader.reader import documents
from gneiss.mixture import MixedCorpus, Mixture, Policy, find_buckets, plan_mixture, write_buckets
from gneiss.mixture.mixing import MixStep
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.run_status import run_status
from gneiss.output.verification import verify
from gneiss.pipelines.reshard import reshard
from tests import runs
from tests.support import recipe_of, write_documents

Copy = Callable[[Path], Path]
HERE = runs.InThisProcess()
SETTINGS: dict[str, Any] = {"backend": HERE, "shard_bytes": 3_000}
#: Phases of two recipes, of which readability and tokens are alike, and `tokens_per_char` is in one rule only.
PHASES = """
- name: first
  exact_duplicates: {scope: corpus}
  annotate: [readability]
- name: second
  annotate: [{tokens: {tokenizer: "builtin:cl100k_base"}}, replaced_characters]
  rules: {short: tokens < 200}
"""
TEXTS = {name: [f"{name} {n}: the river runs by the old mill. " * (1 + n % 7) for n in range(90)] for name in "ab"}


def curate(folder: Path, name: str, phases: str, **columns: Any) -> FinishedRun:
    for part in range(3):
        own = {column: values[30 * part : 30 * part + 30] for column, values in columns.items()}
        own["id"] = [f"{name}-{n}" for n in range(30 * part, 30 * part + 30)]
        write_documents(folder / f"{name}-input/part-{part}.parquet", TEXTS[name][30 * part : 30 * part + 30], **own)
    return gneiss.run(recipe_of(phases), folder / f"{name}-input", folder / name, backend=HERE)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FinishedRun]:
    """Two runs of recipes that share two annotators, over inputs that share a column, and have others apart."""
    folder = tmp_path_factory.mktemp("sources")
    shared = {"url": [f"https://example.org/{n}" for n in range(90)], "source": ["crawl"] * 90}
    shared["tags"] = [["x", f"{n}"] for n in range(90)]
    one = curate(folder, "a", PHASES, **shared, score=list(range(90)), only_a=["x"] * 90)
    other = PHASES.replace(", replaced_characters", "").replace("200", "190")
    two = curate(folder, "b", other, **shared, score=[f"{n}" for n in range(90)])
    return {"a": one, "b": two}


@pytest.fixture(scope="module")
def mixture(sources: dict[str, FinishedRun]) -> Mixture:
    total = sum(sum(run.annotations(columns=["tokens"], kept=True)["tokens"].to_pylist()) for run in sources.values())
    return plan_mixture(sources, int(1.7 * total))


@pytest.fixture(scope="module")
def mixed(mixture: Mixture, tmp_path_factory: pytest.TempPathFactory) -> MixedCorpus:
    """Nothing writes into it."""
    return mixture.write(tmp_path_factory.mktemp("mixed") / "mixed", **SETTINGS)


def rows_of(run: FinishedRun) -> list[dict[str, Any]]:
    tables = [pq.read_table(str(run.data_file(shard))) for shard in run.shards]
    return [row for table in tables for row in table.to_pylist()]


def test_annotations_say_where_each_document_was_and_keep_what_all_sources_know(
    mixed: MixedCorpus, sources: dict[str, FinishedRun]
) -> None:
    run = mixed.run
    assert len(run.shards) > 3
    known = {
        (name, row["shard"], row["row"]): row
        for name, source in sources.items()
        for row in source.annotations(kept=True).to_pylist()
    }
    found, data = run.annotations().to_pylist(), rows_of(run)
    assert len(found) == len(data) == run.counts["kept"] == run.counts["rows"]
    for row, document in zip(found, data, strict=True):
        was = known[row["source"], row["gneiss_shard"], row["gneiss_row"]]
        for column in run.recipe.columns:
            assert row[column.name] == was[column.name]
        assert (row["id"], row["content_hash"]) == (was["id"], was["content_hash"])
        assert {name: document[name] for name in ("id", "source", "bucket", "copy", "tokens")} == {
            name: row[name] for name in ("id", "source", "bucket", "copy", "tokens")
        }
        assert (row["status"], row["failed"], row["decisive"]) == ("kept", [], [])
    assert len({(row["source"], row["gneiss_shard"], row["gneiss_row"], row["copy"]) for row in found}) == len(found)
    names = [column.name for column in run.recipe.columns]
    assert "eflaw" in names
    assert "tokens" in names
    assert not any("replace" in name for name in names)  # which only one run has


def test_columns_of_one_type_are_kept_and_others_are_named(mixed: MixedCorpus, sources: dict[str, FinishedRun]) -> None:
    assert set(mixed.left_out) == {"source", "score", "only_a"}
    assert mixed.left_out["score"] == "its types differ: int64 in a, string in b"
    assert mixed.left_out["only_a"] == "only a has it"
    before = {row["id"]: row for source in sources.values() for row in rows_of(source)}
    for row in rows_of(mixed.run):
        was = before[row["id"]]
        assert {name: row[name] for name in ("text", "url", "tags")} == {
            name: was[name] for name in ("text", "url", "tags")
        }
    schema = mixed.run.data_schema(mixed.run.shards[0])
    assert schema.names == ["id", "text", "url", "tags", "source", "bucket", "copy", "tokens"]


def test_it_is_verified_and_has_a_card_statistics_and_a_status(mixed: MixedCorpus, mixture: Mixture) -> None:
    found = verify(mixed.folder)
    assert (found.problems, found.rows, found.tasks) == ((), mixed.documents, mixed.files)
    assert run_status(mixed.folder).state == "finished"
    run = open_run(mixed.folder)
    run.check_budgets()
    assert run.counts["kept_text_bytes"] == sum(len(row["text"].encode()) for row in rows_of(run))
    column = run.statistics.columns["tokens"]
    assert column.documents == column.kept_bins.total() == mixed.documents
    assert run.identity["models"] == {}
    card = (Path(str(mixed.folder)) / "README.md").read_text()
    for name, parts in mixture.plan.of_sources():
        assert f"| `{name}` | `all` | {parts[0].cell.documents:,} | {parts[0].cell.tokens:,} |" in card
        assert f"| {parts[0].documents:,} | {parts[0].tokens:,} | ×{parts[0].repetitions:.2f} |" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert [of["data_files"][0]["path"] for of in front["configs"]] == ["data/**", "annotations/base/**"]
    assert not list((Path(str(mixed.folder)) / "_gneiss").glob("exchange"))


@pytest.mark.slow
def test_layers_loader_packing_export_reshard_and_report(mixed: MixedCorpus, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(Path(str(mixed.folder)))
    write_weights(output)
    write_buckets(find_buckets(output, ["eflaw"], quantiles=3))
    read = documents(output, layers=["weights"])
    assert len(read) == mixed.documents
    pack(sequences(documents(output), "builtin:cl100k_base", 64), tmp_path / "packed")
    assert len(list(packed(tmp_path / "packed"))) > 10
    export_hf(documents(output), tmp_path / "exported")
    assert sum(pq.read_metadata(path).num_rows for path in (tmp_path / "exported").rglob("*.parquet")) == len(read)
    again = reshard(output, tmp_path / "resharded", shard_bytes=10_000, backend=HERE)
    assert Counter(row["id"] for row in rows_of(again)) == Counter(row["id"] for row in rows_of(mixed.run))
    assert verify(output).layers == ("buckets", "weights")
    shown = CliRunner().invoke(app, ["report", str(output), "--output", str(tmp_path / "report.html")])
    assert shown.exit_code == 0, shown.output
    assert "mixture" in (tmp_path / "report.html").read_text()
    for command in (["status", str(output)], ["verify", str(output)]):
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0, shown.output


@pytest.mark.slow
def test_a_mixture_of_mixtures(mixed: MixedCorpus, sources: dict[str, FinishedRun], tmp_path: Path) -> None:
    again = plan_mixture({"mixed": mixed.run, "b": sources["b"]}, 2_000)
    done = again.write(tmp_path / "again", **SETTINGS)
    assert {row["source"] for row in rows_of(done.run)} == {"mixed", "b"}
    assert set(done.left_out) == {"source", "score", "bucket", "copy", "tokens"}
    assert verify(done.folder).problems == ()


@pytest.mark.slow
def test_it_can_be_the_input_of_a_run(mixed: MixedCorpus, tmp_path: Path) -> None:
    done = gneiss.run(recipe_of(PHASES), Path(str(mixed.folder)) / "data", tmp_path / "again", backend=HERE)
    assert done.counts["rows"] == mixed.documents


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["data", "annotations/base", "_gneiss/statistics"])
def test_a_damaged_file_is_noticed_and_made_again(
    mixture: Mixture, mixed: MixedCorpus, copy_of: Copy, folder: str
) -> None:
    output = copy_of(Path(str(mixed.folder)))
    damaged = sorted(path for path in (output / folder).rglob("*") if path.is_file())[1]
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and "ledger" not in path.parts}
    content = bytearray(before[damaged])
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (problem,) = verify(output).problems
    assert problem.path == str(damaged.relative_to(output))
    mixture.write(output, **SETTINGS)
    assert {path: path.read_bytes() for path in before} == before
    assert verify(output).problems == ()


def test_a_damaged_piece_is_noticed(mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(self: MixStep, shard: Any) -> None:
        raise OutputError("ended")

    with monkeypatch.context() as patched:
        patched.setattr(MixStep, "_written", end)
        with pytest.raises(OutputError, match="ended"):
            mixture.write(tmp_path / "mixed", **SETTINGS)
    piece = sorted((tmp_path / "mixed/_gneiss/exchange/scatter").iterdir())[0]
    content = bytearray(piece.read_bytes())
    for at in range(len(content) // 4, len(content) // 2):
        content[at] ^= 0x55
    piece.write_bytes(content)
    with pytest.raises(OutputError):
        mixture.write(tmp_path / "mixed", **SETTINGS)


def test_columns_of_a_run_whose_files_differ(tmp_path: Path) -> None:
    """A column that some files lack is null there; one of two types that fit none is left out; ids may be made."""
    for number, columns in enumerate(
        ({"n": [1] * 40, "mixed": ["x"] * 40}, {"n": [2.5] * 40, "mixed": [True] * 40}, {})
    ):
        table = pa.table({"content": [f"A text {number} {row}." for row in range(40)], **columns})
        (tmp_path / "input").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / f"input/{number}.parquet")
    phases = "  - {name: only, annotate: [tokens]}"
    run = gneiss.run(
        recipe_of(phases, input="{text: content, id: null}"), tmp_path / "input", tmp_path / "run", backend=HERE
    )
    done = plan_mixture({"one": run}, 500).write(tmp_path / "mixed", **SETTINGS)
    assert done.left_out == {"mixed": "its types differ: several types in one"}
    by_number = {int(row["text"].split()[2]): row["n"] for row in rows_of(done.run)}
    assert by_number == {0: 1.0, 1: 2.5, 2: None}
    assert {row["id"] for row in rows_of(done.run)} <= {row["id"] for row in run.annotations().to_pylist()}
    assert verify(done.folder).problems == ()


def test_what_a_budget_counts_is_in_the_mixture_whatever_its_name(tmp_path: Path) -> None:
    write_documents(tmp_path / "input/a.parquet", TEXTS["a"])
    phases = "  - {name: only, annotate: [{tokens: {column: pieces}}]}"
    run = gneiss.run(recipe_of(phases), tmp_path / "input", tmp_path / "run", backend=HERE)
    done = plan_mixture({"one": run}, 500).write(tmp_path / "mixed", **SETTINGS)
    rows = done.run.annotations().to_pylist()
    assert [row["tokens"] for row in rows] == [row["pieces"] for row in rows]
    assert sum(row["tokens"] for row in rows) == pytest.approx(500, abs=40)
    again = plan_mixture({"again": done.run}, 300)
    assert again.survey.sources[0].tokens == "pieces"


@pytest.mark.processes
@pytest.mark.slow
def test_the_command_says_which_columns_are_left_out(sources: dict[str, FinishedRun], tmp_path: Path) -> None:
    given = [f"{name}={run.folder}" for name, run in sources.items()]
    shown = CliRunner().invoke(
        app, ["mix", *given, "--budget", "2K", "--output", str(tmp_path / "mixed"), "--backend", "local"]
    )
    assert shown.exit_code == 0, shown.output
    assert "left out   score: its types differ" in shown.output


def test_shares_of_many_sources_are_met(tmp_path: Path) -> None:
    """The budget within 1 % where twenty sources have little each."""
    write_documents(tmp_path / "input/a.parquet", TEXTS["a"])
    run = gneiss.run(
        recipe_of("  - {name: only, annotate: [tokens]}"), tmp_path / "input", tmp_path / "run", backend=HERE
    )
    total = sum(run.annotations(columns=["tokens"], kept=True)["tokens"].to_pylist())
    for share in (Fraction(1, 4), Fraction(11, 10), Fraction(7, 2)):
        mixture = plan_mixture({f"source-{n:02}": run for n in range(20)}, int(20 * total * share))
        assert mixture.plan.tokens == pytest.approx(mixture.plan.budget, rel=0.01)


def test_a_source_that_kept_nothing_has_no_part_and_what_it_should_have_is_short(tmp_path: Path) -> None:
    write_documents(tmp_path / "input/a.parquet", TEXTS["a"])
    phases = "  - {{name: only, annotate: [tokens], rules: {{long: text_bytes > {}}}}}"
    full, empty = (
        gneiss.run(recipe_of(phases.format(least)), tmp_path / "input", tmp_path / f"{least}", backend=HERE)
        for least in (0, 10**9)
    )
    mixture = plan_mixture({"full": full, "empty": empty}, 2_000, policy=Policy(targets={"empty": Fraction(1, 2)}))
    (_, none) = mixture.plan.parts
    assert (none.cell.source, none.documents, none.tokens, none.wanted) == ("empty", 0, 0, 1_000)
    assert mixture.plan.shortfall == pytest.approx(1_000, abs=60)
    for apart in (False, True):
        done = mixture.write(tmp_path / f"mixed-{apart}", apart=apart, **SETTINGS)
        assert {row["source"] for row in rows_of(done.run)} == {"full"}
        assert done.documents == mixture.plan.documents
    with pytest.raises(InputError, match="the runs kept no tokens; there is nothing to mix"):
        plan_mixture({"empty": empty}, 500)


@pytest.mark.slow
def test_a_resharded_run_has_the_same_annotators(curated: Path, tmp_path: Path) -> None:
    """What read a model file is only taken for the same where that file was the same."""
    whole, again = open_run(curated), reshard(curated, tmp_path / "resharded", shard_bytes=20_000, backend=HERE)
    assert again.identity["models"] == whole.identity["models"] != {}
    done = plan_mixture({"one": whole, "two": again}, 4_000).write(tmp_path / "mixed", **SETTINGS)
    assert {"prose", "eflaw", "tokens"} <= {column.name for column in done.run.recipe.columns}
    assert done.run.identity["models"] == whole.identity["models"]
    path = tmp_path / "resharded/_gneiss/run.json"
    path.write_text(path.read_text().replace(*whole.identity["models"].values(), "another"))
    other = plan_mixture({"one": whole, "two": tmp_path / "resharded"}, 4_000).write(tmp_path / "other", **SETTINGS)
    names = {column.name for column in other.run.recipe.columns}
    assert "prose" not in names
    assert {"eflaw", "tokens"} <= names


def test_held_out_documents_are_refused(sources: dict[str, FinishedRun], tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text(json.dumps({"id": "other", "text": TEXTS["b"][4]}) + "\n")
    message = "b: the text of the document 'b-4' is in a held-out set too: a model would be evaluated on memorized text"
    with pytest.raises(InputError, match=message):
        plan_mixture(sources, 2_000, held_out=[held_out])
    with pytest.raises(InputError, match="a: the document 'a-0' is in a held-out set too"):
        plan_mixture(sources, 2_000, held_out=[sources["a"].folder])
    assert plan_mixture({"a": sources["a"]}, 2_000, held_out=[held_out, sources["b"].folder]).plan.tokens
    given = [*(f"{name}={run.folder}" for name, run in sources.items()), "--budget", "2K"]
    shown = CliRunner().invoke(app, ["mix", *given, "--held-out", str(held_out)])
    assert isinstance(shown.exception, InputError)
    assert message in str(shown.exception)
