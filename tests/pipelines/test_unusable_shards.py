"""A shard that cannot be written is nobody's first copy, whenever that is found, and leaves no file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.input import formats
from gneiss.input.formats.format import Part
from gneiss.input.formats.parquet import Parquet
from gneiss.output import ledger
from gneiss.output.commit import commit
from gneiss.output.finished_run import FinishedRun
from gneiss.output.parquet import write_new, write_parquet
from gneiss.pipelines import run as pipeline
from gneiss.recipe.recipe import Recipe
from gneiss.stages import checking
from gneiss.stages.curating import CurateStep
from gneiss.store.place import Place
from tests import runs

STEPS = {
    "exact_duplicates": "exact_duplicates: {}, rules: {first: exact_first}",
    "near_duplicates": "near_duplicates: {}, rules: {first: near_first}",
    "dedup": "dedup: {min_length: 40, scope: corpus}, rules: {kept: text_bytes > 0}",
    "group": "dedup: {min_length: 40, scope: group, group_by: ^}, rules: {kept: text_bytes > 0}",
    "later": "rules: {kept: text_bytes > 0}}\n- {name: second, exact_duplicates: {}, rules: {first: exact_first}",
}


def recipe(step: str, shards: int) -> Recipe:
    budgets = f"budgets: {{documents: 1, shards: {shards}}}"
    return Recipe.parse(f"name: test\n{budgets}\nphases:\n- {{name: first, {STEPS[step]}}}\n")


def damage(path: Path, column: int) -> None:
    """Destroy the pages of a column in the last row group; the footer stays."""
    chunk = pq.read_metadata(path).row_group(pq.read_metadata(path).num_row_groups - 1).column(column)
    content = bytearray(path.read_bytes())
    start, end = chunk.dictionary_page_offset, chunk.dictionary_page_offset + chunk.total_compressed_size
    content[start:end] = b"\0" * (end - start)
    path.write_bytes(content)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files with the same texts, of which the first is to be unusable, and a fourth."""
    for name, seed in {"a": 0, "b": 0, "c": 0, "d": 3}.items():
        runs.write_corpus(tmp_path / f"in/{name}.parquet", runs.documents(40, seed=seed))
    return tmp_path / "in"


def curated(step: str, source: Path, output: Path, shards: int = 4) -> FinishedRun:
    return pipeline.run(recipe(step, shards), source, output, backend=runs.InThisProcess())


def of_usable(step: str, corpus: Path, folder: Path) -> FinishedRun:
    """The same run on the files but for the first."""
    (corpus / "a.parquet").rename(folder / "a.parquet")
    done = curated(step, corpus, folder / "oracle")
    (folder / "a.parquet").rename(corpus / "a.parquet")
    return done


def assert_decided_as_without(found: FinishedRun, oracle: FinishedRun) -> None:
    assert set(found.quarantined_shards) == {"a"}
    for read in (runs.annotations, runs.data):
        assert read(found.folder).equals(read(oracle.folder))
    assert found.statistics.to_json() == oracle.statistics.to_json()
    assert runs.data(found.folder).num_rows > 0
    assert not [name for name in runs.files(found.folder) if Path(name).stem == "a"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("column", [2, 3])
@pytest.mark.slow
def test_a_shard_with_a_damaged_page_in_another_column_is_no_first_copy(
    step: str, column: int, corpus: Path, tmp_path: Path
) -> None:
    damage(corpus / "a.parquet", column)
    oracle = of_usable(step, corpus, tmp_path)
    assert_decided_as_without(curated(step, corpus, tmp_path / "out"), oracle)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.slow
def test_a_shard_that_fails_when_it_is_decided_is_no_first_copy(step: str, corpus: Path, tmp_path: Path) -> None:
    """Which the check cannot foresee: the others are decided again."""

    def failing(curated: Any, *rest: Any) -> Any:
        receipt = commit(curated, *rest)
        if curated.shard.id == "a":
            raise InputError("broken")
        return receipt

    oracle = of_usable(step, corpus, tmp_path)
    with mock.patch("gneiss.output.commit.commit", failing):
        assert_decided_as_without(curated(step, corpus, tmp_path / "out"), oracle)
        before = runs.touched(tmp_path / "out")
    again = curated(step, corpus, tmp_path / "out")
    assert_decided_as_without(again, oracle)
    assert runs.touched(tmp_path / "out") == before, "what is unusable once is not taken in afterwards"


@pytest.mark.parametrize("step", ["exact_duplicates", "dedup"])
@pytest.mark.parametrize("at", ["check", "stages", "decided again"])
@pytest.mark.slow
def test_a_run_that_ended_in_between_is_taken_up(step: str, at: str, corpus: Path, tmp_path: Path) -> None:
    damage(corpus / "a.parquet", 2)
    oracle = of_usable(step, corpus, tmp_path)
    if at == "check":
        interrupted = mock.patch.object(checking.CheckStep, "open", side_effect=KeyboardInterrupt)
    elif at == "stages":
        interrupted = mock.patch.object(CurateStep, "open", side_effect=KeyboardInterrupt)
    else:  # the check finds nothing, and the run ends before it has noted what it found itself
        interrupted = mock.patch.object(ledger, "append", side_effect=KeyboardInterrupt)
    check = mock.patch.object(checking, "_check", seen if at == "decided again" else checking._check)
    with interrupted, check, pytest.raises(KeyboardInterrupt):
        curated(step, corpus, tmp_path / "out")
    assert_decided_as_without(curated(step, corpus, tmp_path / "out"), oracle)


def seen(shard: Any) -> ledger.Receipt:
    return replace(checking.CheckStep().lost(shard, ""), state=ledger.COMMITTED, reason=None)


@pytest.mark.parametrize("step", ["near_duplicates", "dedup"])
@pytest.mark.parametrize("when", ["check", "commit"])
@pytest.mark.slow
def test_past_the_budget_the_same_command_tries_again(step: str, when: str, corpus: Path, tmp_path: Path) -> None:
    """And decides all of it anew if the shard is usable then."""

    def failing(*given: Any) -> Any:
        if (given[0] if when == "check" else given[0].shard).id == "a":
            raise InputError("broken for now")
        return work(*given)

    work = checking._check if when == "check" else commit
    expected = curated(step, corpus, tmp_path / "whole", 0)
    module = "gneiss.stages.checking._check" if when == "check" else "gneiss.output.commit.commit"
    with mock.patch(module, failing):
        for _ in range(2):
            assert set(curated(step, corpus, tmp_path / "out", 0).quarantined_shards) == {"a"}
    curated(step, corpus, tmp_path / "out", 0)
    assert runs.promised(tmp_path / "out") == runs.promised(tmp_path / "whole")
    assert not expected.quarantined_shards


@pytest.mark.slow
def test_no_usable_shard_is_a_run_without_documents(corpus: Path, tmp_path: Path) -> None:
    for path in corpus.glob("*.parquet"):
        damage(path, 2)
    for step in STEPS:
        done = curated(step, corpus, tmp_path / step)
        assert set(done.quarantined_shards) == {"a", "b", "c", "d"}
        assert done.statistics.counts["rows"] == 0
    for path in corpus.glob("*.parquet"):
        path.write_bytes(b"no Parquet")
    for step in STEPS:
        assert set(curated(step, corpus, tmp_path / f"{step} again").quarantined_shards) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("file", ["data/a.parquet", "quarantine/a.parquet", "_gneiss/statistics/a.json"])
def test_a_quarantined_shard_leaves_no_file(file: str, corpus: Path, tmp_path: Path) -> None:
    def failing(write: Any, *given: Any, **named: Any) -> Any:
        written = write(*given, **named)
        if file in given:
            raise InputError("broken")
        return written

    recipe = Recipe.parse(runs.WITHOUT_MODEL.replace("phases:", "budgets: {documents: 1}\nphases:"))
    with (
        mock.patch("gneiss.output.commit.write_parquet", partial(failing, write_parquet)),
        mock.patch("gneiss.output.data_files.write_parquet", partial(failing, write_parquet)),
        mock.patch("gneiss.output.commit.write_new", partial(failing, write_new)),
    ):
        done = pipeline.run(recipe, corpus, tmp_path / "out", backend=runs.InThisProcess())
    assert set(done.quarantined_shards) == {"a"}
    assert not [name for name in runs.files(tmp_path / "out") if Path(name).stem == "a"]
    assert {path.name for path in (tmp_path / "out/data").iterdir()} == {"b.parquet", "c.parquet", "d.parquet"}


@dataclass(frozen=True)
class Deadly(Parquet):
    """Parquet files that end the process which reads them, as a fault of a library does."""

    suffixes = (".deadly",)

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        os.abort()
        yield from super().tables(file, part, columns)


@pytest.mark.processes
def test_a_shard_that_ends_its_worker_is_no_first_copy(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = of_usable("exact_duplicates", corpus, tmp_path)
    (corpus / "a.parquet").rename(corpus / "a.deadly")
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, Deadly()))
    found = pipeline.run(recipe("exact_duplicates", 4), corpus, tmp_path / "out", workers=2, backend="local")
    assert_decided_as_without(found, oracle)
