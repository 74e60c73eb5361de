"""Wall time of a run with Ray actors against local processes, in turn on the same input.

    python scripts/bench_ray.py --corpus DIR [--shards 6] [--megabytes 50] [--runs 2] [--recipe fineweb]

DIR holds Parquet files with columns `text` and `id`; its texts are repeated to as many shards of as many MB of text.
Both have two workers, which start within the time of a run. Ray runs before, as on a cluster; how long its start takes
is said too, and the ratio with it. The least of the runs counts. CPU seconds are those of the driver, of the tasks, and
of all else: workers while they start, and Ray. Ray lets workers yield to all other processes (nice 15); here it does
not, as else the figures would be those of whatever runs beside.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

import gneiss
from gneiss.backends.ray_actors import RayActors
from gneiss.backends.resources import Resources
from gneiss.output import ledger
from gneiss.store.place import place_of

WORKERS = 2
BackendName: TypeAlias = Literal["local", "ray"]


def main() -> None:
    """Run both in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with columns text and id")
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--megabytes", type=int, default=50, help="of text in a shard")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--recipe", default="fineweb", help="of gneiss, without models")
    given = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its name
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        size_bytes = write_input(given.corpus, given.shards, given.megabytes * 1_000_000, folder / "input")
        write_input(given.corpus, 1, 100_000, folder / "warm")
        backends: tuple[BackendName, ...] = ("local", "ray")
        wall: dict[BackendName, list[float]] = {name: [] for name in backends}
        cpu: dict[BackendName, list[dict[str, float]]] = {name: [] for name in backends}
        began = time.perf_counter()
        RayActors().room(Resources(1))
        start_seconds = time.perf_counter() - began
        for backend in backends:
            timed(given.recipe, folder / "warm", folder / f"warm-{backend}", backend)
        for run, backend in itertools.product(range(given.runs), backends):
            seconds, cpu_seconds = timed(given.recipe, folder / "input", folder / f"{backend}-{run}", backend)
            wall[backend].append(seconds)
            cpu[backend].append(cpu_seconds)
    print(
        json.dumps(
            {
                "input": f"{given.corpus}: {given.shards} shards, {size_bytes:,} bytes of text",
                "workers": WORKERS,
                "wall_seconds": wall,
                "cpu_seconds": cpu,
                "ray_start_seconds": round(start_seconds, 2),
                "ray_by_local": round(min(wall["ray"]) / min(wall["local"]), 3),
                "ray_with_start_by_local": round((min(wall["ray"]) + start_seconds) / min(wall["local"]), 3),
            },
            indent=1,
        )
    )


def write_input(corpus: Path, shards: int, size_bytes: int, folder: Path) -> int:
    """Write shards of about this many bytes of text each; the bytes of all."""
    from bench_filters import read_corpus  # here, since workers import this file

    texts = itertools.cycle(read_corpus(corpus, shards * size_bytes).to_arrow().to_pylist())
    folder.mkdir()
    written = 0
    for number in range(shards):
        taken, size = [], 0
        while size < size_bytes:
            taken.append(next(texts))
            size += len(taken[-1].encode())
        ids = [f"{number}-{row}" for row in range(len(taken))]
        pq.write_table(pa.table({"id": ids, "text": taken}), folder / f"{number:03d}.parquet", row_group_size=2000)
        written += size
    return written


def timed(recipe: str, source: Path, output: Path, backend: BackendName) -> tuple[float, dict[str, float]]:
    """Seconds of wall time of a run, and CPU seconds by who used them."""
    driver, others, began = *cpu_seconds(), time.perf_counter()
    gneiss.run(recipe, source, output, workers=WORKERS, backend=backend)
    wall = time.perf_counter() - began
    receipts = (receipt for receipt in ledger.entries(place_of(output)) if receipt.stage != ledger.ENDED)
    tasks = sum(receipt.cost.get("cpu_seconds", 0.0) for receipt in receipts)
    until = time.monotonic() + 30
    while (now := cpu_seconds())[1] - others < tasks and time.monotonic() < until:
        time.sleep(0.5)  # until the workers that were killed have been waited for
    spent = {"driver": now[0] - driver, "tasks": tasks, "else": now[1] - others - tasks}
    return round(wall, 2), {name: round(seconds, 2) for name, seconds in spent.items()}


def cpu_seconds() -> tuple[float, float]:
    """CPU seconds of this process, and of all that it has started; of the dead, those that were waited for."""
    this = psutil.Process()
    own = this.cpu_times()
    others = own.children_user + own.children_system
    for process in this.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            others += sum(process.cpu_times()[:4])
    return own.user + own.system, others


if __name__ == "__main__":
    main()
