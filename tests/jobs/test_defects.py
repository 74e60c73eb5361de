"""Defects: an exception that nobody expected keeps its traceback, once, and is told apart from bad data."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
import pytest

from gneiss.curate.statistics import Statistics
from gneiss.errors import BudgetError, DefectError, OutputError, format_traceback
from gneiss.extraction import job as extraction
from gneiss.extraction.extractors import Resiliparse
from gneiss.extraction.job import extract
from gneiss.jobs.defects import Defect, Defects, collected_defects
from gneiss.output import ledger
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.layout import RECIPE_FILE, RUN_FILE
from gneiss.output.ledger import FAILED, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.pipelines import curation, run_stages
from gneiss.pipelines import run as pipeline
from gneiss.recipe.recipe import Recipe
from gneiss.stages.curating import CurateStep
from gneiss.stages.of_recipe import StageWork
from gneiss.store.place import place_of
from tests import runs
from tests.extraction import archives
from tests.support import write_documents

MODULE = """
from dataclasses import dataclass
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Length(Annotator):
    columns = (Column("length", "int64", "characters"),)

    def compute(self, batch):
        return {"length": [len(self.known(text)) for text in batch.texts()]}

    def known(self, text):
        if "odd" in text:
            raise TypeError(f"unhashable: {text[:6]}")
        return text
"""
RECIPE = """
name: defects
budgets: {documents: 0.5}
phases: [{name: only, annotate: ["mine:Length"], rules: {long: length > 3}}]
"""
PLAIN = "name: plain\nphases: [{name: only, rules: {long: text_chars > 3}}]"
TEXTS = ["some text", "odd 1", "more text", "odd 2", "the last"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an annotator of one's own, its recipe, and two shards of documents, two of which it fails on."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "defects.yaml").write_text(RECIPE)
    (tmp_path / "plain.yaml").write_text(PLAIN)
    for name in ("a", "b"):
        write_documents(tmp_path / f"input/{name}.parquet", [f"{text}, {name}" for text in TEXTS])
    return tmp_path


def tracebacks(output: Path) -> list[str]:
    return [path.read_text() for path in sorted((output / "_gneiss/logs").iterdir())]


def gneiss(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, started in a folder."""
    return runs.gneiss(*arguments, cwd=folder)


# In an annotator


@pytest.mark.processes
def test_an_exception_of_an_annotator_is_quoted_once_and_kept(folder: Path) -> None:
    arguments = ("run", "defects.yaml", "-i", "input", "-o", "output", "--backend", "local", "--workers")
    ended = gneiss(folder, *arguments, "2")
    assert ended.returncode == 0  # within the budget
    assert ended.stderr.count("Traceback (most recent call last)") == 1
    assert ended.stderr.count("raise TypeError(") == 1
    assert "error: length failed: TypeError: unhashable: odd" in ended.stderr
    assert "0 shards and 4 documents failed by a defect" in " ".join(ended.stdout.split())
    (told,) = tracebacks(folder / "output")
    assert 'raise TypeError(f"unhashable: {text[:6]}")' in told
    assert "\nstage: curate\nshard: " in told

    strict = RECIPE.replace("0.5", "0.1")
    (folder / "strict.yaml").write_text(strict)
    ended = gneiss(folder, "run", "strict.yaml", *arguments[2:5], "strict", *arguments[6:], "1")
    assert ended.returncode == DefectError.exit_code == 4
    assert "gneiss: 4 of 10 documents were quarantined by a defect" in ended.stderr.splitlines()[-1]
    assert str(folder / "strict/_gneiss/logs") in ended.stderr.splitlines()[-1]


def test_no_traceback_reaches_what_is_promised(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    done = pipeline.run("defects.yaml", "input", folder / "output", backend=runs.InThisProcess())
    found = pq.read_table(folder / "output/annotations/base/a.parquet")
    assert found["reason"].to_pylist()[1] == "length failed: TypeError"
    assert done.failed_documents == 4
    assert done.failed_shards == []
    for name in runs.promised(folder / "output"):
        assert b"Traceback" not in (folder / "output" / name).read_bytes(), name
    assert len(tracebacks(folder / "output")) == 1
    assert not any("Traceback" in path.read_text() for path in (folder / "output/_gneiss/ledger").iterdir())


@pytest.mark.processes
def test_a_dry_run_quotes_it_too(folder: Path) -> None:
    ended = gneiss(folder, "dry-run", "defects.yaml", "-i", "input/a.parquet")
    assert ended.returncode == 0
    assert ended.stderr.count("raise TypeError(") == 1
    assert "quarantined 2 by a defect: length failed: TypeError" in ended.stdout


# In a worker


@dataclass(frozen=True)
class Raises:
    """A step that raises on some tasks; `named`: what a task is called."""

    step: Any
    tasks: tuple[str, ...]

    def open(self) -> Callable[[Any], Receipt]:
        """Open the step."""
        work = self.step.open()

        def raising(task: Any) -> Receipt:
            if str(getattr(task, "id", task)) in self.tasks:
                raise TypeError("this was not expected")
            receipt: Receipt = work(task)
            return receipt

        return raising

    def lost(self, task: Any, reason: str) -> Receipt:
        """See the step."""
        receipt: Receipt = self.step.lost(task, reason)
        return receipt


@pytest.mark.processes
def test_an_exception_in_a_worker_costs_its_shard_and_gives_the_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output = folder / "output"
    arguments = ("run", folder / "plain.yaml", "-i", folder / "input", "-o", output, "--workers", 2)
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(curation, "CurateStep", lambda *given: Raises(CurateStep(*given), ("a",)))
        assert runs.command(*map(str, arguments)) == DefectError.exit_code
    said = capfd.readouterr()
    assert 'raise TypeError("this was not expected")' in said.err
    # handlers that libraries of other tests have left may quote it too, unformatted
    assert said.err.count(f"please report it with this traceback ({output}") == 1
    assert "shard a failed by a defect: TypeError: this was not expected" in said.err
    assert "1 shards and 0 documents failed by a defect" in " ".join(said.out.split())
    assert said.err.splitlines()[-1].startswith("gneiss: 1 shards failed by a defect, first 'a': TypeError: this was")
    (told,) = tracebacks(output)
    assert "shard: a\ncurate failed: TypeError: this was not expected\n\nTraceback" in told
    states = {task: receipt.state for task, receipt in ledger.read(place_of(output)).items()}
    assert states == {"a": FAILED, "b": "committed"}
    assert open_run(output).failed_shards == ["a"]
    assert sorted(path.name for path in (output / "data").iterdir()) == ["b.parquet"]

    assert runs.command(*map(str, arguments)) == 0
    assert sorted(path.name for path in (output / "data").iterdir()) == ["a.parquet", "b.parquet"]


def test_an_exception_in_a_stage_ends_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Recipe.parse(PLAIN.replace("name: only,", "name: only, exact_duplicates: {},"))
    with monkeypatch.context() as patch:
        patch.setattr(run_stages, "StageWork", lambda *given: Raises(StageWork(*given), ("1",)))
        with pytest.raises(DefectError, match=r"task 1: TypeError: this was not expected") as caught:
            pipeline.run(wide, folder / "input", folder / "output", backend=runs.InThisProcess())
    assert 'raise TypeError("this was not expected")' in caught.value.traceback
    (told,) = tracebacks(folder / "output")
    assert 'raise TypeError("this was not expected")' in told
    pipeline.run(wide, folder / "input", folder / "output", backend=runs.InThisProcess()).check_budgets()


@pytest.mark.processes
def test_an_exception_in_an_extraction_costs_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crawl").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"crawl/{name}.warc").write_bytes(archives.response(archives.page("text"), 1))
    step = extraction.ExtractStep
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "ExtractStep", lambda *given: Raises(step(*given), ("a",)))
        done = extract(tmp_path / "crawl", tmp_path / "out", extractor=Resiliparse(), backend=runs.InThisProcess())
    assert (done.failed, done.unreadable) == (("a",), {"a": "TypeError: this was not expected"})
    with pytest.raises(DefectError, match=r"1 tasks failed by a defect, first 'a': TypeError.* in .*_gneiss/logs"):
        done.check_budgets()
    assert len(tracebacks(tmp_path / "out")) == 1


# In the driver


def test_an_exception_in_the_driver_is_kept_and_quoted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> NoReturn:
        raise TypeError("the driver is wrong")

    monkeypatch.setattr(pipeline, "finish", fails)
    monkeypatch.setattr("gneiss.backends.local.LocalProcesses", runs.InThisProcess)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code = runs.command("run", folder / "plain.yaml", "-i", folder / "input", "-o", folder / "output")
    assert code == DefectError.exit_code
    said = capsys.readouterr().err
    assert said.count('raise TypeError("the driver is wrong")') == 1
    assert said.splitlines()[-1] == "gneiss: a defect of gneiss, please report it: TypeError: the driver is wrong"
    (told,) = tracebacks(folder / "output")
    assert 'raise TypeError("the driver is wrong")' in told


def test_a_refusal_is_no_defect(folder: Path) -> None:
    with pytest.raises(OutputError):
        pipeline.run(folder / "plain.yaml", folder / "input", folder / "input/output", backend=runs.InThisProcess())
    assert not (folder / "input/output").exists()


# Budgets


@pytest.mark.parametrize(
    ("reasons", "quarantined_shards", "failed_shards", "error"),
    [
        ({"null text": 1}, {}, [], None),
        ({"null text": 2}, {}, [], BudgetError),
        ({"null text": 1, "x failed: TypeError": 1}, {}, [], DefectError),
        ({"null text": 2, "x failed: TypeError": 1}, {}, [], BudgetError),
        ({"x failed: TypeError": 1}, {}, [], None),
        ({}, {"a": "cut short"}, [], BudgetError),
        ({}, {"a": "cut short", "b": "TypeError: y"}, ["b"], DefectError),
    ],
)
def test_bad_data_and_defects_have_exit_codes_of_their_own(
    reasons: dict[str, int],
    quarantined_shards: dict[str, str],
    failed_shards: list[str],
    error: type[Exception] | None,
    tmp_path: Path,
) -> None:
    counts = {"rows": 10, "quarantined": sum(reasons.values())}
    statistics = Statistics(counts=Counter(counts), reasons=Counter(reasons))
    write_bytes(b"%s\nbudgets: {documents: 0.1}" % PLAIN.encode(), place_of(tmp_path), RECIPE_FILE)
    write_bytes(b"{}", place_of(tmp_path), RUN_FILE)
    run = FinishedRun(place_of(tmp_path), statistics, {}, quarantined_shards, failed_shards)
    if error is None:
        run.check_budgets()
    else:
        with pytest.raises(error):
            run.check_budgets()


# What is one kind


def raised(message: str, *, other_place: bool = False) -> Exception:
    try:
        if other_place:
            raise ValueError(message)
        raise ValueError(message)
    except ValueError as error:
        return error


def test_a_kind_is_a_type_at_a_place_whatever_the_message() -> None:
    kinds = [
        Defect("x", format_traceback(raised("one"))).kind,
        Defect("y", format_traceback(raised('two\nthree\n  File "x", line 3: no frame'))).kind,
        Defect("x", format_traceback(raised("one", other_place=True))).kind,
    ]
    assert kinds[0].startswith("ValueError-")
    assert kinds[0] == kinds[1] != kinds[2]
    assert all(os.sep not in kind for kind in kinds)


def test_only_the_first_of_a_kind_has_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    defects = Defects(place_of(tmp_path))
    for number in range(3):
        defects.keep(Defect(f"number {number}", format_traceback(raised(f"number {number}"))))
    (told,) = tracebacks(tmp_path)
    assert "number 0" in told
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_defects_are_collected_from_logs_with_a_traceback() -> None:
    import logging

    log = logging.getLogger("gneiss.some.module")
    with collected_defects() as found:
        log.error("no traceback")
        for message in ("one", "two"):
            log.error("failed: %s", message, exc_info=raised(message))
    assert [defect.message for defect in found.values()] == ["failed: one"]
    assert json.dumps(list(found)).count("ValueError-") == 1
