"""Kill and resume: at every step of a commit, for the driver and for its workers."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from gneiss.backends import MOST_ATTEMPTS
from gneiss.errors import MachineError
from gneiss.output import ledger
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.curating import CurateStep
from gneiss.store.place import place_of
from tests import runs
from tests.chaos import killing
from tests.warm_processes import WarmProcesses

pytestmark = pytest.mark.processes

DEADLY_EVENTS = (0, 1, 2, 3, 6, 8, 11)  # of 11: half of, aside, renamed, for data, quarantine, statistics, annotations
POISON = f"{len(DEADLY_EVENTS):02d}"
SHARDS = [f"{number:02d}" for number in range(len(DEADLY_EVENTS) + 1)]


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard with quarantined documents, one without."""
    folder = tmp_path_factory.mktemp("two")
    for name, seed in (("a", 0), ("deep/b", 2)):
        runs.write_corpus(folder / f"{name}.parquet", runs.documents(24, seed=seed), row_group_size=24)
    return folder


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight shards with quarantined documents."""
    folder = tmp_path_factory.mktemp("many")
    for seed, name in enumerate(SHARDS, 3):
        runs.write_corpus(folder / f"{name}.parquet", runs.documents(24, seed=seed), row_group_size=24)
    return folder


@pytest.fixture(scope="module")
def reference(recipe: Path, many_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an uninterrupted run over the eight shards gives."""
    output = tmp_path_factory.mktemp("reference")
    killing.run_here_until(killing.NEVER, recipe, many_shards, output)
    return runs.promised(output)


def exit_code(context: WarmProcesses, number: int, *arguments: Path) -> int | None:
    """How a run that is to be killed at its n-th event ended."""
    process = context.Process(target=killing.run_here_until, args=(number, *arguments))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(
    every: int, recipe: Path, two_shards: Path, tmp_path: Path, warm: WarmProcesses
) -> None:
    whole = tmp_path / "whole"
    assert exit_code(warm, killing.NEVER, recipe, two_shards, whole, tmp_path / "trace") == 0
    expected = runs.promised(whole)
    trace = (tmp_path / "trace").read_text().replace(str(whole) + "/", "").splitlines()
    renamed = [event.removeprefix("renamed ") for event in trace if event.startswith("renamed")]
    for shard in ("a", "deep/b"):  # its statistics are written beside its data
        names = (f"_gneiss/statistics/{shard}.json", f"data/{shard}.parquet", f"annotations/base/{shard}.parquet")
        statistics, data, last = map(renamed.index, names)
        assert abs(statistics - data) <= 2
        assert statistics < last
    assert [name for name in renamed if not name.startswith("_gneiss/statistics/")] == [
        "_gneiss/recipe.yaml", "_gneiss/run.json", "_gneiss/ledger/000001.jsonl",
        "data/a.parquet", "quarantine/a.parquet", "annotations/base/a.parquet",
        "_gneiss/ledger/000002.jsonl",
        "data/deep/b.parquet", "annotations/base/deep/b.parquet",
        "_gneiss/ledger/000003.jsonl",
        "_gneiss/statistics.json", "_gneiss/ledger/000004.jsonl", "README.md", "_gneiss/ledger/000005.jsonl",
    ]  # fmt: skip
    assert len(trace) == 2 * len(renamed) + 5  # and 5 Parquet files, half written

    for number in range(1, len(trace) + 1, every):
        output = tmp_path / f"killed-{number}"
        assert exit_code(warm, number, recipe, two_shards, output) == -signal.SIGKILL, trace[number - 1]
        left = runs.promised(output)
        there = {name for name in left if not name.endswith(".part")}
        assert {name: left[name] for name in there} == {name: expected[name] for name in there}, trace[number - 1]
        before = runs.touched(output)

        killing.run_here_until(killing.NEVER, recipe, two_shards, output)
        assert runs.promised(output) == expected, trace[number - 1]
        after = runs.touched(output)
        for shard in ("a", "deep/b"):
            if f"annotations/base/{shard}.parquet" in before:
                of_shard = [name for name in before if f"/{shard}." in name and not name.endswith(".part")]
                assert [after[name] for name in of_shard] == [before[name] for name in of_shard], trace[number - 1]
        assert sorted(receipts(output)) == ["a", "deep/b"], trace[number - 1]


def receipts(output: Path) -> list[str]:
    """The shard of every receipt of the ledger."""
    return [receipt.task for receipt in ledger.entries(place_of(output), ledger.CURATE)]


def deadly(monkeypatch: pytest.MonkeyPatch, attempts: Path, once: dict[str, int], always: tuple[str, ...] = ()) -> None:
    attempts.mkdir()
    monkeypatch.setattr(
        "gneiss.pipelines.curation.CurateStep",
        lambda *given: killing.DeadlyStep(CurateStep(*given), attempts, once, always),
    )


def test_killed_workers_are_replaced_and_a_shard_that_always_kills_is_given_up(
    recipe: Path, many_shards: Path, reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "output"
    with monkeypatch.context() as patch:
        deadly(patch, tmp_path / "attempts", dict(zip(SHARDS, DEADLY_EVENTS, strict=False)), (POISON,))
        done = run(recipe, many_shards, output, workers=2, backend="local")
    attempts = {path.name: path.stat().st_size for path in (tmp_path / "attempts").iterdir()}
    assert attempts == {**dict.fromkeys(SHARDS, 2), POISON: MOST_ATTEMPTS}
    assert done.quarantined_shards == {POISON: "its worker died 3 times (Segmentation fault)"}
    assert [name for name in runs.files(output) if name.endswith(".part")]
    assert sorted(receipts(output)) == SHARDS
    finished = runs.touched(output / "data")

    run(recipe, many_shards, output, workers=1, backend="local")
    assert runs.promised(output) == reference
    after = runs.touched(output / "data")
    assert [name for name in after if after[name] != finished.get(name)] == [f"{POISON}.parquet"]


def test_workers_that_die_while_they_load_end_the_run(
    recipe: Path, many_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gneiss.pipelines.curation.CurateStep", lambda *_: killing.DiesWhileLoading())
    with pytest.raises(MachineError, match=r"3 workers died before they were ready \(Segmentation fault\)"):
        run(recipe, many_shards, tmp_path / "output", workers=1, backend="local")


def test_a_killed_driver_is_followed_at_once_by_another(
    recipe: Path, many_shards: Path, reference: dict[str, str], tmp_path: Path, warm: WarmProcesses
) -> None:
    """The dead driver's workers may still be writing: what they write are the same bytes."""
    arguments = (2, recipe, many_shards, tmp_path / "output", tmp_path / "workers")
    process = warm.Process(target=killing.driver_until, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "output/annotations/base").rglob("[!.]*.parquet"))) >= 2
    done = run(Recipe.load(recipe), many_shards, tmp_path / "output", workers=1, backend="local")
    assert done.finished_before >= 2
    workers = list(map(int, (tmp_path / "workers").read_text().split()))
    assert len(workers) == 2
    while any(map(killing.is_alive, workers)):
        time.sleep(0.05)
    assert sorted(receipts(tmp_path / "output")) == SHARDS
    assert runs.promised(tmp_path / "output") == reference
