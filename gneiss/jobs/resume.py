"""Resume: which tasks of a job are finished, by the ledger and by the footers of files that it does not know yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from gneiss.errors import OutputError
from gneiss.output import ledger
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.store.place import Place


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

    last: task → the file that it writes last, whose footer holds its receipt; held: output → the tasks of which it has
    any file, finished or not.
    """

    stage: str
    task: str
    last: Callable[[str], str]
    held: Callable[[Place], Collection[str]]


def finished_tasks(output: Place, kind: Kind, tasks: Sequence[JobTask]) -> tuple[dict[str, Receipt], list[Receipt]]:
    """Receipts of finished tasks: all of them by id, and those found in footers that the ledger does not know yet.

    A receipt is believed as long as its files are what it describes. Raises OutputError when an input file has changed
    since, or when the output holds tasks that the input lacks.
    """
    known = {id_: found for id_, found in ledger.read(output, kind.stage).items() if found.state == COMMITTED}
    held = kind.held(output)
    if lacking := {*known, *held} - {task.id for task in tasks}:
        raise OutputError(
            f"{output}: it holds {len(lacking)} {kind.task}s that this input lacks, first {min(lacking)!r};"
            " give the same input, or another output"
        )
    done: dict[str, Receipt] = {}
    adopted: list[Receipt] = []
    for task in tasks:
        if receipt := known.get(task.id):  # which also knows the checksum of the file whose footer says the rest
            if not ledger.is_whole(output, receipt):
                continue
        elif task.id in held and (receipt := ledger.receipt_of(output, kind.last(task.id))):
            adopted.append(receipt)
        else:
            continue
        if receipt.fingerprint != task.fingerprint:
            raise OutputError(
                f"{task.file}: this is no longer the file that {output} was made from; choose another output"
            )
        if receipt.etag not in (None, task.etag):
            raise OutputError(
                f"{task.file}: the file was modified after {output} was made from it; choose another output"
            )
        done[task.id] = receipt
    return done, adopted
