"""Small shards that are curated together leave the files that each leaves by itself, whatever is wrong with one."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gneiss.annotation import Annotator, Column, Values
from gneiss.backends import Done, Step, Task
from gneiss.backends.resources import Resources
from gneiss.batch import TextBatch
from gneiss.curate import reading
from gneiss.curate.curate import Curated
from gneiss.errors import StoreError
from gneiss.input.shard import Shard
from gneiss.jobs.bundle import MOST_BYTES, SMALL_BYTES, Bundle, bundled, each
from gneiss.output import commit
from gneiss.output.finished_run import FinishedRun
from gneiss.output.ledger import Receipt
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.store.at_once import AT_ONCE
from gneiss.store.local import LocalStore
from tests import runs

pytestmark = pytest.mark.slow
RECIPE = """
name: bundles
budgets: {documents: 1, shards: 9}
phases:
  - name: first
    edit: [{c4_lines: {}}]
    annotate: ["tests.pipelines.test_bundles:Vowels"]
    rules: {voiced: vowels > 20, a_letter: first <> 'L'}
  - name: second
    dedup: {min_length: 40}
    exact_duplicates: {scope: shard}
    rules: {enough: text_bytes > 60, own: dedup_fraction < 0.9}
    keep: enough OR own
"""


@dataclass(frozen=True)
class Vowels(Annotator):
    """How many there are; some texts it cannot count."""

    columns = (Column("vowels", "int64", "vowels"), Column("first", "string", "the first letter"))

    def compute(self, batch: TextBatch) -> dict[str, Values]:
        texts = batch.texts()
        if any("日本語" in text for text in texts):
            raise ValueError("no vowels")
        return {"vowels": [sum(map(text.count, "aeiou")) for text in texts], "first": [text[:1] for text in texts]}


@dataclass(frozen=True)
class Seen(runs.InThisProcess):
    """Notes its tasks; loses: how many bundles its worker dies of."""

    tasks: list[object] = field(default_factory=list)
    loses: int = 0

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """See Backend."""
        work = step.open()
        for task in tasks:
            self.tasks.append(task)
            is_lost = isinstance(task, Bundle) and len(self.bundles) <= self.loses
            yield step.lost(task, "its worker died") if is_lost else work(task)

    @property
    def bundles(self) -> list[int]:
        """How many shards each has."""
        return [len(task.tasks) for task in self.tasks if isinstance(task, Bundle)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An input of 12 small files, with every kind of trouble."""
    folder = tmp_path_factory.mktemp("bundles") / "input"
    for number in range(7):
        runs.write_corpus(folder / f"{number}.parquet", runs.documents(24, seed=number)[: 8 + 2 * number])
    runs.write_corpus(folder / "empty.parquet", [])
    runs.write_corpus(folder / "null.parquet", [None, None])
    lines = [json.dumps({"text": f"Line {n} of a file. " * n, "id": n}) for n in range(9)]
    (folder / "lines.jsonl").write_text("\n".join([*lines, '{"text": "half', *lines]))
    (folder / "none.jsonl").touch()
    damaged = runs.write_corpus(folder / "some/damaged.parquet", [b"A text that cannot be read."] * 9)
    content = bytearray(damaged.read_bytes())
    content[4:60] = bytes(56)
    damaged.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The run in which each shard is curated by itself."""
    seen = Seen()
    with mock.patch("gneiss.jobs.bundle.MOST_TASKS", 1):
        done = run(Recipe.parse(RECIPE), source, tmp_path_factory.mktemp("alone") / "output", backend=seen)
    assert seen.bundles == []
    assert done.quarantined_shards.keys() == {"some/damaged"}
    assert all(done.counts[fate] for fate in ("kept", "dropped", "quarantined"))
    return done


@pytest.mark.parametrize(("workers_share", "together"), [(1, 32), (1, 5), (3, 32)])
def test_bundles_of_any_size_change_no_byte(
    workers_share: int, together: int, source: Path, alone: FinishedRun, tmp_path: Path
) -> None:
    seen = Seen()
    with (
        mock.patch("gneiss.jobs.bundle._A_WORKER", workers_share),
        mock.patch("gneiss.stages.curating._TOGETHER", together),
    ):
        done = run(Recipe.parse(RECIPE), source, tmp_path / "output", backend=seen)
    assert len(each(seen.tasks)) == 12
    assert seen.bundles
    assert runs.promised(done.folder) == runs.promised(alone.folder)
    assert done.quarantined_shards == alone.quarantined_shards


def test_as_many_shards_are_written_at_once_as_suit_the_store(source: Path, alone: FinishedRun, tmp_path: Path) -> None:
    committed, threads = commit.commit, set[int]()

    def noted(*arguments: Any) -> Receipt:
        threads.add(threading.get_ident())
        return committed(*arguments)

    with (
        mock.patch("gneiss.jobs.bundle._A_WORKER", 1),
        mock.patch("gneiss.jobs.bundle._A_WORKER_AT_LAST", 1),
        mock.patch("gneiss.output.commit.commit", noted),
        mock.patch.object(LocalStore, "files_at_once", 1),
    ):
        done = run(Recipe.parse(RECIPE), source, tmp_path / "output", backend=Seen())
    assert len(threads) == 1
    assert runs.promised(done.folder) == runs.promised(alone.folder)


def test_of_larger_files_in_a_network_one_is_read_and_one_written_at_a_time(
    source: Path, alone: FinishedRun, tmp_path: Path
) -> None:
    read, committed, held, most = reading.read_documents, commit.commit, set[str](), list[int]()

    def held_now(shard: Shard, *arguments: Any) -> reading.Documents:
        documents = read(shard, *arguments)
        held.add(shard.id)
        most.append(len(held))
        return documents

    def let_go(curated: Curated, *arguments: Any) -> Receipt:
        receipt = committed(curated, *arguments)
        held.discard(curated.shard.id)
        return receipt

    seen = Seen()
    with (
        mock.patch("gneiss.jobs.bundle._A_WORKER", 1),
        mock.patch.object(LocalStore, "files_at_once", AT_ONCE),
        mock.patch("gneiss.jobs.bundle.SMALL_BYTES", 0),
        mock.patch("gneiss.pipelines.curation.SMALL_BYTES", 0),
        mock.patch("gneiss.stages.curating._SMALL_BYTES", 0),
        mock.patch("gneiss.curate.reading.read_documents", held_now),
        mock.patch("gneiss.output.commit.commit", let_go),
    ):
        done = run(Recipe.parse(RECIPE), source, tmp_path / "output", backend=seen)
    assert seen.bundles[0] == 6
    assert max(most) <= 3
    assert runs.promised(done.folder) == runs.promised(alone.folder)
    assert done.quarantined_shards == alone.quarantined_shards


def test_of_a_bundle_that_kills_workers_each_shard_is_done_by_itself(
    source: Path, alone: FinishedRun, tmp_path: Path
) -> None:
    seen = Seen(loses=2)
    done = run(Recipe.parse(RECIPE), source, tmp_path / "output", backend=seen)
    assert seen.bundles == [3, 3, 3]
    assert len(seen.tasks) == 3 + 3 + 3 + 3  # at last those of bundles that were lost
    assert runs.promised(done.folder) == runs.promised(alone.folder)


def test_where_a_bundle_fails_only_the_shard_at_fault_does(source: Path, alone: FinishedRun, tmp_path: Path) -> None:
    committed = commit.commit

    def failing(curated: Curated, *arguments: Any) -> Receipt:
        if curated.shard.id == "3":
            raise ValueError("of this shard")
        return committed(curated, *arguments)

    with mock.patch("gneiss.output.commit.commit", failing):
        done = run(Recipe.parse(RECIPE), source, tmp_path / "output", backend=Seen())
    assert done.quarantined_shards == {**alone.quarantined_shards, "3": "ValueError: of this shard"}
    there = [name for name in runs.promised(done.folder) if name.startswith("annotations")]
    assert there == [
        name for name in runs.promised(alone.folder) if name.startswith("annotations") and "/3." not in name
    ]


def test_a_store_that_fails_ends_the_run(source: Path, tmp_path: Path) -> None:
    with mock.patch("gneiss.output.commit.commit", side_effect=StoreError("away")) as asked, pytest.raises(StoreError):
        run(Recipe.parse(RECIPE), source, tmp_path / "output", backend=Seen())
    assert asked.call_count <= 3  # of one bundle, and no shard is tried again


def test_shards_that_see_each_other_are_not_bundled(source: Path, tmp_path: Path) -> None:
    seen = Seen()
    recipe = RECIPE.replace("exact_duplicates: {scope: shard}", "exact_duplicates: {scope: corpus}")
    run(Recipe.parse(recipe), source, tmp_path / "output", backend=seen)
    assert seen.bundles == []


def test_many_empty_files_are_shards_without_rows(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    for number in range(40):
        (tmp_path / f"input/{number}.jsonl").touch()
    runs.write_corpus(tmp_path / "input/one.parquet", ["A document. " * 9])
    done = run(Recipe.parse(RECIPE), tmp_path / "input", tmp_path / "output", backend=Seen())
    assert (done.counts["rows"], len(done.shards), done.quarantined_shards) == (1, 41, {})


def sizes(*given: float, workers: int = 1, ahead: float = MOST_BYTES) -> list[int]:
    """How many tasks each bundle has, where a worker gets one at least, and at last no more."""
    with mock.patch("gneiss.jobs.bundle._A_WORKER", 1), mock.patch("gneiss.jobs.bundle._A_WORKER_AT_LAST", 1):
        return [len(each([task])) for task in bundled(given, float, workers, ahead)]


def test_large_tasks_are_in_no_bundle() -> None:
    assert sizes(1, 1, 1, MOST_BYTES, 1, math.inf, 1, 1) == [3, 1, 1, 1, 2]
    assert sizes(*[1] * 600) == [256, 256, 88]
    assert sizes(1, 1, 1, workers=2) == [1, 1, 1]
    assert sizes() == []


def test_larger_tasks_are_in_bundles_of_their_own_where_they_wait_for_a_network() -> None:
    large = 2 * SMALL_BYTES
    assert sizes(1, 1, large, large, math.inf, large, 1, SMALL_BYTES, ahead=10 * MOST_BYTES) == [2, 2, 1, 1, 2]
    assert sizes(*[MOST_BYTES] * 25, ahead=10 * MOST_BYTES) == [10, 10, 5]
    assert sizes(*[MOST_BYTES / 20] * 25, ahead=10 * MOST_BYTES) == [20, 5]


def test_the_last_bundles_are_the_shortest() -> None:
    found = [len(each([task])) for task in bundled([1] * 24, float, 2)]
    assert found == [3, 3, 3, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1]
