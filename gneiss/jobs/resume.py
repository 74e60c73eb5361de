"""Resume: which tasks of a job are finished, by the ledger and by the footers of files that it does not know yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gneiss.backends.resources import Peaks
from gneiss.errors import OutputError
from gneiss.output import ledger
from gneiss.output.ledger import COMMITTED, LastSegment, Receipt
from gneiss.store.at_once import at_once
from gneiss.store.place import Place
from gneiss.store.store import File


class JobTask(Protocol):
    """What a job is made of: a shard, or an archive. `file`: the input file that a message names."""

    @property
    def id(self) -> str: ...
    @property
    def file(self) -> Place: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def etag(self) -> str: ...


@dataclass(frozen=True)
class Kind:
    """A kind of job: the name of its main stage, what a task is called, and where tasks leave their files.

    last: task → the file that it writes last, whose footer holds its receipt; files: output → each file that is there
    of a task, finished or not: the task, its path, and the file.
    """

    stage: str
    task: str
    last: Callable[[str], str]
    files: Callable[[Place], Iterable[tuple[str, str, File]]]


def finished_tasks(
    output: Place, kind: Kind, tasks: Sequence[JobTask], peaks: Peaks, last: LastSegment | None = None
) -> tuple[dict[str, Receipt], list[Receipt]]:
    """Receipts of finished tasks: all of them by id, and those found in footers that the ledger does not know yet.

    A receipt is believed as long as its files are what it describes: all files are listed at once, and only those that
    are not as the ledger says are looked at. peaks: gets what they took; last: the last segment of the ledger. Raises
    OutputError when an input file has changed since, or when the output holds tasks that the input lacks.
    """
    known, broken, held = _known_and_held(output, kind, peaks, last)
    if lacking := {*known, *held}.difference(task.id for task in tasks):
        raise OutputError(
            f"{output}: it holds {len(lacking)} {kind.task}s that this input lacks, first {min(lacking)!r};"
            " give the same input, or another output"
        )
    unknown = [task.id for task in tasks if task.id in held and task.id not in known]
    found = at_once(lambda id_: ledger.receipt_of(output, kind.last(id_)), unknown)
    adopted = {receipt.task: receipt for receipt in found if receipt}
    done: dict[str, Receipt] = {}
    for task in tasks:
        receipt = known.get(task.id) or adopted.get(task.id)
        if receipt is None or task.id in broken:
            continue
        if receipt.fingerprint != task.fingerprint:
            raise OutputError(
                f"{task.file}: this is no longer the file that {output} was made from; choose another output"
            )
        if receipt.etag not in (None, task.etag):
            raise OutputError(
                f"{task.file}: the file was modified after {output} was made from it; choose another output"
            )
        done[task.id] = receipt if task.id in known else receipt.remembered()
    return done, list(adopted.values())


def _known_and_held(
    output: Place, kind: Kind, peaks: Peaks, last: LastSegment | None
) -> tuple[dict[str, Receipt], set[str], set[str]]:
    """The receipts of the ledger, without their files; those whose files are not as it says; tasks of other files."""
    known: dict[str, Receipt] = {}
    marks: dict[str, int] = {}  # 0 where the files that are listed are those of the receipt
    for receipt in ledger.entries(output, kind.stage, last):
        known[receipt.task], marks[receipt.task] = receipt.remembered(), 0
        peaks.add(*receipt.peak)
        for file in receipt.files:
            marks[receipt.task] ^= hash((file.path, file.size_bytes, file.etag))
    for id_ in [id_ for id_, receipt in known.items() if receipt.state != COMMITTED]:
        del known[id_], marks[id_]
    held, broken = set[str](), set[str]()
    for id_, path, listed in kind.files(output):
        if id_ in marks:
            marks[id_] ^= hash((path, listed.size_bytes, listed.etag))
        else:
            held.add(id_)
    if doubtful := {id_ for id_, mark in marks.items() if mark}:
        latest = {entry.task: entry for entry in ledger.entries(output, kind.stage) if entry.task in doubtful}
        whole = at_once(lambda receipt: ledger.is_whole(output, receipt), latest.values())
        broken = {id_ for id_, is_whole in zip(latest, whole, strict=True) if not is_whole}
    return known, broken, held
