"""Shards whose documents all end where they did come out as a run writes them, and nobody reads their texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gneiss.backends.local import LocalProcesses
from gneiss.curate import curate
from gneiss.input.shard import Shard
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from tests import runs

HERE = runs.InThisProcess()
PHASES = """
name: phases
shard_max_bytes: 14000
budgets: {documents: 0.5}
phases:
  - name: raw
    annotate: [gopher_quality]
    rules: {long: gopher_words > 20}
  - name: cut
    edit: [{c4_lines: {terminal_punctuation: true, min_line_words: 2}}]
    near_duplicates: {scope: shard, bands: 10, rows: 5, shingle_words: 3}
    rules: {first: near_first}
  - name: last
    dedup: {min_length: 60, scope: shard}
    annotate: [readability]
    rules: {readable: eflaw < 14}
"""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The shards whose texts were read by `curate`."""
    shards: set[str] = set()
    read_documents = curate.read_documents

    def noting(shard: Shard, *rest: Any) -> Any:
        shards.add(shard.id)
        return read_documents(shard, *rest)

    monkeypatch.setattr(curate, "read_documents", noting)
    return shards


def with_quarantine(folder: Path) -> set[str]:
    """The shards that have quarantined rows."""
    base = folder / "annotations/base"
    return {
        path.relative_to(base).with_suffix("").as_posix()
        for path in base.rglob("*.parquet")
        if pc.any(pc.equal(pq.read_table(path)["status"], "quarantined")).as_py()
    }


@pytest.mark.parametrize(
    ("changes", "is_read"),
    [
        ({}, False),
        ({"phases.only.rules.good": "prose > 0.5 AND text_chars >= 0"}, False),
        ({"phases.only.rules.short": "text_chars < 10"}, True),
        ({"phases.only.rules.good": "prose > 0.9"}, True),
        ({"phases.only.annotate.fasttext.models.prose.newlines": "join_stripped_lines"}, True),
        ({"output.level": 1}, True),
    ],
    ids=["the same recipe", "another condition", "an example that was not shown", "a threshold", "a model", "a format"],
)
def test_texts_are_read_where_something_of_them_is_needed(
    changes: dict[str, Any],
    is_read: bool,
    material: runs.Material,
    uninterrupted: FinishedRun,
    tmp_path: Path,
    read: set[str],
) -> None:
    recipe = Recipe.load(material.recipe).changed(changes)
    again = decide(recipe, uninterrupted, tmp_path / "again", backend=HERE)
    odd = with_quarantine(Path(str(uninterrupted.folder)))
    assert read > odd if is_read else read == odd
    assert len(odd) < len(uninterrupted.shards)
    expected = run(recipe, material.input, tmp_path / "run", backend=HERE)
    assert runs.promised(again.folder) == runs.promised(expected.folder)


def test_what_is_damaged_is_made_from_texts(
    material: runs.Material, curated: Path, copy_of: Callable[[Path], Path], tmp_path: Path, read: set[str]
) -> None:
    folder = copy_of(curated)
    whole = sorted({shard.id for shard in open_run(folder).shards} - with_quarantine(folder))
    told = folder / f"_gneiss/statistics/{whole[0]}.json"
    text = told.read_text()
    told.unlink()
    told.write_text(text.replace('"excerpt": "', '"excerpt": "x'))
    (folder / f"data/{whole[1]}.parquet").unlink()
    again = decide(material.recipe, folder, tmp_path / "again", backend=HERE)
    assert read == {*whole[:2], *with_quarantine(folder)}
    assert runs.promised(again.folder) == runs.promised(curated)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "is_read"),
    [
        ({"phases.last.rules.readable": "eflaw < 14 AND text_bytes >= 0"}, False),
        ({"phases.raw.rules.long": "gopher_words > 20 AND text_bytes > 9"}, True),
        ({"phases.raw.rules.long": "gopher_words > 60"}, True),
    ],
    ids=["the last phase", "sizes that later edits change", "another way"],
)
def test_phases_that_edit(
    changes: dict[str, Any], is_read: bool, material: runs.Material, tmp_path: Path, read: set[str]
) -> None:
    recipe = Recipe.parse(PHASES)
    first = run(recipe, material.input, tmp_path / "first", backend=HERE)
    read.clear()
    again = decide(recipe.changed(changes), first, tmp_path / "again", backend=HERE)
    odd = with_quarantine(tmp_path / "first")
    assert read > odd if is_read else read == odd
    expected = run(recipe.changed(changes), material.input, tmp_path / "run", backend=HERE)
    assert runs.promised(again.folder) == runs.promised(expected.folder)


def test_no_worker_is_started_for_little(
    material: runs.Material, uninterrupted: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    started: list[int] = []

    def starting(self: LocalProcesses, step: Any, tasks: Any, workers: int, resources: Any) -> Any:
        started.append(workers)
        return HERE.run(step, tasks, workers, resources)

    monkeypatch.setattr(LocalProcesses, "run", starting)
    recipe = Recipe.load(material.recipe).changed({"phases.only.rules.good": "prose > 0.9"})
    decide(recipe, uninterrupted, tmp_path / "here")
    decide(recipe, uninterrupted, tmp_path / "one", workers=1)
    assert not started
    decide(recipe, uninterrupted, tmp_path / "two", workers=2)
    joined = recipe.changed({"phases.only.annotate.fasttext.models.prose.newlines": "join_stripped_lines"})
    decide(joined, uninterrupted, tmp_path / "computed", workers=1)
    assert started == [2, 1]
    assert runs.promised(tmp_path / "here") == runs.promised(tmp_path / "two")
