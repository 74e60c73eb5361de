"""Kill and resume where documents are compared with an index: those of an increment, and those of a run `against`."""

from __future__ import annotations

import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.chaos import killing
from tests.corpus_steps.test_against import found, of_every_kind, write_inputs
from tests.warm_processes import WarmProcesses

pytestmark = pytest.mark.processes

#: What a stage hands on or keeps, the manifest of a step, and what is counted after `curate`.
_OF_STAGE = re.compile(
    r"_gneiss/(?:exchange|index)/(?:\d+/)?([a-z]\w*)/|_gneiss/index/\d+/(\w+\.json)|_gneiss/(\w+-?\d*\.txt)"
)


@dataclass(frozen=True)
class Job:
    """A run that is killed: before it the output is a copy of `before`, if that is given."""

    recipe: Path
    source: Path
    before: Path | None

    def start(self, output: Path) -> Path:
        """The output as it is before the run."""
        if self.before is not None:
            shutil.copytree(self.before, output)
        return output


@pytest.fixture(scope="module", params=["increment", pytest.param("against", marks=pytest.mark.exhaustive)])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """New shards of an output with an index of every kind; or the same shards, against that output."""
    folder = tmp_path_factory.mktemp("job")
    write_inputs(folder, 12)
    found(of_every_kind(), folder / "all/a", folder / "a", keep_index=True)
    is_increment = request.param == "increment"
    own: Recipe = of_every_kind() if is_increment else of_every_kind(against=[str(folder / "a")])
    (folder / "own.yaml").write_text(own.to_yaml())
    for path in (folder / "all/own").iterdir():
        shutil.copy(path, folder / f"all/a/new-{path.name}")
    return Job(
        folder / "own.yaml", folder / ("all/a" if is_increment else "all/own"), folder / "a" if is_increment else None
    )


@pytest.mark.parametrize("every", [31, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_a_kill_in_any_stage_is_made_good_by_running_again(
    every: int, job: Job, tmp_path: Path, warm: WarmProcesses
) -> None:
    """In the first task of each stage: before its file has its name, and after it has."""
    whole = job.start(tmp_path / "whole")
    killing.run_here_until(killing.NEVER, job.recipe, job.source, whole, tmp_path / "trace")
    expected = runs.promised(whole)
    first: dict[tuple[str, str], int] = {}
    events = (tmp_path / "trace").read_text().replace(f"{whole}/", "").splitlines()
    for number, event in enumerate(events, 1):
        kind, _, path = event.partition(" ")
        if stage := _OF_STAGE.search(path):
            first.setdefault((kind, next(filter(None, stage.groups()))), number)
    names = {name for _, name in first}
    assert {f"dedup_{name}" for name in ("keys", "contents", "answers", "cuts", "sources", "orphans")} <= names
    assert {f"near_duplicates_{name}" for name in ("keys", "candidates", "sets", "verified", "clusters")} <= names
    assert {"exact_duplicates_keys", "exact_duplicates_matched"} <= names
    if job.before:
        kept = {"dedup_passages", "exact_duplicates_index", "near_duplicates_kept_sets", "near_duplicates_kept_stars"}
        assert {*kept, "dedup.json", "near_duplicates.json", "orphaned_bytes-001.txt"} <= names

    numbers = sorted(first.values())
    for number in numbers[::every]:
        output = job.start(tmp_path / f"killed-{number}")
        process = warm.Process(target=killing.run_here_until, args=(number, job.recipe, job.source, output))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, events[number - 1]
        killing.run_here_until(killing.NEVER, job.recipe, job.source, output)
        assert runs.promised(output) == expected, events[number - 1]
