"""The driver of a job: it holds the output, knows what is finished, runs tasks, and keeps their receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gneiss.backends import Step, Task, Workers
from gneiss.jobs.progress import Progress
from gneiss.jobs.resume import JobTask, Kind, finished_tasks
from gneiss.output import ledger
from gneiss.output.claim import claim
from gneiss.output.ledger import Receipt


@dataclass(frozen=True)
class Job:
    """A job whose output is held by this driver."""

    output: Path
    progress: Progress

    def finished(self, kind: Kind, tasks: Sequence[JobTask]) -> dict[str, Receipt]:
        """Receipts of the tasks that need no more work, by id. Raises OutputError; see `finished_tasks`."""
        done, adopted = finished_tasks(self.output, kind, tasks)
        ledger.append(self.output, adopted)
        return done

    def run(self, workers: Workers, step: Step[Task, Receipt], tasks: Sequence[Task]) -> dict[str, Receipt]:
        """Run tasks; their receipts by id go to the ledger as they come. Raises GneissError."""
        done: dict[str, Receipt] = {}
        with closing(workers.run(step, tasks)) as receipts, closing(ledger.keep(self.output, receipts)) as kept:
            for receipt in kept:
                done[receipt.task] = receipt
                self.progress.finished(receipt)
        return done

    def run_stage(self, workers: Workers, name: str, step: Step[int, Receipt], tasks: Sequence[int]) -> None:
        """Run what is left of a stage whose tasks are numbered; nothing where nothing is left. Raises GneissError."""
        if tasks:
            self.progress.stage(name, len(tasks))
            self.run(workers, step, tasks)


@contextmanager
def open_job(
    output: Path,
    identity: Mapping[str, object],
    progress: Progress,
    first: Mapping[str, bytes] = MappingProxyType({}),
) -> Iterator[Job]:
    """Hold an output for a job; see `claim`. Raises OutputError."""
    with claim(output, identity, first):
        yield Job(output, progress)
