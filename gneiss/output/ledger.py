"""The ledger: the receipts of a run, kept by the driver alone, in segments that are new files."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.errors import OutputError
from gneiss.output.layout import ledger_segment, ledger_segments
from gneiss.output.parquet import WrittenFile, checksum, write_bytes

FOOTER_KEY = "gneiss.receipt"
CURATE = "curate"
SEGMENT_SECONDS = 5.0
COMMITTED, UNREADABLE, FAILED = "committed", "unreadable", "failed"


@dataclass(frozen=True)
class Receipt:
    """What a finished task returns.

    task: its id within its stage (of `curate`, the shard's); state: `committed`, `unreadable` (a quarantined shard:
    no files; rows from the footer, or null when unknown), or `failed` (the same, but by a defect); counts: what became
    of the rows; cost: seconds and memory, only for the logs and the ledger.
    """

    task: str
    state: str
    fingerprint: str
    rows: int | None
    counts: Mapping[str, int] = field(default_factory=dict)
    files: tuple[WrittenFile, ...] = ()
    reason: str | None = None
    modified_ns: int | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    stage: str = CURATE

    @property
    def is_defect(self) -> bool:
        """Whether a defect kept the task from being done."""
        return self.state == FAILED

    def footer(self) -> str:
        """What the annotation shard's footer says: the receipt without clocks and without that file itself."""
        return json.dumps({**asdict(self), "cost": {}, "modified_ns": None}, sort_keys=True)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Receipt:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**given, "files": tuple(WrittenFile(**file) for file in given["files"])})


def append(output: Path, receipts: Iterable[Receipt]) -> None:
    """Write receipts as the next segment of the ledger. Raises OutputError."""
    lines = [json.dumps(asdict(receipt), sort_keys=True) for receipt in receipts]
    if lines:
        number = 1 + max((int(path.stem) for path in ledger_segments(output)), default=0)
        write_bytes(("\n".join(lines) + "\n").encode(), output, ledger_segment(number))


def keep(output: Path, receipts: Iterable[Receipt]) -> Generator[Receipt, None, None]:
    """Pass receipts on, and write them as segments: one every few seconds, and one at the end, whatever the end is."""
    waiting: list[Receipt] = []
    written = time.monotonic()
    try:
        for receipt in receipts:
            waiting.append(receipt)
            yield receipt
            if time.monotonic() - written >= SEGMENT_SECONDS:
                append(output, waiting)
                waiting, written = [], time.monotonic()
    finally:
        append(output, waiting)


@dataclass(frozen=True)
class Entry:
    """A receipt as it stands in the ledger, and when its segment was written (ns)."""

    receipt: Receipt
    written_ns: int

    def is_whole(self, output: Path) -> bool:
        """Whether the files of the receipt are what it describes; only what was touched since then is read for that."""
        return all(is_whole(output, file, self.written_ns) for file in self.receipt.files)


def read(output: Path, stage: str = CURATE) -> dict[str, Entry]:
    """Task of a stage → its latest entry. Raises OutputError when a segment is damaged."""
    entries: dict[str, Entry] = {}
    for path in ledger_segments(output):
        try:
            written_ns = path.stat().st_mtime_ns
            for line in path.read_text("utf-8").splitlines():
                receipt = Receipt.from_json(json.loads(line))
                if receipt.stage == stage:
                    entries[receipt.task] = Entry(receipt, written_ns)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise OutputError(
                f"{path}: this ledger segment is damaged ({error}); delete it: what is finished is found by its files"
            ) from error
    return entries


def receipt_of(output: Path, last: str) -> Receipt | None:
    """The receipt in the footer of the file that a task writes last, if all its files are whole; None if not."""
    path = output / last
    if not path.is_file():
        return None
    try:
        metadata = pq.read_metadata(path)
        footer = (metadata.metadata or {}).get(FOOTER_KEY.encode())
        receipt = Receipt.from_json(json.loads(footer)) if footer else None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):
        return None  # not a file that a finished task left: its work is done again
    if receipt is None or not all(is_whole(output, file) for file in receipt.files):
        return None
    own = WrittenFile(last, path.stat().st_size, checksum(path), metadata.num_rows)
    return Receipt(**{**receipt.__dict__, "files": (*receipt.files, own)})


def is_whole(output: Path, file: WrittenFile, known_ns: int = 0) -> bool:
    """Whether a file has the size and the bytes of its receipt; one not touched since `known_ns` is not read."""
    try:
        found = (output / file.path).stat()
    except OSError:
        return False
    if found.st_size != file.size_bytes:
        return False
    return found.st_mtime_ns < known_ns or checksum(output / file.path) == file.checksum
