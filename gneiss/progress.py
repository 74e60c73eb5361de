"""Progress: shards, documents, MB/s and time left; a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from gneiss.ledger import Receipt
    from gneiss.plan import Plan

LINE_SECONDS = 5.0


class Progress(Protocol):
    """Is told how a run goes."""

    def begin(self, plan: Plan, done: Mapping[str, Receipt]) -> None:
        """The run starts; these shards are finished already."""

    def round(self, name: str, tasks: int) -> None:
        """A corpus-wide round starts, with so many tasks left."""

    def finished(self, receipt: Receipt) -> None:
        """A shard is finished."""

    def end(self) -> None:
        """All shards are finished."""


class Silent:
    """Says nothing."""

    def begin(self, plan: Plan, done: Mapping[str, Receipt]) -> None:
        """Nothing."""

    def round(self, name: str, tasks: int) -> None:
        """Nothing."""

    def finished(self, receipt: Receipt) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@dataclass
class Spoken:
    """Writes to a stream: one line that is written over on a terminal, a new line every few seconds elsewhere."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _sizes: dict[str, int] = field(default_factory=dict)
    _shards: int = 0
    _done_shards: int = 0
    _documents: int = 0
    _bytes: int = 0
    _left_bytes: int = 0
    _started: float = 0.0
    _told: float = 0.0

    def begin(self, plan: Plan, done: Mapping[str, Receipt]) -> None:
        """Say what there is to do."""
        self._sizes = {shard.id: shard.text_bytes for shard in plan.input.shards}
        self._shards, self._done_shards = len(self._sizes), len(done)
        self._left_bytes = sum(size for id_, size in self._sizes.items() if id_ not in done)
        self._started = self._told = time.monotonic()
        resumed = f", {len(done)} of them finished already" if done else ""
        self._print(
            f"{plan.recipe.name}: {self._shards} shards, {plan.input.text_bytes / 1e6:,.1f} MB of text{resumed}\n"
        )

    def round(self, name: str, tasks: int) -> None:
        """Say which round starts."""
        self._print(f"round {name}: {tasks} task{'s' if tasks > 1 else ''}\n")

    def finished(self, receipt: Receipt) -> None:
        """Count a shard; say so when it is time."""
        self._done_shards += 1
        self._documents += receipt.rows or 0
        self._bytes += self._sizes[receipt.shard]
        if receipt.reason:
            self._print(f"\nshard {receipt.shard} is quarantined: {receipt.reason}\n")
        now = time.monotonic()
        if self.stream.isatty() or now - self._told >= LINE_SECONDS:
            self._told = now
            self._print(self._line(now))

    def end(self) -> None:
        """Say how it went."""
        if self._bytes:
            self._print(self._line(time.monotonic()) + ("\n" if self.stream.isatty() else ""))

    def _line(self, now: float) -> str:
        seconds = max(now - self._started, 1e-9)
        eta = (self._left_bytes - self._bytes) * seconds / max(self._bytes, 1)
        line = (
            f"{self._done_shards}/{self._shards} shards, {self._documents:,} documents,"
            f" {self._bytes / 1e6 / seconds:.1f} MB/s, {_duration(eta)} left"
        )
        return f"\r\x1b[K{line}" if self.stream.isatty() else line + "\n"

    def _print(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
