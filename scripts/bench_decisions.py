"""Benchmark: sweeps and changed thresholds over synthetic annotations, and `decide` against `run` on the same input.

    python scripts/bench_decisions.py --documents 10000000 --settings 100
    python scripts/bench_decisions.py --decide demo/demo.yaml --input demo/sample

Times are of the CPU, of one process; wall times stand beside them. The synthetic annotations have the columns that the
rules of `gneissweb-bytes` read, in batches as they come from an output.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from gneiss.output.finished_run import FinishedRun
from gneiss.output.run_status import run_status
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.report.decisions import BATCH_ROWS, Batch, decided, total
from gneiss.report.exploring import moved_recipe
from gneiss.report.sweeping import knobs, moved


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print the CPU and wall time of a block, and the peak of memory so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{what}: {cpu:.2f} s CPU, {wall:.2f} s wall, {peak:.2f} GiB peak")


def batches(documents: int) -> Iterator[Batch]:
    """Synthetic annotations for the rules of `gneissweb-bytes`."""
    draw, recipe = np.random.default_rng(0), Recipe.load("gneissweb-bytes")
    readable = (frozenset(recipe.readable(0)),)
    for start in range(0, documents, BATCH_ROWS):
        rows = min(BATCH_ROWS, documents - start)
        labels = draw.choice(["science", "technology", "education", "medical", "none"], rows)
        columns = {
            column.name: draw.integers(1, 5000, rows) if column.type == "int64" else draw.random(rows)
            for column in recipe.columns
            if column.type in ("int64", "float64")
        } | {column.name: pa.array(labels) for column in recipe.columns if column.type == "string"}
        columns |= {
            "last phase": np.zeros(rows, np.int64),
            "group of the document": pa.array(labels),
            "bytes of text": draw.integers(100, 20_000, rows),
            "tokens of the text": draw.integers(20, 5000, rows),
        }
        yield Batch(pa.table(columns), readable)


def bench_sweep(documents: int, count: int) -> None:
    """A sweep in one pass, and one changed threshold over batches in memory."""
    recipe = Recipe.load("gneissweb-bytes")
    setting, knob = (recipe.phases[0].decision,), knobs(recipe)["quality.dclm"]
    settings = [moved(setting, {knob: value}) for value in np.linspace(0, 1, count).tolist()]
    held = list(batches(documents))
    with measured(f"{count} settings over {documents:,} documents"):
        found = decided((Batch(batch.table, batch.readable) for batch in held), settings)
    print(f"kept: {total(found[0].kept).documents:,} to {total(found[-1].kept).documents:,}")
    decided(held, settings[:1])
    with measured(f"a threshold is moved over {documents:,} documents in memory"):
        decided(held, [moved(setting, {knob: 0.4321})])


def bench_decide(recipe: Recipe, input: Path) -> None:
    """`decide` against `run`, in one worker each: where all documents stay, and where a threshold is moved."""
    knob = next(knob for knob in knobs(recipe).values() if knob.value)
    with tempfile.TemporaryDirectory() as folder:
        first = run(recipe, input, f"{folder}/first", workers=1)  # compiles, and warms the cache of the file system
        for factor in (1, 1.5):
            changed = moved_recipe(recipe, {knob.name: knob}, {knob.name: knob.value * factor})
            again, run_cpu = counted(partial(run, changed, input, f"{folder}/run{factor}", workers=1))
            _, cpu = counted(partial(decide, changed, first, f"{folder}/decided{factor}", workers=1))
            print(
                f"{knob.name} times {factor}, {first.documents:,} documents become {again.documents:,}:"
                f" run {run_cpu:.2f} s CPU, decide {cpu:.2f} s CPU: {run_cpu / cpu:.1f} times less"
            )


def counted(work: Callable[[], FinishedRun]) -> tuple[FinishedRun, float]:
    """What some work leaves, and the CPU time of its driver and of its tasks, without the start of workers."""
    cpu = time.process_time()
    done = work()
    cpu = time.process_time() - cpu
    return done, cpu + sum(stage.cpu_seconds for stage in run_status(done.folder).stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--decide", metavar="RECIPE", type=Recipe.load)
    parser.add_argument("--input", type=Path)
    given = parser.parse_args()
    if given.decide:
        bench_decide(given.decide, given.input)
    else:
        bench_sweep(given.documents, given.settings)


if __name__ == "__main__":
    main()
