"""Shares of a run: drivers that know nothing of each other, on one output."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias
from unittest import mock

import pytest

from gneiss.errors import OutputError, RecipeError
from gneiss.jobs import job
from gneiss.output import layout
from gneiss.output.claim import Share, claim
from gneiss.output.finished_run import FinishedRun
from gneiss.output.ledger import read
from gneiss.pipelines.run import RunOptions, run, run_share
from gneiss.recipe.recipe import Recipe
from gneiss.stages import summing
from gneiss.store.place import place_of
from tests import runs
from tests.chaos import killing
from tests.runs import InThisProcess
from tests.warm_processes import WarmProcess, WarmProcesses

AT_SHARD_SCOPE = """
name: shares
budgets: {documents: 0.5}
shard_max_bytes: 6000
phases:
  - name: only
    dedup: {min_length: 60}
    annotate: [readability]
    rules: {readable: eflaw < 14}
"""
AT_CORPUS_SCOPE = """
name: shares
budgets: {documents: 0.5, shards: 1}
phases:
  - name: first
    rules: {enough: text_bytes > 20}
  - name: second
    near_duplicates: {}
    dedup: {min_length: 60, scope: corpus}
    annotate: [readability]
    rules: {readable: eflaw < 14}
"""
FILES = 4
HERE = RunOptions(backend=InThisProcess())
#: Recipe → what one driver promises.
Expected: TypeAlias = dict[str, dict[str, str]]


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Look often."""
    with mock.patch.object(job, "LOOK_SECONDS", 0.02):
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with repeats across them."""
    folder = tmp_path_factory.mktemp("shares")
    for number in range(FILES):
        runs.write_corpus(folder / f"{number}.parquet", runs.documents(24, seed=number % 3))
    return folder


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """Of both recipes."""
    folder = tmp_path_factory.mktemp("whole")
    return {recipe: whole(recipe, corpus, folder / str(len(recipe))) for recipe in (AT_SHARD_SCOPE, AT_CORPUS_SCOPE)}


def whole(recipe: str, corpus: Path, output: Path) -> dict[str, str]:
    """What one driver promises."""
    run(recipe_of(recipe), corpus, output, backend=InThisProcess())
    return runs.promised(output)


def recipe_of(text: str) -> Recipe:
    """A recipe."""
    return Recipe.parse(text)


def share(recipe: str, corpus: Path, output: Path, task: int, of: int) -> FinishedRun | None:
    """What a driver of a share does."""
    return run_share(recipe_of(recipe), corpus, output, Share(task, of), HERE)


@pytest.mark.slow
@pytest.mark.parametrize("of", [1, 3, 20])
def test_whoever_is_last_finishes_the_run(of: int, corpus: Path, expected: Expected, tmp_path: Path) -> None:
    results = [share(AT_SHARD_SCOPE, corpus, tmp_path / "shared", task, of) for task in reversed(range(of))]
    finished = [result for result in results if result is not None]
    assert finished
    assert results[-1] is finished[-1]
    assert runs.promised(tmp_path / "shared") == expected[AT_SHARD_SCOPE]


@pytest.mark.slow
def test_each_shard_is_curated_once(corpus: Path, tmp_path: Path) -> None:
    for task in range(3):
        before = runs.touched(tmp_path / "shared") if task else {}
        share(AT_SHARD_SCOPE, corpus, tmp_path / "shared", task, 3)
        now = runs.touched(tmp_path / "shared")
        assert {name for name in before if name.startswith("annotations/") and before[name] != now[name]} == set()
    assert len(read(place_of(tmp_path / "shared"))) == len(list((tmp_path / "shared/annotations").rglob("*.parquet")))


@pytest.mark.slow
@pytest.mark.parametrize("of", [2, 3])
def test_shares_that_see_each_other_run_side_by_side(of: int, corpus: Path, expected: Expected, tmp_path: Path) -> None:
    with ThreadPoolExecutor(of) as pool:
        tasks = [pool.submit(share, AT_CORPUS_SCOPE, corpus, tmp_path / "shared", task, of) for task in range(of)]
        results = [task.result() for task in tasks]
    assert any(results)
    assert runs.promised(tmp_path / "shared") == expected[AT_CORPUS_SCOPE]


@pytest.mark.slow
def test_a_shard_that_cannot_be_read_is_left_out_by_all_of_them(corpus: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "input"
    damaged.mkdir()
    for file in corpus.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    content = bytearray((damaged / "0.parquet").read_bytes())
    content[200:400] = bytes(200)
    (damaged / "0.parquet").write_bytes(content)
    expected = whole(AT_CORPUS_SCOPE, damaged, tmp_path / "whole")
    with ThreadPoolExecutor(2) as pool:
        results = [*pool.map(lambda task: share(AT_CORPUS_SCOPE, damaged, tmp_path / "shared", task, 2), range(2))]
    (finished, *_) = [result for result in results if result is not None]
    assert list(finished.quarantined_shards) == ["0"]
    assert runs.promised(tmp_path / "shared") == expected


@pytest.mark.slow
def test_a_run_without_shares_does_what_is_left(corpus: Path, expected: Expected, tmp_path: Path) -> None:
    assert share(AT_SHARD_SCOPE, corpus, tmp_path / "shared", 1, 4) is None
    assert whole(AT_SHARD_SCOPE, corpus, tmp_path / "shared") == expected[AT_SHARD_SCOPE]
    assert share(AT_SHARD_SCOPE, corpus, tmp_path / "shared", 2, 4) is not None  # it is finished: nothing is left


def test_other_shares_than_those_that_run_are_refused(corpus: Path, tmp_path: Path) -> None:
    output = place_of(tmp_path / "shared")
    share(AT_SHARD_SCOPE, corpus, tmp_path / "shared", 0, 4)
    with mock.patch("gneiss.pipelines.run.PATIENCE_SECONDS", 0.0):
        identity = json.loads((tmp_path / "shared" / layout.RUN_FILE).read_text())
        del identity["run_key"], identity["input"], identity["code"]
        with claim(output, identity, share=Share(1, 4)):
            with pytest.raises(OutputError, match="another task 1 is writing here"):
                share(AT_SHARD_SCOPE, corpus, tmp_path / "shared", 1, 4)
            with pytest.raises(OutputError, match="task 1 of 4 of a run is writing here"):
                share(AT_SHARD_SCOPE, corpus, tmp_path / "shared", 1, 5)


def test_new_shards_are_not_laid_out_by_shares(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"output\.shard_bytes"):
        share(AT_SHARD_SCOPE + "\noutput: {shard_bytes: 100000}\n", corpus, tmp_path / "shared", 0, 2)


@pytest.mark.processes
@pytest.mark.parametrize("recipe", [AT_SHARD_SCOPE, AT_CORPUS_SCOPE], ids=["shard", "corpus"])
def test_a_share_that_is_killed_is_made_good_by_running_it_again(
    recipe: str, corpus: Path, expected: Expected, tmp_path: Path, warm: WarmProcesses
) -> None:

    def start(output: Path, task: int, event: int) -> WarmProcess:
        process = warm.Process(target=share_until, args=(event, recipe, corpus, output, task))
        process.start()
        return process

    for event in (1, 9, 23):
        output = tmp_path / f"killed-{event}"
        killed, other = start(output, 0, event), start(output, 1, killing.NEVER)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        for process in (start(output, 0, killing.NEVER), other):
            process.join()
            assert process.exitcode == 0
        assert runs.promised(output) == expected[recipe]


def share_until(event: int, recipe: str, corpus: Path, output: Path, task: int) -> None:
    """A share, in a process that is killed at an event."""
    with killing.killed_at(event), mock.patch.object(job, "LOOK_SECONDS", 0.02):
        share(recipe, corpus, output, task, 2)


def test_metrics_of_who_finishes_the_run_go_on(corpus: Path, tmp_path: Path) -> None:
    with mock.patch.object(summing, "GROUP_SHARDS", 1):
        finished = run_share(
            recipe_of("{name: few, phases: [{name: only, rules: {any_text: text_bytes >= 0}}]}"),
            corpus / "[01].parquet",
            tmp_path / "shared",
            Share(0, 1),
            RunOptions(backend=InThisProcess(), metrics_file=tmp_path / "metrics.prom"),
        )
    assert finished is not None
    lines = (tmp_path / "metrics.prom").read_text().splitlines()
    ended = [line for line in lines if line.startswith("gneiss_tasks_total{")]
    assert [f'stage="{stage}"' in line for stage, line in zip(("curate", "sum"), ended, strict=True)] == [True, True]
