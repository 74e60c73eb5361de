"""Progress of an extraction: files, records, MB/s of archive and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from gneiss.extract.sources import Source
from gneiss.ledger import Receipt
from gneiss.progress import LINE_SECONDS


class Progress(Protocol):
    """Is told how an extraction goes."""

    def begin(self, sources: Sequence[Source], done: Mapping[str, Receipt]) -> None:
        """It starts; these sources are finished already."""

    def finished(self, receipt: Receipt) -> None:
        """A source is finished."""

    def end(self) -> None:
        """All sources are finished."""


class Silent:
    """Says nothing."""

    def begin(self, sources: Sequence[Source], done: Mapping[str, Receipt]) -> None:
        """Nothing."""

    def finished(self, receipt: Receipt) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@dataclass
class Spoken:
    """Writes to a stream: one line that is written over on a terminal, a new line every few seconds elsewhere."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _left: dict[str, int] = field(default_factory=dict)
    _count: int = 0
    _records: int = 0
    _bytes: int = 0
    _started: float = 0.0
    _told: float = 0.0

    def begin(self, sources: Sequence[Source], done: Mapping[str, Receipt]) -> None:
        """Say what there is to do."""
        self._left = {source.id: source.size_bytes for source in sources if source.id not in done}
        self._count = len(sources)
        self._started = self._told = time.monotonic()
        resumed = f", {len(done)} of them finished already" if done else ""
        size_bytes = sum(source.size_bytes for source in sources)
        self._print(f"extract: {len(sources)} files, {size_bytes / 1e6:,.1f} MB{resumed}\n")

    def finished(self, receipt: Receipt) -> None:
        """Count a source; say so when it is time."""
        self._records += receipt.rows or 0
        self._bytes += self._left.pop(receipt.shard)
        if receipt.reason:
            self._print(f"\n{receipt.shard} cannot be read: {receipt.reason}\n")
        now = time.monotonic()
        if self.stream.isatty() or (
            self._left and now - self._told >= LINE_SECONDS
        ):  # the last line is said at the end
            self._told = now
            self._print(self._line(now))

    def end(self) -> None:
        """Say how it went."""
        if self._bytes:
            self._print(self._line(time.monotonic()) + ("\n" if self.stream.isatty() else ""))

    def _line(self, now: float) -> str:
        seconds = max(now - self._started, 1e-9)
        left = sum(self._left.values()) * seconds / max(self._bytes, 1)
        line = (
            f"{self._count - len(self._left)}/{self._count} files, {self._records:,} records,"
            f" {self._bytes / 1e6 / seconds:.2f} MB/s of archive, {left / 60:,.0f} min left"
        )
        return f"\r\x1b[K{line}" if self.stream.isatty() else line + "\n"

    def _print(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
