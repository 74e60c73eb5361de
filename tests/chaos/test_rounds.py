"""Kill and resume in corpus-wide rounds: the whole process at each round, and a worker in each."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
BY_SHARE = """
name: by-share
shard_max_bytes: 6000
budgets: {documents: 0.5}
phases:
  - name: first
    annotate: [tokens]
    rules: {even: {highest: 0.7, score: tokens_per_byte}, long: {highest: 0.9, score: text_bytes}}
    keep: even OR long
  - name: second
    exact_duplicates: {}
    annotate: [readability]
    rules: {readable: {lowest: 0.6, score: eflaw}}
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


@contextmanager
def deadly_rounds(marks: Path) -> Iterator[None]:
    """The first task of each round of a run kills its worker once; each leaves a file in a new folder."""
    marks.mkdir()
    with mock.patch("gneiss.pipelines.run_stages.StageWork", lambda *given: DeadlyRound(StageWork(*given), marks)):
        yield


def promised(output: Path) -> dict[str, str]:
    """What a run promises, without what killed writers left aside."""
    return {name: hash_ for name, hash_ in runs.promised(output).items() if ".part" not in name}


@dataclass(frozen=True)
class Material:
    """A recipe with stages, an input, what an uninterrupted run promises, and its events.

    stages: how many there are; parts: how many files a task of each leaves, together; last: files written after them.
    """

    recipe: Path
    source: Path
    promised: dict[str, str]
    events: list[str]
    stages: int
    parts: int
    last: tuple[str, ...]

    def number(self, kind: str, path: str) -> int:
        """The number of the first event of a kind at a file of this path."""
        return next(i for i, event in enumerate(self.events, 1) if event.startswith(kind) and path in event)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((RECIPE, 14, 21, ("orphaned_bytes",)), id="rounds"),
        pytest.param((BY_SHARE, 7, 10, ("_gneiss/recipe.yaml", "_gneiss/statistics.json")), id="by-share"),
    ],
)
def material(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Of a recipe with corpus-wide steps, and of one with rules by share before and after such a step."""
    recipe, *counts = request.param
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "rounds.yaml").write_text(recipe)
    for seed, name in enumerate(("a", "b")):
        runs.write_corpus(folder / f"input/{name}.parquet", runs.documents(30, seed=seed))
    output, trace = folder / "whole", folder / "trace"
    killing.run_here_until(killing.NEVER, folder / "rounds.yaml", folder / "input", output, trace)
    events = trace.read_text().replace(str(output) + "/", "").splitlines()
    return Material(folder / "rounds.yaml", folder / "input", runs.promised(output), events, *counts)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_kill_in_any_round_is_made_good_by_running_again(
    every: int, material: Material, tmp_path: Path, warm: WarmProcesses
) -> None:
    shards = cut_shards(material.source, text="text").shards
    corpus = Corpus(Recipe.load(material.recipe), (), shards, place_of(tmp_path))
    stages = [*stages_before(corpus), *stages_after(corpus)]
    names = [part.name for stage in stages for part in stage.parts]
    assert (len(stages), len(names)) == (material.stages, material.parts)
    numbers = [material.number(kind, f"/exchange/{name}/") for name in names for kind in ("aside", "renamed")]
    for number in (*numbers[::every], *(material.number("renamed", path) for path in material.last)):
        output = tmp_path / f"killed-{number}"
        given = (material.recipe, material.source, output)
        process = warm.Process(target=killing.run_here_until, args=(number, *given))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, material.events[number - 1]
        killing.run_here_until(killing.NEVER, *given)
        assert runs.promised(output) == material.promised, material.events[number - 1]


def test_a_worker_killed_in_each_round_is_replaced(material: Material, tmp_path: Path) -> None:
    with deadly_rounds(tmp_path / "marks"):
        run(material.recipe, material.source, tmp_path / "output", workers=2, backend="local")
    assert len(list((tmp_path / "marks").iterdir())) == material.stages
    assert promised(tmp_path / "output") == material.promised
