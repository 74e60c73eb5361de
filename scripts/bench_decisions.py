"""Benchmark: sweeps and changed thresholds over synthetic annotations, and `decide` against `run` on the same input.

    python scripts/bench_decisions.py --documents 10000000 --settings 100
    python scripts/bench_decisions.py --decide demo/demo.yaml --input demo/sample

Times are of the CPU, of one process; wall times stand beside them. The synthetic annotations have the columns that the
rules of `gneissweb-bytes` read, in batches as they come from an output.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.report.decisions import BATCH_ROWS, Batch, decided, total
from gneiss.report.exploring import moved_recipe
from gneiss.report.sweeping import knobs, moved
from tests.runs import InThisProcess


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


def bench_decide(path: str, input: Path) -> None:
    """`decide` against `run`: where all documents stay, and where a threshold is moved.

    In one process, which has done both before; and as commands of one worker each, whose processes all start anew.
    """
    recipe = Recipe.load(path)
    knob = next(knob for knob in knobs(recipe).values() if knob.value)
    with tempfile.TemporaryDirectory() as folder:
        first = run(recipe, input, f"{folder}/first", backend=InThisProcess())
        decide(recipe, first, f"{folder}/again", backend=InThisProcess())
        for factor in (1, 1.5):
            changed = moved_recipe(recipe, {knob.name: knob}, {knob.name: knob.value * factor})
            again, run_cpu = counted(partial(run, changed, input, f"{folder}/run{factor}", backend=InThisProcess()))
            _, cpu = counted(partial(decide, changed, first, f"{folder}/decided{factor}", backend=InThisProcess()))
            phase = changed.phases[knob.phase]
            rule = f"phases.{phase.name}.rules.{knob.rule}={phase.rules[knob.rule]}"
            named = (path, "--workers", "1", "--set", rule, "--input")
            whole_run = command("run", *named, str(input), "--output", f"{folder}/cli-run{factor}")
            whole = command("decide", *named, f"{folder}/first", "--output", f"{folder}/cli-decided{factor}")
            print(
                f"{knob.name} times {factor}, {first.documents:,} documents become {again.documents:,}:"
                f" run {run_cpu:.2f} s CPU, decide {cpu:.2f} s CPU: {run_cpu / cpu:.1f} times less;"
                f" commands {whole_run:.2f} s and {whole:.2f} s: {whole_run / whole:.1f} times less"
            )


def counted(work: Callable[[], FinishedRun]) -> tuple[FinishedRun, float]:
    """What some work in this process leaves, and its CPU time."""
    cpu = time.process_time()
    done = work()
    return done, time.process_time() - cpu


def command(*arguments: str) -> float:
    """CPU time of a command of gneiss and of its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "gneiss", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--decide", metavar="RECIPE")
    parser.add_argument("--input", type=Path)
    given = parser.parse_args()
    if given.decide:
        bench_decide(given.decide, given.input)
    else:
        bench_sweep(given.documents, given.settings)


if __name__ == "__main__":
    main()
