"""What the driver of a run of many shards costs: the real driver, ledger and layout, workers that are played.

    python scripts/bench_driver.py [--shards 10000 100000 1000000] [--workers 1000] [--json FILE]

There is no text and nothing is computed. A task takes a drawn time of a clock that is played too; some workers are
lost with their machine, and some tasks fail. The files of shards are in no store: their sizes are said by it where a
run asks, so that memory and CPU time are those of the driver. All else, the ledger and what is exchanged, is real, on
a disk. Three processes per size: a run that ends after half of its shards, one that resumes it, and one that finds it
finished.
"""

from __future__ import annotations

import argparse
import heapq
import io
import json
import logging
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gneiss.backends import Patience, Room, Step, Task, Workers
from gneiss.backends.care import Care
from gneiss.backends.driving import Answered, Died, Event, Opened, Placed, drive
from gneiss.backends.machine import Death
from gneiss.backends.resources import Resources
from gneiss.backends.samples import Sample
from gneiss.curate.statistics import ColumnStatistics, Statistics
from gneiss.errors import GneissError
from gneiss.input.added import Added
from gneiss.input.formats.format import Part
from gneiss.input.formats.parquet import Parquet
from gneiss.input.origin import Origin
from gneiss.input.plan import Plan
from gneiss.input.shard import Input, Shard
from gneiss.jobs.attempt import Attempt, AttemptStep
from gneiss.jobs.progress import PrintedProgress
from gneiss.output import layout
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.parquet import WrittenFile
from gneiss.pipelines import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.curating import CurateStep
from gneiss.store.local import LocalStore
from gneiss.store.place import Place
from gneiss.store.store import File

RECIPE = "{name: bench-driver, phases: [{name: only, annotate: [readability], rules: {long: eflaw > 0}}]}"
#: Of tasks: whose worker is lost with its machine, and which are quarantined.
LOST, FAILED = 1e-3, 1e-5
SIZES = {layout.DATA: 100_000_000, layout.BASE: 3_000_000, f"{layout.OWN}/statistics": 4_000}
FIRST, RESUME, FINISHED = "first", "resume", "finished"


class EndedError(GneissError):
    """The run is to end here."""


@dataclass(frozen=True)
class PlayedStore(LocalStore):
    """A disk on which the files of the shards that are done seem to lie. done: by number, a byte each."""

    root: str = ""
    done: bytearray = field(default_factory=bytearray, compare=False)

    def find(self, path: str) -> File | None:
        """See Store."""
        folder, _, name = path.removeprefix(f"{self.root}/").rpartition("/")
        if folder not in SIZES:
            return super().find(path)
        number = int(name.partition(".")[0])
        return File(name, SIZES[folder], f"{number}") if self.done[number] else None

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """See Store."""
        own = folder.removeprefix(f"{self.root}/")
        if own not in SIZES:
            yield from super().files(folder, pattern)
            return
        suffix = "json" if own.startswith(layout.OWN) else "parquet"
        for number, done in enumerate(self.done):
            if done:
                yield File(f"{number:07d}.{suffix}", SIZES[own], f"{number}")

    def open(self, path: str, version: File | None = None) -> Any:
        """See Store."""
        if f"{layout.OWN}/statistics/" not in path:
            return super().open(path, version)
        return pa.BufferReader(STATISTICS)

    def delete(self, path: str) -> None:
        """See Store."""
        if path.removeprefix(f"{self.root}/").rpartition("/")[0] not in SIZES:
            super().delete(path)


def _statistics() -> bytes:
    draw = random.Random(1)
    statistics = Statistics()
    statistics.counts.update(rows=1000, kept=900, dropped=100, quarantined=0)
    statistics.patterns["only"] = statistics.dropped_in
    for name in ("text_bytes", "text_chars", "whitespace_words"):
        column = statistics.columns[name] = ColumnStatistics()
        column.bins.update(draw.randint(65_000, 65_200) for _ in range(60))
    return json.dumps({"statistics": statistics.to_json(), "samples": {"long": []}}).encode()


STATISTICS = _statistics()


def receipt_of(shard: Shard, number: int) -> Receipt:
    """The receipt of a shard that is done."""
    digest = xxhash.xxh3_128_hexdigest(shard.id.encode())
    paths = (layout.data_path(shard.id), layout.statistics_path(shard.id), layout.annotations_path(shard.id))
    sizes = (SIZES[layout.DATA], SIZES[f"{layout.OWN}/statistics"], SIZES[layout.BASE])
    files = tuple(WrittenFile(path, size, digest, 900, f"{number}") for path, size in zip(paths, sizes, strict=True))
    counts = {"kept": 900, "dropped": 100, "quarantined": 0}
    cost = {"seconds": 63.123456, "cpu_seconds": 60.654321, "peak_bytes": 1_234_567_890}
    return Receipt(shard.id, COMMITTED, shard.fingerprint, 1000, counts, files, None, shard.etag, cost)


@dataclass
class Played:
    """Workers that are played, in time that is played; see Pool and Backend. until: how many tasks are done then."""

    workers: int
    done: bytearray
    until: int
    step: Any = None
    work: Callable[[Any], Any] = lambda _: None
    now: float = 0.0
    started: int = 0
    given: int = 0
    answered: int = 0
    sent_bytes: int = 0
    worked: float = 0.0
    first_given: float = 0.0
    events_of: list[tuple[float, int, Any]] = field(default_factory=list)
    coming: list[Event] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    def room(self, resources: Resources) -> Room:
        return Room(self.workers, self.workers)

    def admit(self, workers: int, resources: Resources, local: Sequence[str]) -> None:
        pass

    def show(self, samples: Iterable[Sample]) -> None:
        pass

    def present(self) -> int:
        return self.workers

    def stop(self) -> None:
        pass

    def kept(self) -> AbstractContextManager[Played]:
        return nullcontext(self)

    def run(
        self, step: Step[Task, Any], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Any, None, None]:
        assert isinstance(step, AttemptStep)
        self.step, self.events_of, self.coming = step, [], []
        self.sent_bytes = max(self.sent_bytes, len(pickle.dumps(step)))
        self.work = self._curated if isinstance(step.step, CurateStep) else self._timed(step.open())
        yield from drive(self, step, tasks, lambda: workers, Patience(), lambda: self.now)

    def _curated(self, shard: Shard) -> Attempt:
        number = int(shard.id)
        if self.draw.random() < FAILED:
            return self.step.lost(shard, "cannot read: it is played")
        self.done[number] = 1
        return Attempt([receipt_of(shard, number)])

    def _timed(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def timed(task: Any) -> Any:
            began = time.process_time()
            done = work(task)
            self.worked += time.process_time() - began
            return done

        return timed

    def start(self) -> int:
        self.started += 1
        self.coming += [Placed(self.started, f"process {self.started}"), Opened(self.started)]
        return self.started

    def give(self, worker: int, task: Any, care: Care) -> None:
        self.first_given = self.first_given or time.process_time()
        pickle.dumps(task)
        self.given += 1
        heapq.heappush(self.events_of, (self.now + self.draw.expovariate(1 / 60), worker, task))

    def look(self, workers: Collection[int]) -> None:
        pass

    def ask(self, worker: int) -> None:
        pass

    def end(self, worker: int) -> None:
        self.ended.add(worker)

    def events(self, seconds: float) -> Sequence[Event]:
        if self.coming:
            coming, self.coming = self.coming, []
            return coming
        if self.answered >= self.until:
            raise EndedError("half of it is done")
        self.now, worker, task = heapq.heappop(self.events_of)
        if self.draw.random() < LOST:
            return (Died(worker, Death("lost with its node", is_own=False)),)
        self.answered += 1
        return (Answered(worker, self.work(task)),)

    def close(self) -> None:
        pass


def played(folder: Path, shards: int, workers: int, what: str) -> dict[str, float]:
    """One process: a run, and what it cost."""
    began = time.process_time()
    bitmap = folder / "done"
    done = bytearray(bitmap.read_bytes()) if bitmap.exists() else bytearray(shards)
    store = PlayedStore(root=str(folder / "out"), done=done)
    output, inputs = Place(store, store.root), Place(LocalStore(), "/lake/crawl/snapshot=2026-01/language=en")
    format_ = Parquet()
    plan = Plan(Recipe.parse(RECIPE), str(inputs), None, Origin(), Input(tuple(
        Shard(f"{n:07d}", inputs / f"{n:07d}.parquet", format_, Part("", 0, 1000, 1000, 10**8 + n, n, 2 * 10**8 + n),
              xxhash.xxh3_128_hexdigest(f"{n}".encode()), f"{10**18 + n}", Added(f"{n:07d}.parquet"))
        for n in range(shards)), (), 0), ())  # fmt: skip
    planned = time.process_time() - began
    pool = Played(workers, done, shards // 2 if what == FIRST else shards * 10)
    hire = lambda tasks, resources: Workers(pool, workers, resources)  # noqa: E731
    log = io.StringIO()
    started, wall = time.process_time(), time.perf_counter()
    try:
        with run._open(plan, output, PrintedProgress(log)) as job:
            run._run(job, plan, hire)
    except EndedError:
        pass
    finally:
        bitmap.write_bytes(done)
    cpu = time.process_time() - started - pool.worked  # what a worker would do
    if what == FINISHED:
        assert not pool.given
    ledger = [file.stat().st_size for file in (folder / "out" / layout.LEDGER).iterdir()]
    return {
        "cpu_s": cpu,
        "wall_s": time.perf_counter() - wall,
        "until_first_task_s": pool.first_given - started if pool.first_given else cpu,
        "tasks": pool.given,
        "ms_per_task": 1e3 * cpu / max(pool.given, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "plan_s": planned,
        "step_mb": pool.sent_bytes / 1e6,
        "ledger_mb": sum(ledger) / 1e6,
        "segments": len(ledger),
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS, nargs=2)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    if given.one:
        what, folder = given.one
        print(json.dumps(played(Path(folder), given.shards[0], given.workers, what)))
        return
    figures = []
    for shards in given.shards:
        with tempfile.TemporaryDirectory() as folder:
            for what in (FIRST, RESUME, FINISHED):
                command = [sys.executable, __file__, "--shards", f"{shards}", "--workers", f"{given.workers}"]
                done = subprocess.run([*command, "--one", what, folder], check=True, stdout=subprocess.PIPE)
                figures.append({"shards": shards, "what": what, **json.loads(done.stdout)})
                print("  ".join(f"{name} {value:,.2f}" if isinstance(value, float) else f"{name} {value}"
                                for name, value in figures[-1].items()), flush=True)  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
