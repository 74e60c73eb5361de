"""The command line: light until it works, one line for an error, exit codes that scripts can rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gneiss.cli import main as cli
from gneiss.cli.status import print_unusable
from gneiss.recipe.recipe import recipe_names
from gneiss.version import __version__
from tests.support import write_documents

RECIPE = """
name: plain
phases:
  - name: only
    dedup: {min_length: 30}
    annotate: [readability]
    rules: {long: text_chars > 10, readable: eflaw < 30}
"""
PASSAGE = "This passage is in more than one of the documents."
LONG_SENTENCE = " ".join(f"w{i}" for i in range(40))
TEXTS = ["A first text, kept.", PASSAGE, "no", f"Before it. {PASSAGE}", LONG_SENTENCE, None]
HEAVY = ("ray", "pyarrow", "numba", "duckdb", "numpy", "fasttext", "yaml", "gneiss.store.objects")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain.yaml").write_text(RECIPE)
    write_documents(tmp_path / "input/a.parquet", TEXTS)
    return tmp_path


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    code = caught.value.code
    return code if isinstance(code, int) else int(code is not None)


def error_of(capsys: pytest.CaptureFixture[str], expected_code: int, *arguments: object) -> str:
    """The one line on stderr of a command that fails as expected."""
    assert exit_code(*arguments) == expected_code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("gneiss: ")]
    assert len(lines) == 1
    assert captured.err.splitlines()[-1] == lines[0]
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["dry-run", "--help"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from gneiss.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.processes
def test_import_gneiss_imports_nothing_heavy_but_offers_everything() -> None:
    script = (
        f"import sys, gneiss; print([name for name in {HEAVY!r} if name in sys.modules])\n"
        "print(gneiss.run.__name__, gneiss.Recipe.__name__, gneiss.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "[]"
    assert second.startswith("run Recipe 0.")


@pytest.mark.processes
def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "gneiss", "explain", "nope"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("gneiss: no recipe 'nope'")
    assert len(done.stderr.splitlines()) == 1


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"gneiss {__version__}\n"


# Errors.


@pytest.mark.parametrize("command", ["explain", "run", "dry-run"])
def test_a_wrong_recipe_is_exit_code_2(folder: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    (folder / "bad.yaml").write_text(RECIPE.replace("rules:", "ruls:"))
    arguments = {
        "explain": [folder / "bad.yaml"],
        "run": [folder / "bad.yaml", "--input", folder / "input", "--output", folder / "out"],
        "dry-run": [folder / "bad.yaml", "--input", folder / "input/a.parquet"],
    }[command]
    assert "unknown key 'phases.0.ruls'; did you mean 'rules'?" in error_of(capsys, 2, command, *arguments)
    assert not (folder / "out").exists()


def test_an_unknown_recipe_or_filter_is_exit_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'gneissweb-bytes'?" in error_of(capsys, 2, "explain", "gneissweb-byte")
    assert "did you mean 'GW01'?" in error_of(capsys, 2, "filters", "GW011")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("missing", "no such file or directory"),
        ("input/*.csv", "expected files that match, found none"),
        ("sftp://host/crawl", "no store has the scheme sftp://"),
    ],
)
def test_a_wrong_input_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str], source: str, told: str) -> None:
    given = source if "://" in source else folder / source
    assert told in error_of(capsys, 1, "run", folder / "plain.yaml", "-i", given, "-o", folder / "out")
    assert not (folder / "out").exists()


def test_a_file_that_is_no_parquet_is_exit_code_1_in_a_dry_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.parquet").write_bytes(b"no Parquet at all, but long enough")
    told = error_of(capsys, 1, "dry-run", folder / "plain.yaml", "--input", folder / "bad.parquet")
    assert "bad.parquet: cannot read: expected a Parquet file" in told


def test_a_foreign_output_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = error_of(capsys, 1, "run", folder / "plain.yaml", "-i", folder / "input", "-o", folder / "input")
    assert "output" in told


def test_a_missing_model_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = "{models: {prose: {source: missing.bin, label: hq}}}"
    (folder / "model.yaml").write_text(RECIPE.replace("[readability]", f"[readability, fasttext: {model}]"))
    told = error_of(capsys, 1, "dry-run", folder / "model.yaml", "--input", folder / "input/a.parquet")
    assert "model missing.bin: no file at" in told


@pytest.mark.parametrize("arguments", [["run"], ["nope"], ["run", "x", "--workers", "many"], ["dry-run"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert exit_code(*arguments) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("phases.only.rules.long", "--set phases.only.rules.long: expected KEY=VALUE"),
        ("phases.only.rules.long=[", "--set phases.only.rules.long=[: the value is no valid YAML"),
        ("phases.onl.keep=long", "phases.onl.keep: no 'onl' in phases; did you mean 'only'?"),
    ],
)
def test_a_wrong_change_is_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], change: str, told: str
) -> None:
    assert told in error_of(capsys, 2, "explain", folder / "plain.yaml", "--set", change)


# What it prints.


@pytest.mark.processes
def test_a_recipe_is_changed_by_every_command_that_takes_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("--set", "phases.only.rules.long=text_chars >= 2", "--set", "budgets.documents=0.5")
    assert exit_code("explain", folder / "plain.yaml", *changes) == 0
    assert "rule      long: text_chars >= 2" in capsys.readouterr().out
    assert exit_code("explain", folder / "plain.yaml", *changes, "--yaml") == 0
    (folder / "changed.yaml").write_text(capsys.readouterr().out)
    arguments = ("--input", folder / "input/a.parquet", "--json")
    assert exit_code("dry-run", folder / "plain.yaml", *arguments, *changes) == 0
    changed = json.loads(capsys.readouterr().out)
    assert exit_code("dry-run", folder / "changed.yaml", *arguments) == 0
    written = json.loads(capsys.readouterr().out)
    assert changed["recipe_sha256"] == written["recipe_sha256"]
    assert (changed["counts"], changed["rules"]) == (written["counts"], written["rules"])
    arguments = ("--input", folder / "input", "--output", folder / "out", "--workers", 1, "--backend", "local")
    assert exit_code("run", folder / "plain.yaml", *arguments, *changes) == 0
    assert json.loads((folder / "out/_gneiss/run.json").read_text())["recipe"] == changed["recipe_sha256"]


@pytest.mark.processes
def test_a_dry_run_counts_as_a_run_that_ends_with_3_because_too_much_was_quarantined(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("-i", folder / "input", "-o", folder / "out", "--workers", 1, "--backend", "local")
    told = error_of(capsys, 3, "run", folder / "plain.yaml", *arguments)
    assert "1 of 6 documents were quarantined (budgets.documents: 0.10%): null text (1)" in told
    assert (folder / "out/data/a.parquet").is_file()
    assert exit_code("dry-run", folder / "plain.yaml", "--input", folder / "input/a.parquet", "--json") == 0
    dry = json.loads(capsys.readouterr().out)
    ran = json.loads((folder / "out/_gneiss/statistics.json").read_text("utf-8"))
    assert dry["counts"] == ran["statistics"]["counts"]
    assert dry["counts"] | {"kept": 3, "dropped": 2, "quarantined": 1} == dry["counts"]
    assert dry["samples"] == ran["samples"]
    assert dry["rules"]["only"]["readable"] == {"true": 4, "false": 1, "unknown": 0, "errors": 0, "decisive": 1}


def test_documents_for_which_a_rule_cannot_be_computed_are_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "log.yaml").write_text(
        "name: log\nphases:\n- name: only\n"
        "  rules: {sparse: ln(text_chars - 2) < 9, not_one: 1 / (text_chars - 2) < 3}\n"
    )
    assert exit_code("dry-run", folder / "log.yaml", "--input", folder / "input/a.parquet") == 0
    told = capsys.readouterr().out
    for rule in ("sparse", "not_one"):
        assert f"warning: {rule} cannot be computed for 1 documents, for which it is unknown" in told


def test_a_dry_run_writes_nothing_and_shows_real_examples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path for path in folder.rglob("*"))
    assert exit_code("dry-run", folder / "plain.yaml", "--input", folder / "input/a.parquet") == 0
    assert sorted(path for path in folder.rglob("*")) == before
    printed = capsys.readouterr().out
    assert printed.startswith(f"{folder / 'input/a.parquet'}: reading with recipe")
    assert "readable, dropped by this rule alone: doc-4" in printed
    assert "w0 w1 w2 w3" in printed


@pytest.mark.processes
def test_a_path_is_printed_on_one_line_however_long(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / ("a long name " * 12) / "out"
    output.parent.mkdir()
    for _ in range(2):
        assert (
            exit_code("run", folder / "plain.yaml", "-i", folder / "input", "-o", output, "--workers", 1) == 3
        )  # one is quarantined
    printed = capsys.readouterr().out.splitlines()
    assert f"kept documents   {output / 'data'} (1 of 1 shards were finished before)" in printed
    assert f"annotations      {output / 'annotations/base'}" in printed


def test_a_limited_dry_run_says_that_dedup_saw_less(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("dry-run", folder / "plain.yaml", "--input", folder / "input/a.parquet", "--limit", 3)
    assert exit_code(*arguments) == 0
    assert "only the first 3 rows were read: dedup saw only those" in " ".join(capsys.readouterr().out.split())
    assert exit_code(*arguments, "--json") == 0
    dry = json.loads(capsys.readouterr().out)
    assert (dry["limit"], dry["counts"]["rows"], dry["counts"]["dedup_bytes"]) == (3, 3, 0)


def test_a_rule_that_is_true_for_every_document_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "idle.yaml").write_text(RECIPE.replace("text_chars > 10", "text_chars >= 0"))
    assert exit_code("dry-run", folder / "idle.yaml", "--input", folder / "input/a.parquet") == 0
    printed = capsys.readouterr().out
    assert "warning: long is true for every document: it has no effect here" in printed
    assert "warning: readable" not in printed


def test_control_characters_of_a_document_do_not_reach_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_documents(
        folder / "bad.parquet", ["\x1b[31mred\x07\n[bold]x[/bold] " + LONG_SENTENCE], id=["\x1b]0;title\x07"]
    )
    assert exit_code("dry-run", folder / "plain.yaml", "--input", folder / "bad.parquet") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "[bold]x[/bold]" in printed


def test_of_many_shards_that_could_not_be_curated_some_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {f"{number:05}": "found 0 bytes" for number in range(10_000)}
    print_unusable(reasons, {"00001"}, 20)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "shard 00000 is quarantined: found 0 bytes",
        "shard 00001 failed by a defect: found 0 bytes",
    ]
    assert lines[20:] == ["and 9,980 more shards, which `gneiss status` lists"]
    print_unusable(reasons, ())
    assert len(capsys.readouterr().out.splitlines()) == 10_000


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.slow
def test_every_packaged_recipe_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from gneiss.recipe.recipe import Recipe

    assert exit_code("explain", name) == 0
    printed = " ".join(capsys.readouterr().out.split())
    recipe = Recipe.load(name)
    assert recipe.digest() in printed
    for phase in recipe.phases:
        for rule in phase.rules:
            assert f"rule {rule}:" in printed


def test_filters_are_listed_and_each_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    from gneiss.filters.catalogue import PAGES

    assert exit_code("filters") == 0
    listed = capsys.readouterr().out
    for page in PAGES:
        assert page.code in listed
        assert exit_code("filters", page.code.lower()) == 0
        printed = capsys.readouterr().out
        assert page.name in printed
        assert all(condition in printed for condition in page.rules.values())


def test_the_doctor_looks_at_everything_and_says_how_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("doctor") in (0, 1)
    printed = " ".join(capsys.readouterr().out.split())
    for what in ("Python 3.11 to 3.13", "pyarrow", "duckdb", "memory for one worker", "Ray cluster"):
        assert what in printed
