"""The tasks that the driver of a run waits for: a small file beside the ledger, for whoever asks how the run goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from gneiss.output import layout
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Place

#: How often the file is written at most, and how many tasks it names: those that began first.
WRITE_SECONDS, MOST_NAMED = 30.0, 100


@dataclass(frozen=True)
class RunningTask:
    """A task of a stage, and since when it is under way, in Unix time by the driver's clock."""

    stage: str
    task: str
    since: float


class Running:
    """The tasks of a stage that are under way: they are handed out in order, so it is known which without asking."""

    def __init__(self, output: Place, share: str, stage: str) -> None:
        self._output, self._path, self._stage = output, layout.running_file(share), stage
        self._waiting: Iterator[Sequence[str]] = iter(())
        self._since: dict[str, float] = {}
        self._written, self._is_there = time.monotonic(), False

    def begin(self, tasks: Iterable[Sequence[str]], workers: int) -> None:
        """Tasks are handed out in this order, those of a bundle at once, the first to this many workers."""
        self._waiting = iter(tasks)
        self._since.clear()
        self._hand_out(workers)

    def finished(self, tasks: Sequence[str]) -> None:
        """A task or a bundle has ended, and the next one begins; say so when it is time. Raises OutputError."""
        for task in tasks:
            self._since.pop(task, None)
        self._hand_out(1)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            named = [RunningTask(self._stage, task, since) for task, since in islice(self._since.items(), MOST_NAMED)]
            write_bytes(json.dumps([asdict(task) for task in named]).encode(), self._output, self._path)
            self._written, self._is_there = time.monotonic(), True

    def _hand_out(self, workers: int) -> None:
        for tasks in islice(self._waiting, workers):
            self._since.update(dict.fromkeys(tasks, time.time()))

    def close(self) -> None:
        """No task is under way any more."""
        if self._is_there:
            (self._output / self._path).delete()


def running_tasks(output: Place, stage: str) -> Sequence[RunningTask]:
    """What drivers said last of a stage, the longest first. Raises OSError."""
    found: list[RunningTask] = []
    for path in layout.running_files(output):
        try:
            content = (output / path).read()
        except FileNotFoundError:
            continue  # the stage has ended meanwhile
        found += [RunningTask(**task) for task in json.loads(content)]
    return sorted((task for task in found if task.stage == stage), key=lambda task: task.since)
