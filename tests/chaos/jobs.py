"""The jobs that chaos strikes, and how one is done in a process of its own, which counts how often a task is begun."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

import gneiss
from gneiss.backends import fields_of
from gneiss.errors import GneissError
from gneiss.extraction.job import extract
from gneiss.jobs.attempt import Attempt, AttemptStep
from gneiss.output import ledger
from gneiss.store.place import Place, place_of
from tests import runs
from tests.chaos import killing, test_rounds
from tests.extraction import archives

#: In the process itself, with two worker processes, or with as many actors as fit.
Where: TypeAlias = Literal["here", "local", "ray"]
SHARDS, CORPUS, SHARES = "shard scope", "corpus scope", "rules by share"
PHASES, EXTRACTION = "three phases", "extraction"
_THREE_PHASES = """
name: three
budgets: {documents: 0.5}
phases:
  - name: unique
    exact_duplicates: {}
  - name: cut
    dedup: {min_length: 80}
    annotate: [readability]
    rules: {readable: eflaw < 30}
  - name: near
    near_duplicates: {}
    rules: {enough: text_bytes > 20}
"""
_NOT_PROMISED = ("_gneiss/ledger/", "_gneiss/run.json", "_gneiss/lock", "_gneiss/logs/", "README.md")


@dataclass(frozen=True)
class Job:
    """A run of a recipe, or without one an extraction."""

    name: str
    input: Place
    recipe: Path | None = None

    def do(self, output: Place, where: Where) -> None:
        """Do it, or what is left of it; in a run, a shard that is given up is an error."""
        settings: dict[str, Any] = {
            "here": {"backend": runs.InThisProcess()},
            "local": {"backend": "local", "workers": 2},
            "ray": {"backend": "ray", "shared_filesystem": True},
        }[where]
        if self.recipe is None:
            extract(self.input, output, extractor="resiliparse", dump="chaos", **settings)
        else:
            gneiss.run(self.recipe, self.input, output, **settings).check_budgets()


def write_jobs(folder: Path) -> dict[str, Job]:
    """The jobs by name, with input of their own."""
    recipes = {SHARDS: killing.RECIPE, CORPUS: test_rounds.RECIPE, SHARES: test_rounds.BY_SHARE, PHASES: _THREE_PHASES}
    runs.train(folder / "tiny.bin")
    (folder / "crawl").mkdir()
    archives.write_crawl(folder / "crawl", archives.documentation_pages())
    jobs = [Job(EXTRACTION, place_of(folder / "crawl"))]
    for name, recipe in recipes.items():
        path = folder / f"{name.replace(' ', '-')}.yaml"
        path.write_text(recipe.replace("name: chaos\n", "name: chaos\nbudgets: {documents: 0.5}\n"))
        corpus = folder / path.stem
        for seed in range(8 if name == SHARDS else 4):
            runs.write_corpus(corpus / f"{seed}.parquet", runs.documents(24, seed=seed), row_group_size=24)
        jobs.append(Job(name, place_of(corpus), path))
    return {job.name: job for job in jobs}


#: The folder that names the workers that are at a task.
AT = "at"


@dataclass(frozen=True)
class CountedStep:
    """A step whose workers leave a byte for each attempt at a task, in a file of its own.

    folder: of these files; its folder `at` has one for each worker that is at a task, named by its process.
    """

    step: AttemptStep[Any]
    folder: Path

    def open(self) -> Callable[[Any], Attempt]:
        """Open the step."""
        work = self.step.open()

        def counted(task: Any) -> Attempt:
            name = "-".join([self.step.stage, *fields_of(task).values()])
            with (self.folder / name.replace("/", "_")).open("ab") as file:
                file.write(b"x")
            at = self.folder / AT / f"{os.getpid()}"
            at.touch()
            try:
                return work(task)
            finally:
                at.unlink()

        return counted

    def lost(self, task: Any, reason: str) -> Attempt:
        """See AttemptStep."""
        return self.step.lost(task, reason)


def drive(job: Job, output: Place, where: Where, attempts: Path, environment: Mapping[str, str]) -> None:
    """Do a job in this process, of which nothing else is expected; a ledger segment for every task."""
    os.environ.update(environment)
    with (
        mock.patch.object(ledger, "SEGMENT_SECONDS", 0.0),
        mock.patch("gneiss.jobs.job.AttemptStep", lambda *given: CountedStep(AttemptStep(*given), attempts)),
    ):
        try:
            job.do(output, where)
        except GneissError as error:
            sys.exit(f"{job.name}: {error}")


def contents(output: Place) -> dict[str, bytes]:
    """The promised files of an output, what killed writers left aside excepted."""
    names = (file.name for file in output.files())
    return {
        name: (output / name).read() for name in names if not name.startswith(_NOT_PROMISED) and ".part" not in name
    }


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Their checksums."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def rows(files: Mapping[str, bytes]) -> Counter[tuple[str, str]]:
    """How often each document is in each folder of an output."""
    found: Counter[tuple[str, str]] = Counter()
    for name, content in files.items():
        if name.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(content))
            ids = table["id"] if "id" in table.column_names else table.column(0)
            found.update((name.split("/")[0], str(document_id)) for document_id in ids.to_pylist())
    return found
