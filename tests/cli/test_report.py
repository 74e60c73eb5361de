"""`gneiss report`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from gneiss.cli.main import main
from gneiss.output.finished_run import FinishedRun


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code of a command, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


def numbers_of(text: str, name: str) -> list[int]:
    """The whole numbers of the first line that begins with a name."""
    line = re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)[0]
    return [int(number.replace(",", "")) for number in re.findall(r"(?<![\d.+-])[\d,]+(?![\d.]*%)", line)]


def test_a_terminal_shows_the_counts_of_the_files_on_a_screen(
    uninterrupted: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, uninterrupted.folder, "--text", "--by", "shard")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\n") < 60
    rows = f"read_parquet('{uninterrupted.folder}/annotations/base/**/*.parquet')"
    sums = "count(*), sum(text_bytes)::BIGINT, coalesce(sum(tokens), 0)::BIGINT"
    for status, *totals in duckdb.sql(
        f"SELECT status, {sums} FROM {rows} WHERE status <> 'quarantined' GROUP BY 1"
    ).fetchall():
        assert numbers_of(text, status) == totals
    for phase in uninterrupted.recipe.phases:
        for rule, counts in uninterrupted.statistics.rule_counts(phase.name, phase.rules).items():
            assert numbers_of(text, rule)[:4] == [counts[name] for name in ("true", "false", "unknown", "decisive")]
    for shard in uninterrupted.shards:
        assert numbers_of(text, shard.id)[:2] == [shard.rows, shard.kept]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "--output", "x.html"], "--text prints the counts, and writes no file"),
        (["--text", "--into-output"], "--text prints the counts, and writes no file"),
        (["--text", "--input", "."], "only --by reads the input"),
        (["--output", "x.html", "--into-output"], "give one of them"),
        (["--text", "--by", "shart"], "no annotation or column 'shart'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    uninterrupted: FinishedRun, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code, text = said(capsys, uninterrupted.folder, *options)
    assert code == 1
    assert message in " ".join(text.split())


@pytest.mark.parametrize("options", [[], ["--text"]])
def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    code, text = said(capsys, tmp_path, *options, "--by", "shard")
    assert code == 1
    assert str(tmp_path) in text.replace("\n", "")
    assert "no finished run here" in text


@pytest.mark.slow
def test_a_page_is_written_where_it_is_wanted(
    uninterrupted: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "its.html"
    code, text = said(capsys, uninterrupted.folder, "--output", file)
    assert code == 0
    assert str(file) in text
    assert file.read_text("utf-8").startswith("<!doctype html>")
