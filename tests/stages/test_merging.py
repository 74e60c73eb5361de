"""A run whose exchange is merged: the bytes of one that is not, few requests, and resume wherever it was stopped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import gneiss
from gneiss.output import layout
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from gneiss.stages.exchange import Exchange
from gneiss.stages.grid import Grid, reads
from gneiss.store.place import Place
from tests import runs
from tests.store.counting import CountingStore

PARTITIONS, SHARDS = 12, 9
#: How often a stage is read across, where a receiver's batches fit into memory: by how many stages.
TIMES = {"dedup_repeated": 2, "dedup_contents": 2}


def recipe(unit: str) -> Recipe:
    tokens = {"unit": "tokens", "tokenizer": "builtin:cl100k_base", "min_length": 12}
    dedup = {"scope": "corpus", **(tokens if unit == "tokens" else {"min_length": 60})}
    phases = [
        {"name": "duplicates", "near_duplicates": {}, "rules": {"few": "near_cluster_size < 30"}},
        {"name": "substrings", "dedup": dedup, "rules": {"long": "text_bytes > 50"}},
    ]
    return Recipe.model_validate({"name": "merging", "budgets": {"documents": 0.5}, "phases": phases})


@contextmanager
def merging(partitions: int = PARTITIONS) -> Iterator[None]:
    """Everything is merged for which there is more than one task and receiver, in about four tiles."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=partitions)))
        for name, value in (("WORTH_READS", 1), ("READ_BYTES", 1 << 40), ("TILE_BYTES", 12_000)):
            stack.enter_context(mock.patch(f"gneiss.stages.grid.{name}", value))
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine shards with passages that all share."""
    folder = tmp_path_factory.mktemp("merging")
    for number in range(SHARDS):
        runs.write_corpus(folder / f"{number}.parquet", runs.documents(22, seed=number % 4))
    return folder


def curated(source: Path, output: Place, unit: str = "bytes") -> None:
    gneiss.run(recipe(unit), source, output, backend=runs.InThisProcess())


def promised(output: Place) -> dict[str, bytes]:
    """The files of a run that are the same bytes whatever happened."""
    names = (file.name for file in output.files())
    return {
        name: (output / name).read()
        for name in sorted(names)
        if not name.startswith(("_gneiss/ledger", "_gneiss/lock", "_gneiss/logs", "_gneiss/run.json"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["tokens", pytest.param("bytes", marks=pytest.mark.exhaustive)])
def test_a_merged_exchange_changes_no_byte_and_takes_as_many_reads_as_planned(source: Path, unit: str) -> None:
    plain, store = Place(CountingStore(), "plain"), CountingStore()
    curated(source, plain, unit)
    grids: dict[str, Grid] = {}
    sizes: dict[str, int] = {}
    write_grid = Exchange.write_grid

    def noted(exchange: Exchange, stage: str, grid: Grid) -> None:
        grids[stage], sizes[stage] = grid, exchange.size_bytes(stage)
        write_grid(exchange, stage, grid)

    with merging(), mock.patch.object(Exchange, "write_grid", noted):
        curated(source, Place(store, "merged"), unit)
        merged = {"near_duplicates_keys", *(f"dedup_{stage}" for stage in ("keys", "repeated", "contents", "answers"))}
        assert merged <= grids.keys()
        assert max(grid.tiles for grid in grids.values()) >= 4
        asked = Counter[str]()
        for operation, path, _ in store.asked:
            match = re.fullmatch(r"merged/_gneiss/exchange/(\w+)(?:\.tiles)?/\d+\.arrows", path)
            if match and match[1] in grids and operation in ("open", "range"):
                asked[match[1]] += 1
        for stage, grid in grids.items():
            planned = reads(grid.tasks, grid.receivers, sizes[stage], TIMES.get(stage, 1))
            # read task by task too, by the stage of each
            planned += grid.tasks if stage == "dedup_wanted" else 0
            assert 0 < asked[stage] <= 2 * planned, stage
    assert promised(Place(store, "merged")) == promised(plain)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_run_that_is_stopped_while_it_merges_goes_on(source: Path) -> None:
    plain = Place(CountingStore(), "plain")
    curated(source, plain)
    expected = promised(plain)
    whole = CountingStore()
    with merging():
        curated(source, Place(whole, "out"))
    kinds = (r"put .*/dedup_keys\.tiles/grid", r"put .*/dedup_contents\.tiles/", r"delete .*/dedup_repeated$")
    events = [f"{operation} {path}" for operation, path, _ in whole.asked]
    for kind in kinds:
        (at, *more) = (number for number, event in enumerate(events) if re.search(kind, event))
        for number in (at, *more[-1:]):
            store = CountingStore(asked=StopsAt(number))
            with merging(), pytest.raises(KeyboardInterrupt):
                curated(source, Place(store, "out"))
            store.asked.clear()
            with merging():
                curated(source, Place(store, "out"))
            assert promised(Place(store, "out")) == expected, (kind, number)
            assert len(store.asked) < len(whole.asked), "what was done is done again"


class StopsAt(list[Any]):
    """A list that is full once, as if the driver were stopped there."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def append(self, entry: Any) -> None:
        if len(self) == self.most:
            self.most = 1 << 60
            raise KeyboardInterrupt
        super().append(entry)


@pytest.mark.slow
def test_the_files_of_tasks_go_when_they_are_merged_but_for_those_that_are_read_by_task(source: Path) -> None:
    store = CountingStore()
    with merging(), mock.patch("gneiss.stages.exchange.Exchange.clear"):
        curated(source, Place(store, "out"))
    stages = Counter(path.removeprefix(f"out/{layout.EXCHANGE}/").partition("/")[0] for path in store.content)
    assert stages["dedup_keys.tiles"] > 1
    assert "dedup_keys" not in stages
    assert stages["dedup_wanted"] == PARTITIONS
    assert stages["dedup_wanted.tiles"] > 1
    assert stages["dedup_cuts"] == SHARDS
