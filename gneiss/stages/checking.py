"""The first stages of a run whose shards see each other: whatever keeps a shard from being written is found here, and
whatever is damaged of the indexes that shards are compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gneiss.errors import MachineError, OutputError, first_line
from gneiss.input.shard import Shard, reading_on
from gneiss.output.ledger import COMMITTED, UNREADABLE, Receipt
from gneiss.output.parquet import WrittenFile
from gneiss.store.place import Place

CHECK, CHECK_INDEX = "check", "check_index"


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


@dataclass(frozen=True)
class KeptFile:
    """A file of an index, in an output."""

    output: Place
    file: WrittenFile

    def __str__(self) -> str:
        return f"{self.output / self.file.path}"

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self.file.size_bytes


@dataclass(frozen=True)
class CheckIndexStep:
    """File of an index in, a receipt out: its bytes are those that its manifest says."""

    def open(self) -> Callable[[KeptFile], Receipt]:
        """Nothing to load."""
        return _check_file

    def lost(self, task: KeptFile, reason: str) -> Receipt:
        """No file can be left out. Raises MachineError."""
        raise MachineError(f"{CHECK_INDEX}, {task}: {reason}")


def _check_file(kept: KeptFile) -> Receipt:
    place = kept.output / kept.file.path
    expected = f"{kept.file.size_bytes} bytes with the checksum {kept.file.checksum} (xxh3-128)"
    try:
        found = place.find()
        there = f"{found.size_bytes} bytes with the checksum {place.checksum()} (xxh3-128)" if found else "no file"
    except OSError as error:
        raise OutputError(f"{place}: cannot read: {first_line(error)}") from error
    if there != expected:
        raise OutputError(
            f"{place}: expected {expected}, found {there}; the index is damaged: delete {place.parent.parent} and make"
            " it again by the run that left it, with keep_index"
        )
    return Receipt(f"{kept}", COMMITTED, "", None, stage=CHECK_INDEX)
