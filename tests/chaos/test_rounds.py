"""Kill and resume in corpus-wide rounds: the whole process at each round, and a worker in each."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gneiss.input.shard import cut_shards
from gneiss.output.ledger import Receipt
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from gneiss.stages.of_recipe import StageWork, stages_after, stages_before
from gneiss.store.place import place_of
from tests import runs
from tests.chaos import killing
from tests.warm_processes import WarmProcesses

pytestmark = pytest.mark.processes

RECIPE = """
name: rounds
budgets: {documents: 0.5}
phases:
  - name: first
    rules: {enough: text_bytes > 20}
  - name: second
    near_duplicates: {verify: 0.8}
    dedup: {min_length: 60, scope: corpus}
    annotate: [readability]
    rules: {readable: eflaw < 14}
"""


@dataclass(frozen=True)
class DeadlyRound:
    """A round whose first task kills its worker once, after its work and before its file has its name."""

    step: StageWork
    marks: Path

    def open(self) -> Callable[[int], Receipt]:
        """Open the round."""
        work = self.step.open()

        def deadly(task: int) -> Receipt:
            mark = self.marks / self.step.name
            if task == 0 and not mark.exists():
                mark.touch()
                with killing.killed_at(1):
                    return work(task)
            return work(task)

        return deadly

    def lost(self, task: int, reason: str) -> Receipt:
        """See StageWork."""
        return self.step.lost(task, reason)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str], list[str]]:
    """Recipe, input, what an uninterrupted run promises, and its events."""
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "rounds.yaml").write_text(RECIPE)
    for seed, name in enumerate(("a", "b")):
        runs.write_corpus(folder / f"input/{name}.parquet", runs.documents(30, seed=seed))
    output, trace = folder / "whole", folder / "trace"
    killing.run_here_until(killing.NEVER, folder / "rounds.yaml", folder / "input", output, trace)
    events = trace.read_text().replace(str(output) + "/", "").splitlines()
    return folder / "rounds.yaml", folder / "input", runs.promised(output), events


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_kill_in_any_round_is_made_good_by_running_again(
    every: int, material: tuple[Path, Path, dict[str, str], list[str]], tmp_path: Path, warm: WarmProcesses
) -> None:
    recipe, source, expected, events = material
    shards = cut_shards(source, text="text").shards
    corpus = Corpus(Recipe.load(recipe), (), shards, place_of(tmp_path))
    stages = [*stages_before(corpus), *stages_after(corpus)]
    names = [part.name for stage in stages for part in stage.parts]
    assert (len(stages), len(names)) == (14, 21)
    numbers = [
        next(i for i, event in enumerate(events, 1) if event.startswith(kind) and f"/exchange/{name}/" in event)
        for name in names
        for kind in ("aside", "renamed")
    ]
    orphans = next(i for i, event in enumerate(events, 1) if event.startswith("renamed") and "orphaned_bytes" in event)
    for number in (*numbers[::every], orphans):
        output = tmp_path / f"killed-{number}"
        process = warm.Process(target=killing.run_here_until, args=(number, recipe, source, output))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, events[number - 1]
        killing.run_here_until(killing.NEVER, recipe, source, output)
        assert runs.promised(output) == expected, events[number - 1]


def test_a_worker_killed_in_each_round_is_replaced(
    material: tuple[Path, Path, dict[str, str], list[str]], tmp_path: Path
) -> None:
    recipe, source, expected, _ = material
    marks = tmp_path / "marks"
    marks.mkdir()

    def deadly(*given: Any) -> DeadlyRound:
        return DeadlyRound(StageWork(*given), marks)

    with mock.patch("gneiss.pipelines.run_stages.StageWork", deadly):
        run(recipe, source, tmp_path / "output", workers=2, backend="local")
    assert len(list(marks.iterdir())) == 14
    assert {
        name: hash_ for name, hash_ in runs.promised(tmp_path / "output").items() if ".part" not in name
    } == expected
