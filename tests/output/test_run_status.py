"""How a run goes, from its ledger, lock and files: while it is on, when it was killed, and when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gneiss.cli.status import print_status
from gneiss.errors import InputError
from gneiss.output import ledger, running
from gneiss.output.cost import Cost, Forecast
from gneiss.output.layout import LOCK_FILE, RUN_FILE, STATISTICS_FILE
from gneiss.output.ledger import BEGUN, COMMITTED, CURATE, ENDED, FAILED, PREDICTED, UNREADABLE, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.output.run_status import run_status
from gneiss.output.running import Running, running_tasks
from gneiss.store.place import Place, place_of
from gneiss.store.store import Holder
from tests import runs


def begun(stage: str, tasks: int, left: int, at: float, left_bytes: int = 0) -> Receipt:
    counts = {"tasks": tasks, "left": left, "left_bytes": left_bytes, "workers": 2}
    return Receipt(stage, COMMITTED, "", None, counts, cost={"at": at}, stage=BEGUN)


def done(stage: str, task: str, at: float, **cost: float) -> Receipt:
    return Receipt(task, COMMITTED, "f", 10, cost={"at": at, "seconds": 1.0, **cost}, stage=stage)


def output_with(folder: Path, *entries: Receipt) -> Place:
    output = place_of(folder)
    write_bytes(b"{}", output, RUN_FILE)
    for entry in entries:
        ledger.append(output, [entry])
    return output


def test_a_run_that_is_on(tmp_path: Path) -> None:
    output = output_with(
        tmp_path,
        begun("keys", 4, 4, 1000.0),
        *(done("keys", str(task), 1010.0 + task, cpu_seconds=2.0) for task in range(4)),
        begun("curate", 10, 8, 1020.0, left_bytes=800),
        done("curate", "a", 1030.0, input_bytes=100.0, seconds=9.0),
        replace(done("curate", "b", 1040.0, input_bytes=300.0, seconds=19.0), state=UNREADABLE, reason="cut short"),
        replace(done("curate", "c", 1060.0, input_bytes=100.0, seconds=3.0), state=FAILED, reason="KeyError"),
    )
    with (output / LOCK_FILE).lock():
        status = run_status(output, slowest=2)
    assert (status.state, status.last) == ("running", 1060.0)
    keys, curate = status.stages
    assert (keys.name, keys.tasks, keys.left, keys.seconds, keys.cpu_seconds) == ("keys", 4, 0, 13.0, 8.0)
    assert (keys.seconds_left, keys.bytes_per_second) == (0.0, None)
    assert (curate.tasks, curate.left, curate.done, curate.left_bytes) == (10, 5, 3, 300)
    assert curate.bytes_per_second == 500 / 40
    assert curate.seconds_left == 300 / (500 / 40)
    assert status.current == curate
    assert (status.unusable, status.failed) == ({"b": "cut short", "c": "KeyError"}, ["c"])
    assert [receipt.task for receipt in status.slowest] == ["b", "a"]


def test_a_stage_of_numbered_tasks_is_extrapolated_by_tasks(tmp_path: Path) -> None:
    output = output_with(tmp_path, begun("clusters", 9, 8, 100.0), done("clusters", "3", 120.0))
    ledger.append(output, [done("clusters", "4", 160.0)])
    (clusters,) = run_status(output).stages
    assert (clusters.left, clusters.seconds_left) == (6, 6 * 30.0)
    none_yet = output_with(tmp_path / "other", begun("clusters", 9, 8, 100.0))
    assert run_status(none_yet).stages[0].seconds_left is None


def test_the_time_left_is_not_known_before_each_worker_may_have_ended_its_first_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = begun(CURATE, 100, 100, 0.0)
    bundles = replace(begin, counts={**begin.counts, "first": 20})  # two bundles of 10 tasks
    output = output_with(tmp_path, bundles, *(done(CURATE, f"{task}", 10.0) for task in range(19)))
    print_status(run_status(output), 10.0)
    assert "19/100 tasks finished, time left not known yet" in capsys.readouterr().out
    ledger.append(output, [done(CURATE, "19", 11.0)])
    assert run_status(output).stages[0].seconds_left == 44.0


def test_the_time_left_of_all_stages_is_by_the_estimate_and_by_what_was_done(tmp_path: Path) -> None:
    output = output_with(
        tmp_path,
        Receipt("run", COMMITTED, "", None, cost=Cost(1000.0, 0.0, 0.0, 0.0).noted(), stage=PREDICTED),
        *(Receipt(name, COMMITTED, "", None, cost={"work": work}, stage=PREDICTED)
          for name, work in (("keys", 0.2), ("curate", 0.5), ("after", 0.3))),
        begun("keys", 4, 2, 0.0), *(done("keys", str(task), 100.0) for task in range(2)),
        begun("curate", 10, 10, 100.0, left_bytes=800), done("curate", "a", 400.0, input_bytes=400.0),
    )  # fmt: skip
    status = run_status(output)
    assert status.predicted == Forecast(Cost(1000.0, 0.0, 0.0, 0.0), {"keys": 0.2, "curate": 0.5, "after": 0.3})
    left, work_done = 0.25 + 0.3, 0.1 + 0.25
    assert status.seconds_left == pytest.approx(left * (400 + 20) / (work_done + 0.02))
    print_status(status, 500.0)
    none = output_with(tmp_path / "other", begun("keys", 4, 2, 0.0))
    assert run_status(none).seconds_left is None


def test_a_run_that_is_on_names_the_tasks_that_are_under_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "WRITE_SECONDS", 0.0)
    times = iter([1000.0, 1000.0, 1060.0, 1100.0])
    monkeypatch.setattr("gneiss.output.running.time.time", lambda: next(times))
    output = output_with(tmp_path, begun("curate", 9, 9, 1000.0))
    progress = Running(output, "1-of-2", "curate")
    progress.begin(iter([["a"], ["b1", "b2"], ["c"], ["d1", "d2"], ["e"]]), 2)
    assert running_tasks(output, "curate") == []
    with closing(progress), (output / LOCK_FILE).lock():
        progress.finished(["b2", "b1"])
        progress.finished(["c"])
        found = run_status(output)
        assert [(task.task, task.since) for task in found.running] == [("a", 1000.0), ("d1", 1100.0), ("d2", 1100.0)]
        assert running_tasks(output, "keys") == []
        print_status(found, 1120.0, 1)
        assert "running: a for 2 min 00 s, and 2 more" in capsys.readouterr().out
    assert running_tasks(output, "curate") == []


def test_a_resumed_stage_counts_from_its_second_begin(tmp_path: Path) -> None:
    output = output_with(
        tmp_path,
        begun("curate", 4, 4, 0.0, 40), done("curate", "a", 50.0, input_bytes=10.0),
        begun("curate", 4, 3, 1000.0, 30), done("curate", "b", 1005.0, input_bytes=10.0),
        done("curate", "c", 1010.0, input_bytes=10.0),
    )  # fmt: skip
    status = run_status(output)
    assert status.state == "stopped"
    assert [(stage.left, stage.seconds_left) for stage in status.stages] == [(1, 5.0)]


def test_drivers_of_shares_count_together(tmp_path: Path) -> None:
    output = output_with(
        tmp_path,
        replace(begun("curate", 10, 5, 10.0, 50), fingerprint="0-of-2"),
        replace(begun("curate", 10, 5, 20.0, 60), fingerprint="1-of-2"),
        done("curate", "a", 30.0, input_bytes=10.0),
    )
    with (output / "_gneiss/shares/1-of-2").lock():
        status = run_status(output)
    assert status.state == "running"
    assert [(stage.left, stage.workers, stage.left_bytes, stage.seconds) for stage in status.stages] == [
        (9, 4, 100, 20.0)
    ]


def test_a_task_that_fails_and_then_succeeds_is_no_failure(tmp_path: Path) -> None:
    lost = replace(done("curate", "a", 5.0), state=UNREADABLE, reason="its worker died")
    status = run_status(output_with(tmp_path, begun("curate", 1, 1, 0.0), lost, done("curate", "a", 9.0)))
    assert status.unusable == {}


@pytest.mark.parametrize(("quiet", "state"), [(20.0, "running"), (3600.0, "stopped"), (None, "running")])
def test_a_holder_that_is_silent_for_long_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet: float | None, state: str
) -> None:
    output = output_with(tmp_path, begun("curate", 3, 3, 0.0))
    monkeypatch.setattr("gneiss.store.local.LocalStore.holder", lambda *_: Holder("process 7 on b\x1b[31m", quiet))
    status = run_status(output)
    assert status.state == state
    print_status(status, 30.0)
    said = capsys.readouterr().out
    assert f"{tmp_path}: {state}" in said
    assert "by process 7 on b\\u001b[31m" in said
    assert ("most likely gone" in said) == (state == "stopped")


def test_a_finished_run(curated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.command("status", curated) == 0
    said = capsys.readouterr().out
    assert f"{curated}: finished\n" in said
    assert "curate" in said
    assert "took: " in said
    status = run_status(curated)
    assert status.took is not None
    *entries, last = ledger.entries(place_of(curated))
    assert last.stage == ENDED
    of_tasks = [file for entry in entries if entry.stage == CURATE for file in entry.files]
    assert status.took.written_bytes == sum(file.size_bytes for file in of_tasks)


def test_an_output_that_is_finished_again(curated: Path, copy_of: Callable[[Path], Path]) -> None:
    output = copy_of(curated)
    ledger.append(place_of(output), [begun("curate", 5, 1, 9e9)])
    assert run_status(output).state == "stopped"
    ledger.append(place_of(output), [done("curate", "a", 9e9)])
    assert run_status(output).state == "finished"
    (output / STATISTICS_FILE).unlink()
    assert run_status(output).state == "stopped"


def test_no_run_is_no_status(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        run_status(tmp_path)


@pytest.mark.processes
def test_a_run_in_an_object_store(s3_folder: str) -> None:
    output = place_of(s3_folder)
    write_bytes(b"{}", output, RUN_FILE)
    ledger.append(output, [begun("curate", 2, 2, 0.0)])
    with (output / LOCK_FILE).lock():
        status = run_status(output)
        assert status.state == "running"
        assert status.holder is not None
        assert status.holder.startswith("process ")
        assert status.quiet_seconds is not None
        assert status.quiet_seconds < 60
    status = run_status(output)
    assert (status.state, status.holder) == ("stopped", None)
