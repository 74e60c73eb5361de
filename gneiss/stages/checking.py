"""The first stage of a run whose shards see each other: whatever keeps a shard from being written is found here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gneiss.input.shard import Shard, reading_on
from gneiss.output.ledger import COMMITTED, UNREADABLE, Receipt

CHECK = "check"


@dataclass(frozen=True)
class CheckStep:
    """Shard in, verdict out: every column is read in full, so that no shard is a first copy and cannot be written.

    What it counts is how many rows there are, for the stages after it, where the format of a file does not say.

    A verdict is a receipt in the ledger. It holds for as long as the output: shards are decided by which are usable.
    """

    def open(self) -> Callable[[Shard], Receipt]:
        """Nothing to load."""
        of_worker = reading_on()
        return lambda shard: _check(of_worker(shard))

    def lost(self, task: Shard, reason: str) -> Receipt:
        """An unusable shard."""
        rows = task.known_rows
        return Receipt(task.id, UNREADABLE, task.fingerprint, rows, reason=reason, etag=task.etag, stage=CHECK)


def _check(shard: Shard) -> Receipt:
    rows = sum(table.num_rows for _, table in shard.tables())
    return Receipt(shard.id, COMMITTED, shard.fingerprint, rows, etag=shard.etag, stage=CHECK)
