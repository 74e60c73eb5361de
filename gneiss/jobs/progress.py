"""Progress: tasks, rows, MB/s and time left; a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TextIO

from gneiss.errors import printable

if TYPE_CHECKING:
    from gneiss.output.cost import Forecast
    from gneiss.output.ledger import Receipt

LINE_SECONDS = 5.0


class Progress(Protocol):
    """Receives the events of a job."""

    def begin(self, job: str, sizes_bytes: Mapping[str, int], done: Collection[str]) -> None:
        """A job starts: its tasks by id, with their sizes, and those that are finished already."""

    def stage(self, name: str, tasks: int) -> None:
        """A stage of numbered tasks starts, with this many left."""

    def finished(self, receipt: Receipt) -> None:
        """A task of the job, or of the stage that started last, is finished."""

    def end(self) -> None:
        """All tasks are finished."""


class Silent:
    """Says nothing."""

    def begin(self, job: str, sizes_bytes: Mapping[str, int], done: Collection[str]) -> None:
        """Nothing."""

    def stage(self, name: str, tasks: int) -> None:
        """Nothing."""

    def finished(self, receipt: Receipt) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@dataclass
class PrintedProgress:
    """Writes to a stream: one line that is written over on a terminal, a new line every few seconds elsewhere.

    task, rows, of: what a task and its rows are called, and what the bytes are of; forecast: of an estimate, by which
    the time that is left is that of all stages; else it is that of this one.
    """

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    task: str = "shard"
    rows: str = "documents"
    of: str = "text"
    forecast: Forecast | None = None
    _shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    _left: dict[str, int] = field(default_factory=dict)
    _left_bytes: int = 0
    _total_bytes: int = 0
    _tasks: int = 0
    _rows: int = 0
    _bytes: int = 0
    _stage: str = ""
    _stage_tasks: int = 0
    _stage_left: int = 0
    _started: float = 0.0
    _stage_started: float = 0.0
    _shards_started: float = 0.0
    _told: float = 0.0

    def begin(self, job: str, sizes_bytes: Mapping[str, int], done: Collection[str]) -> None:
        """Say what there is to do."""
        self._left = {id_: size for id_, size in sizes_bytes.items() if id_ not in done}
        self._left_bytes = sum(self._left.values())
        self._tasks = len(sizes_bytes)
        self._started = self._shards_started = self._told = time.monotonic()
        resumed = f", {len(done)} of them finished already" if done else ""
        size = self._total_bytes = sum(sizes_bytes.values())
        self._print(f"{job}: {_counted(self._tasks, self.task)}, {size / 1e6:,.1f} MB of {self.of}{resumed}\n")

    def stage(self, name: str, tasks: int) -> None:
        """Say which stage starts."""
        self._stage, self._stage_tasks, self._stage_left = name, tasks, tasks
        self._stage_started = time.monotonic()
        self._print(f"stage {name}: {_counted(tasks, 'task')}\n")

    def finished(self, receipt: Receipt) -> None:
        """Count a task; say so when it is time."""
        now = time.monotonic()
        if receipt.stage == self._stage:
            self._stage_left -= 1
            self._shards_started = now  # if this is the last of the stages before them
            done = self._stage_tasks - self._stage_left
            left = duration(self._seconds_left((now - self._stage_started) * self._stage_left / done, now))
            line = f"stage {self._stage}: {done}/{self._stage_tasks} tasks, {left} left"
            self._say(lambda: line, now, self._stage_left)
            return
        self._rows += receipt.rows or 0
        size = self._left.pop(receipt.task, 0)  # a task may be done again
        self._bytes, self._left_bytes = self._bytes + size, self._left_bytes - size
        if receipt.is_defect:
            self._print(f"\n{self.task} {printable(receipt.task)} failed by a defect: {printable(receipt.reason)}\n")
        elif receipt.reason:
            self._print(f"\n{self.task} {printable(receipt.task)} is quarantined: {printable(receipt.reason)}\n")
        self._say(partial(self._line, now), now, len(self._left))

    def end(self) -> None:
        """Say how it went."""
        if self._bytes:
            line = self._line(time.monotonic())
            self._print(f"\r\x1b[K{line}\n" if self.stream.isatty() else f"{line}\n")

    def _say(self, line: Callable[[], str], now: float, left: int) -> None:
        """Show a line on a terminal; elsewhere when it is time and something is left: the last line is for the end."""
        if self.stream.isatty():
            self._print(f"\r\x1b[K{line()}")
        elif left and now - self._told >= LINE_SECONDS:
            self._told = now
            self._print(line() + "\n")

    def _line(self, now: float) -> str:
        seconds = max(now - self._started, 1e-9)
        left = self._left_bytes * (now - self._shards_started) / max(self._bytes, 1)
        return (
            f"{self._tasks - len(self._left)}/{self._tasks} {self.task}s, {self._rows:,} {self.rows},"
            f" {self._bytes / 1e6 / seconds:.2f} MB/s, {duration(self._seconds_left(left, now))} left"
        )

    def _seconds_left(self, of_stage: float, now: float) -> float:
        """Of all stages where there is a forecast, else of this one."""
        if self.forecast is None:
            return of_stage
        from gneiss.output.ledger import CURATE

        if self._stage_tasks:
            self._shares[self._stage] = (1.0, self._stage_left / self._stage_tasks)
        total = self._total_bytes or 1
        self._shares[CURATE] = ((self._bytes + self._left_bytes) / total, self._left_bytes / total)
        return self.forecast.seconds_left(self._shares, now - self._started)

    def _print(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(59.6), duration(3700)
    ('1 min 00 s', '1 h 01 min')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
