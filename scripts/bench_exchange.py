"""What the exchange of a run at corpus scope takes: reads, bytes a read, dollars; counted in a small run, and planned.

    python scripts/bench_exchange.py --corpus DIR [--megabytes 40] [--shards 24] [--partitions 8] [--get 0.4] [--put 5]

DIR holds Parquet files with a column `text`. A recipe with exact and near-duplicates and dedup of 200 bytes, all at
corpus scope, runs on them in this process over a store that counts what is asked of it: once as it is, once with
nothing held in memory between two looks at a partition, and once with everything merged. The first table compares the
reads that were counted with those that `gneiss.stages.grid.reads` plans for files of that size. The second has the
same plan at 1, 10 and 100 TB: tasks and receivers are what the steps' own `stages` say of shards of 256 MB, bytes are
those of the small run for each byte of text. `--get` and `--put` are dollars for a million requests (S3 Standard's list
price in most regions, 2025).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from bench_filters import read_corpus

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gneiss
from gneiss.corpus_steps import Stage
from gneiss.recipe.recipe import Recipe
from gneiss.stages import exchange, grid
from gneiss.stages.corpus import Corpus
from gneiss.store.place import Place
from tests.runs import InThisProcess
from tests.store.counting import CountingStore

RECIPE = {
    "name": "bench-exchange",
    "input": {"id": None},
    "phases": [
        {
            "name": "only",
            "exact_duplicates": {},
            "near_duplicates": {},
            "dedup": {"min_length": 200, "scope": "corpus"},
            "rules": {"long": "text_bytes > 50"},
        }
    ],
}
SHARD_BYTES = 256_000_000
#: What an object store takes in one request at most; a larger file is put in parts.
PART_BYTES = 1 << 24


@dataclass(frozen=True)
class Measured:
    """What a stage left, in all: bytes, and how often it was read, in reads of a batch or a tile."""

    stage: Stage
    size_bytes: int
    reads: int


@dataclass(frozen=True)
class ShardOf:
    """A shard of a large corpus."""

    rows: int
    id: str = "shard"
    text_bytes: int = SHARD_BYTES


@dataclass(frozen=True)
class CorpusOf:
    """A corpus as the steps' `stages` see it."""

    shards: Sequence[Any]
    partitions: int | None = None


def main() -> None:
    """Run, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with a column text")
    parser.add_argument("--megabytes", type=int, default=40, help="of text")
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--get", type=float, default=0.40, help="dollars for a million reads")
    parser.add_argument("--put", type=float, default=5.00, help="dollars for a million writes and lists")
    given = parser.parse_args()
    recipe = Recipe.model_validate(RECIPE)
    with tempfile.TemporaryDirectory() as folder:
        texts = read_corpus(given.corpus, given.megabytes * 1_000_000).to_arrow()
        size = pa.compute.sum(pa.compute.binary_length(texts)).as_py()
        step = -(-len(texts) // given.shards)
        for number in range(given.shards):
            pq.write_table(pa.table({"text": texts.slice(number * step, step)}), f"{folder}/{number:03d}.parquet")
        small = CorpusOf([ShardOf(step, text_bytes=size // given.shards)] * given.shards, given.partitions)
        run = partial(measured, recipe, folder, small)
        plain, seconds = run()
        with mock.patch.object(exchange, "HELD_BYTES", -1):
            unheld, _ = run()
        with merged(sum(measured.size_bytes for measured in plain.values()) // len(plain) // 9):
            tiled, merging_seconds = run()
            print(
                f"{size / 1e6:.0f} MB of text, {given.shards} shards, {given.partitions} partitions; CPU seconds of the"
            )
            print(f"run {seconds:.1f}, merged {merging_seconds:.1f}\n")
            counted(plain, tiled)
    for terabytes in (1, 10, 100):
        shards = int(terabytes * 1e12) // SHARD_BYTES
        rows = SHARD_BYTES * len(texts) // size
        large = CorpusOf([ShardOf(rows)] * shards)
        planned(terabytes, stages_of(recipe, large), plain, unheld, size, given.get, given.put)


def stages_of(recipe: Recipe, corpus: Any) -> dict[str, Stage]:
    """The stages of all steps, by name."""
    steps = [step for phase in recipe.phases for step in phase.steps]
    return {
        f"{step.key}_{stage.name}": stage
        for step in steps
        for stage in (*step.stages(corpus), *step.stages_after(corpus))
    }


def measured(recipe: Recipe, folder: str, small: CorpusOf) -> tuple[dict[str, Measured], float]:
    """What each stage left that is read across, and the CPU seconds of the run."""
    store, sizes = CountingStore(), Counter[str]()
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=small.partitions)):
        started = time.process_time()
        gneiss.run(recipe, folder, Place(store, "out"), backend=InThisProcess())
        seconds = time.process_time() - started
    opened = Counter[str]()
    for operation, path, size in store.asked:
        if found := re.fullmatch(r"out/_gneiss/exchange/([\w]+?)(\.tiles)?/\d+\.arrows", path):
            opened[found[1]] += operation == "open"
            sizes[found[1]] += size if operation == "put" and not found[2] else 0
    stages = {name: stage for name, stage in stages_of(recipe, small).items() if stage.receivers}
    for name, stage in stages.items():
        opened[name] -= stage.tasks if stage.is_read_by_task else 0
    return {name: Measured(stage, sizes[name], opened[name]) for name, stage in stages.items()}, seconds


@contextmanager
def merged(tile_bytes: int) -> Iterator[None]:
    """Merge whatever saves a read."""
    with mock.patch.multiple(grid, WORTH_READS=1, READ_BYTES=1 << 60, TILE_BYTES=tile_bytes):
        yield


def counted(plain: dict[str, Measured], tiled: dict[str, Measured]) -> None:
    """Print reads as they were counted beside those planned."""
    print("| stage | tasks | receivers | bytes | times | reads | merged: counted | planned |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, measured in plain.items():
        stage, times = measured.stage, times_of(measured)
        assert stage.receivers is not None
        plan = grid.reads(stage.tasks, stage.receivers, tiled[name].size_bytes, times)
        row = (name, stage.tasks, stage.receivers, measured.size_bytes, times, measured.reads, tiled[name].reads, plan)
        print(f"| {' | '.join(map(str, row))} |")
    print(f"\nin all: {sum(its.reads for its in plain.values())}, merged {sum(its.reads for its in tiled.values())}")


def times_of(measured: Measured) -> int:
    """How often each receiver reads its batches."""
    assert measured.stage.receivers is not None
    return -(-measured.reads // (measured.stage.tasks * measured.stage.receivers))


def planned(
    terabytes: int,
    stages: dict[str, Stage],
    held: dict[str, Measured],
    unheld: dict[str, Measured],
    size: int,
    get: float,
    put: float,
) -> None:
    """Print the plan of a large corpus, stage by stage."""
    print(f"\n{terabytes} TB, {stages['dedup_keys'].tasks:,} shards\n")
    print("| stage | tasks | receivers | GB | kB a batch | tiles | times | reads | kB a read | unmerged reads |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    all_reads = before = all_bytes = puts = 0
    for name, measured in held.items():
        stage = stages[name]
        assert stage.receivers is not None
        batches = stage.tasks * stage.receivers
        size_bytes = int(measured.size_bytes / size * terabytes * 1e12) + 4 * batches
        fits = size_bytes // stage.receivers <= exchange.HELD_BYTES
        times = times_of(measured if fits else unheld[name])
        found = grid.grid_for(stage.tasks, stage.receivers, size_bytes)
        reads = grid.reads(stage.tasks, stage.receivers, size_bytes, times)
        moved = size_bytes * (times + (found is not None))
        row = (
            name, f"{stage.tasks:,}", f"{stage.receivers:,}", f"{size_bytes / 1e9:,.0f}",
            f"{size_bytes / batches / 1e3:,.1f}", f"{found.tiles:,}" if found else "–", times, f"{reads:,}",
            f"{moved / reads / 1e3:,.0f}", f"{batches * times:,}",
        )  # fmt: skip
        print(f"| {' | '.join(map(str, row))} |")
        all_reads, before, all_bytes = all_reads + reads, before + batches * times, all_bytes + size_bytes
        puts += stage.tasks + (found.tiles if found else 0) + size_bytes * (1 + (found is not None)) // PART_BYTES
    dollars, dollars_before = (2 * reads * get / 1e6 + puts * put / 1e6 for reads in (all_reads, before))
    print(f"\nin all: {all_bytes / 1e12:.1f} TB, {2 * all_reads:,} requests for {all_reads:,} reads, {puts:,} puts:")
    print(f"{dollars:,.0f} dollars; unmerged {2 * before:,} requests, {dollars_before:,.0f} dollars")


if __name__ == "__main__":
    main()
