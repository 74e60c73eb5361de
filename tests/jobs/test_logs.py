"""Logs: every record says its run, stage and shard, as text or as a line of JSON, also from a worker process."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from gneiss.jobs.logs import LOGGER, Fields, LogSettings, log_fields
from tests import runs
from tests.support import write_documents

RECIPE = "name: plain\nphases: [{name: only, exact_duplicates: {}, rules: {long: text_chars > 3}}]"
_log = logging.getLogger("gneiss.tests")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards and a recipe with a corpus-wide step."""
    (tmp_path / "plain.yaml").write_text(RECIPE)
    for name in ("a", "b"):
        write_documents(tmp_path / f"input/{name}.parquet", ["some text", f"text of {name}"])
    return tmp_path


def test_text_has_fields_only_where_all_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    LogSettings().apply()
    with log_fields(run="r", stage="curate"), log_fields(shard="a"):
        _log.info("not said")
        _log.warning("%d workers", 3)
        LogSettings(logging.INFO).apply()
        _log.info("said")
    assert capsys.readouterr().err.splitlines() == [
        "warning: 3 workers",
        "info: said  [run=r stage=curate shard=a]",
    ]


def test_fields_of_other_libraries_are_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    LogSettings(logging.INFO).apply()
    _log.info("said", extra={"_of_a_library": 3})  # as Ray adds to every record
    assert capsys.readouterr().err.splitlines() == ["info: said"]


def test_json_has_fields_and_what_else_a_record_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    LogSettings(logging.INFO, as_json=True).apply()
    with log_fields(run="r"):
        _log.info("two\nlines", extra={"rows": 3})
    _log.warning("outside")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "info", "logger": "gneiss.tests", "message": "two\nlines", "run": "r", "rows": 3}
    assert "run" not in second


def test_exceptions_are_left_to_the_driver(capsys: pytest.CaptureFixture[str]) -> None:
    LogSettings().apply()
    _log.error("failed", exc_info=ValueError("x"))
    assert capsys.readouterr().err == ""


def test_settings_are_those_that_were_applied_last() -> None:
    for settings in (LogSettings(), LogSettings(logging.INFO, as_json=True)):
        settings.apply()
        assert LogSettings.of_this_process() == settings
    assert len([h for h in LOGGER.handlers if h.filters]) == 1


def test_a_handler_of_ones_own_gets_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(Fields())
    with log_fields(shard="a"):
        _log.warning("x")
    assert caplog.records[0].shard == "a"  # type: ignore[attr-defined]


@pytest.mark.processes
def test_a_run_logs_what_drivers_and_workers_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("run", folder / "plain.yaml", "-i", folder / "input", "-o", folder / "json", "--backend", "local")
    ended = runs.gneiss("--log-json", *arguments, "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(line) for line in ended.stderr.splitlines()]
    assert len({record["run"] for record in records}) == 1
    stages = list(dict.fromkeys(record["stage"] for record in records))
    assert stages[-1] == "curate"
    assert len(stages) > 2
    finished = [record for record in records if record["stage"] == "curate" and "shard" in record]
    assert [(record["shard"], record["rows"], record["done"], record["of"]) for record in finished] == [
        ("a", 2, 1, 2),
        ("b", 2, 2, 2),
    ]
    assert {"gneiss.jobs.job", "gneiss.jobs.attempt"} <= {record["logger"] for record in records}  # driver and worker

    assert runs.command("--log-json", *arguments, "--workers", "0") == 0
    assert capsys.readouterr().err == ""  # nothing is left to do
    assert runs.command("--log-json", "run", "nowhere.yaml", *arguments[2:]) != 0
    assert json.loads(capsys.readouterr().err)["level"] == "error"
    assert runs.command("--verbose", *arguments[:5], folder / "text", *arguments[6:], "--workers", "1") == 0
    said = capsys.readouterr().err
    assert "info: 2 of 2 tasks: b finished  [" in said
    assert "plain: 2 shards" in said  # progress is there too
