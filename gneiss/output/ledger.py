"""The ledger: the receipts of a run, written only by the driver, in segments that are new files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pyarrow as pa

from gneiss.errors import OutputError
from gneiss.output.layout import ledger_segment, ledger_segments
from gneiss.output.parquet import WrittenFile, read_footer
from gneiss.store.at_once import at_once
from gneiss.store.place import Place

FOOTER_KEY = "gneiss.receipt"
CURATE = "curate"
#: How long receipts wait for a segment, and after how many seconds of a run twice as long, thrice …, up to 60 times:
#: a month leaves some thousand segments.
SEGMENT_SECONDS, _SLOWER_SECONDS, _SLOWEST = 5.0, 500.0, 60
_NOTHING: Mapping[str, float] = {}
COMMITTED, UNREADABLE, FAILED = "committed", "unreadable", "failed"
#: What the driver notes beside the receipts of tasks, as stages of their own: what is left of a stage, as it begins;
#: what a run is predicted to take, and what it took, as it ends.
BEGUN, PREDICTED, ENDED = "begun", "predicted", "ended"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished task returns.

    task: its id within its stage (of `curate`, the shard's); state: `committed`, `unreadable` (a quarantined shard:
    no files; rows from the footer, or null when unknown), or `failed` (the same, but by a defect); counts: what became
    of the rows; etag: of the input file; cost: only for the logs and the ledger: seconds, CPU seconds (those in
    which its worker became ready apart), the peak of memory, bytes of input, and `at`: when the driver had it, in Unix
    time by its clock.
    """

    task: str
    state: str
    fingerprint: str
    rows: int | None
    counts: Mapping[str, int] = field(default_factory=dict)
    files: tuple[WrittenFile, ...] = ()
    reason: str | None = None
    etag: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    stage: str = CURATE

    @property
    def is_defect(self) -> bool:
        """Whether a defect kept the task from being done."""
        return self.state == FAILED

    @property
    def peak(self) -> tuple[int, int]:
        """Bytes of input of the task, 0 where that has no size, and its peak of memory."""
        return int(self.cost.get("input_bytes", 0)), int(self.cost.get("peak_bytes", 0))

    def footer(self) -> str:
        """What the footer of a task's last file holds: the receipt without ETags and cost, and without that file."""
        files = tuple(replace(file, etag=None) for file in self.files)
        return replace(self, cost={}, etag=None, files=files).to_json()

    def remembered(self) -> Receipt:
        """What a driver keeps of it in memory: all but files and cost."""
        return Receipt(  # `replace` takes four times as long, which a million receipts show
            self.task, self.state, self.fingerprint, self.rows, self.counts,
            reason=self.reason, etag=self.etag, cost=_NOTHING, stage=self.stage,
        )  # fmt: skip

    def to_json(self) -> str:
        """One line, without its end."""
        plain = {**_plain(self), "files": [_plain(file) for file in self.files]}
        return json.dumps(plain, sort_keys=True)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Receipt:
        """The inverse of `to_json`, as a mapping."""
        return cls(**{**given, "files": tuple(WrittenFile(**file) for file in given["files"])})


@dataclass
class LastSegment:
    """The number of the last segment that a driver knows of; None: it has not looked yet."""

    number: int | None = None


def append(
    output: Place,
    receipts: Iterable[Receipt],
    check: Callable[[], None] = lambda: None,
    last: LastSegment | None = None,
) -> None:
    """Write receipts as the next segment of the ledger, which replaces none.

    check: raises OutputError when the output is not held any more; last: so that segments are listed once. Raises
    OutputError.
    """
    lines = [receipt.to_json() for receipt in receipts]
    if not lines:
        return
    last = last or LastSegment()
    if last.number is None:
        last.number = max(ledger_segments(output), default=0)
    while True:
        check()
        try:
            with (output / ledger_segment(last.number + 1)).create(is_new=True) as file:
                file.write(("\n".join(lines) + "\n").encode())
        except FileExistsError:  # another driver's, or one that a list which lags behind did not have
            last.number = max([last.number + 1, *ledger_segments(output)])
        else:
            last.number += 1
            return


def keep(
    output: Place,
    receipts: Iterable[Receipt],
    check: Callable[[], None] = lambda: None,
    last: LastSegment | None = None,
) -> Generator[Receipt, None, None]:
    """Pass receipts on, and write them as segments, ever more seldom, and one at the end, whatever the end is."""
    waiting: list[Receipt] = []
    began = written = time.monotonic()
    last = last or LastSegment()
    try:
        for receipt in receipts:
            waiting.append(receipt)
            yield receipt
            now = time.monotonic()
            if now - written >= SEGMENT_SECONDS * min(1 + (now - began) // _SLOWER_SECONDS, _SLOWEST):
                append(output, waiting, check, last)
                waiting, written = [], time.monotonic()
    finally:
        append(output, waiting, check, last)


def read(output: Place, stage: str = CURATE) -> dict[str, Receipt]:
    """Task of a stage → its latest receipt. Raises OutputError when a segment is damaged."""
    return {receipt.task: receipt for receipt in entries(output, stage)}


def entries(output: Place, stage: str | None = None, last: LastSegment | None = None) -> Iterator[Receipt]:
    """All that was ever noted, in order, of all stages or one. Raises OutputError when a segment is damaged.

    last: gets to know the last segment.
    """
    numbers = ledger_segments(output)
    if last is not None:
        last.number = max(numbers, default=0)
    places = [output / ledger_segment(number) for number in numbers]
    for place, content in zip(places, at_once(_content, places), strict=True):
        with _intact(place):
            yield from _parsed(content, stage)


def latest_committed(output: Place, stages: Collection[str]) -> Receipt | None:
    """What was committed last of some stages. Raises OutputError when a segment is damaged."""
    for place in (output / ledger_segment(number) for number in reversed(ledger_segments(output))):
        with _intact(place):
            for receipt in reversed(list(_parsed(place.read(), None))):
                if receipt.stage in stages and receipt.state == COMMITTED:
                    return receipt
    return None


def _content(place: Place) -> bytes:
    with _intact(place):
        return place.read()


def _parsed(segment: bytes, stage: str | None) -> Iterator[Receipt]:
    of_stages, of_stage = b'"stage": ', f'"stage": {json.dumps(stage)}'.encode()
    for line in segment.splitlines():
        if stage and of_stages in line and of_stage not in line:
            continue  # to parse the lines of other stages would take most of the time
        receipt = Receipt.from_json(orjson.loads(line))
        if stage in (None, receipt.stage):
            yield receipt


@contextmanager
def _intact(place: Place) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise OutputError(
            f"{place}: this ledger segment is damaged ({error}); delete it: what is finished is found by its files"
        ) from error


def receipt_of(output: Place, last: str) -> Receipt | None:
    """The receipt in the footer of the file that a task writes last, if all its files are whole; None if not."""
    place = output / last
    try:
        if (found := place.find()) is None:
            return None
        metadata = read_footer(place)
        receipt = Receipt.from_json(json.loads((metadata.metadata or {})[FOOTER_KEY.encode()]))
        own = WrittenFile(last, found.size_bytes, place.checksum(), metadata.num_rows, found.etag)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):
        return None  # not a file that a finished task left: its work is done again
    files = [_as_it_is(output, file) for file in receipt.files]
    whole = tuple(file for file in files if file is not None)
    return replace(receipt, files=(*whole, own)) if len(whole) == len(files) else None


def is_whole(output: Place, receipt: Receipt) -> bool:
    """Whether the files of a receipt are what it describes; only those with another ETag are read for that."""
    return all(_as_it_is(output, file) is not None for file in receipt.files)


def _plain(value: Receipt | WrittenFile) -> dict[str, Any]:
    """Its fields by name."""
    return {name: getattr(value, name) for name in value.__slots__}


def _as_it_is(output: Place, file: WrittenFile) -> WrittenFile | None:
    """A file with its ETag of now, if it has the size and the bytes that it had."""
    place = output / file.path
    try:
        found = place.find()
        if found is None or found.size_bytes != file.size_bytes:
            return None
        is_same = found.etag == file.etag or place.checksum() == file.checksum
    except OSError:
        return None
    return replace(file, etag=found.etag) if is_same else None
