"""The driver of a job: it holds the output, knows what is finished, runs tasks, keeps their receipts and defects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

from gneiss.backends import Step, Task, Workers, bytes_of, fields_of
from gneiss.backends.resources import Peaks
from gneiss.errors import DefectError, GneissError
from gneiss.input.plan import run_key
from gneiss.jobs.attempt import Attempt, AttemptStep
from gneiss.jobs.bundle import Bundle, each
from gneiss.jobs.defects import Defect, Defects
from gneiss.jobs.logs import LogSettings, log_fields
from gneiss.jobs.meter import Meter
from gneiss.jobs.progress import Progress
from gneiss.jobs.resume import JobTask, Kind, finished_tasks
from gneiss.output import ledger
from gneiss.output.claim import Share, claim
from gneiss.output.ledger import BEGUN, COMMITTED, ENDED, LastSegment, Receipt
from gneiss.output.running import Running
from gneiss.store.place import Place

#: How often who waits for the drivers of other shares looks for their files, at first and at last; says for whom.
LOOK_SECONDS, MOST_LOOK_SECONDS, SAY_SECONDS = 2.0, 30.0, 60.0
_log = logging.getLogger(__name__)


#: Who publishes what a job has done; called every few seconds in which a task ends.
Publish: TypeAlias = Callable[[Meter], None]


def unpublished(meter: Meter) -> None:
    """Nobody does."""


@dataclass(frozen=True)
class Job:
    """A job whose output is held by this driver.

    run: what logs call it, the beginning of its run key; check: raises OutputError when it is not held any more; share:
    what of it this driver does, while others do theirs; None: all of it; publish: see `open_job`; peaks: of
    the memory of its tasks, by this driver and by those before it.
    """

    output: Place
    run: str
    progress: Progress
    defects: Defects
    meter: Meter
    check: Callable[[], None] = lambda: None
    share: Share | None = None
    publish: Publish = unpublished
    peaks: Peaks = field(default_factory=Peaks)
    last: LastSegment = field(default_factory=LastSegment)

    def has(self, number: int) -> bool:
        """Whether a task of a stage, by its number, is one for this driver."""
        return self.share is None or self.share.has(number)

    def wait_for_others(self, stage: str, unfinished: Callable[[], Collection[int]]) -> None:
        """Wait until other drivers have finished their tasks of a stage, of which some are unfinished by number."""
        began = time.monotonic()
        said = began - SAY_SECONDS
        while self.share and (numbers := unfinished()):
            self.check()
            if time.monotonic() - said >= SAY_SECONDS:
                said, owners = time.monotonic(), sorted({number % self.share.of for number in numbers})
                named = ", ".join(map(str, owners[:8])) + (" …" if len(owners) > 8 else "")
                _log.warning("stage %s: waiting for %d tasks of share %s", stage, len(numbers), named)
            waited = time.monotonic() - began
            time.sleep(
                max(LOOK_SECONDS, min(waited / 10, MOST_LOOK_SECONDS))
            )  # each look reads a ledger or lists files

    def finished(self, kind: Kind, tasks: Sequence[JobTask]) -> dict[str, Receipt]:
        """Receipts of the tasks that need no more work, by id. Raises OutputError; see `finished_tasks`."""
        done, adopted = finished_tasks(self.output, kind, tasks, self.peaks, self.last)
        self.note(adopted)
        return done

    def note(self, receipts: Iterable[Receipt]) -> None:
        """Write receipts to the ledger. Raises OutputError."""
        ledger.append(self.output, receipts, self.check, self.last)

    def run_tasks(
        self,
        workers: Workers,
        stage: str,
        step: Step[Task, Receipt],
        tasks: Sequence[Task | Bundle[Task]],
        of: int | None = None,
    ) -> dict[str, Receipt]:
        """Run tasks of a stage; their receipts by id go to the ledger as they come. Raises GneissError.

        of: how many the stage has, with those that are finished already.
        """
        done: dict[str, Receipt] = {}
        single = each(tasks)
        begun = _begun(stage, tasks, len(single) if of is None else of, workers.count, self.share)
        self.note([begun])
        self.meter.begin(begun)
        self._publish(workers)
        watched = time.monotonic()
        running = Running(self.output, f"{self.share or ''}", stage)
        attempting = AttemptStep(step, stage, self.run, LogSettings.of_this_process())
        attempts = _attempts(workers, attempting, tasks, running)
        with (
            log_fields(stage=stage),
            closing(running),
            closing(attempts),
            closing(self._receipts(attempts)) as receipts,
            closing(ledger.keep(self.output, receipts, self.check, self.last)) as kept,
        ):
            _log.info("%d tasks for %d workers", len(single), min(workers.count, len(tasks)))
            for receipt in kept:
                self.check()
                done[receipt.task] = receipt.remembered()
                self.meter.add(receipt)
                self.peaks.add(*receipt.peak)
                _log_receipt(receipt, len(done), len(single))
                self.progress.finished(receipt)
                if time.monotonic() - watched >= ledger.SEGMENT_SECONDS:
                    self.meter.crew(stage, workers.backend.present())
                    self._publish(workers)
                    watched = time.monotonic()
        self._publish(workers)
        return done

    def _publish(self, workers: Workers) -> None:
        self.publish(self.meter)
        workers.backend.show(self.meter.samples())

    def run_stage(
        self, workers: Workers, stage: str, step: Step[int, Receipt], tasks: Sequence[int], of: int | None = None
    ) -> None:
        """Run what is left of a stage whose tasks are numbered; nothing where nothing is left. Raises GneissError."""
        if tasks:
            self.progress.stage(stage, len(tasks))
            self.run_tasks(workers, stage, step, tasks, of)

    def _receipts(self, attempts: Iterable[Attempt]) -> Generator[Receipt, None, None]:
        for attempt in attempts:
            for defect in attempt.defects:
                self.defects.keep(defect)
            for receipt in attempt.receipts:
                yield replace(receipt, cost={**receipt.cost, **_now()})


@contextmanager
def open_job(
    output: Place,
    identity: Mapping[str, object],
    progress: Progress,
    first: Mapping[str, bytes] = MappingProxyType({}),
    share: Share | None = None,
    patience_seconds: float = 0.0,
    publish: Publish = unpublished,
    meter: Meter | None = None,
    noted: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Job]:
    """Hold an output for a job; see `claim`. The traceback of a defect that ends it is kept. Raises OutputError.

    publish: called every few seconds in which a task ends, and when a stage begins or ends; meter: of a job of this
    driver that this one goes on with.
    """
    with claim(output, identity, first, share, patience_seconds, noted) as check:
        run = run_key(identity)[:12]
        job = Job(output, run, progress, Defects(output), meter or Meter(run), check, share, publish)
        with log_fields(run=job.run):
            try:
                yield job
                if job.meter.has_worked:
                    job.note([Receipt(run, COMMITTED, "", None, cost=job.meter.cost().noted() | _now(), stage=ENDED)])
            except DefectError as error:
                job.defects.keep(Defect(str(error), error.traceback, {"run": job.run}))
                raise
            except GneissError:
                raise
            except Exception as error:
                raised = DefectError.of("the driver failed", error)
                job.defects.keep(Defect(str(raised), raised.traceback, {"run": job.run}), quote=False)
                raise


def _attempts(
    workers: Workers, step: AttemptStep[Task], tasks: Sequence[Task | Bundle[Task]], running: Running
) -> Generator[Attempt, None, None]:
    """The attempts at tasks; at the end, one by one, those of bundles that workers died of."""
    while tasks:
        apart: list[Task] = []
        running.begin(map(_names, tasks), workers.count)
        with closing(workers.run(step, tasks)) as attempts:
            for attempt in attempts:
                apart += attempt.apart
                yield attempt
                running.finished([*(receipt.task for receipt in attempt.receipts), *map(_name, attempt.apart)])
        tasks = apart


def _names(task: Task | Bundle[Task]) -> list[str]:
    return [_name(one) for one in each([task])]


def _name(task: object) -> str:
    (name,) = fields_of(task).values()
    return name


def _begun(stage: str, tasks: Sequence[Task | Bundle[Task]], of: int, workers: int, share: Share | None) -> Receipt:
    """The note that a stage begins, with these tasks left, for the driver of a share; first: handed out at first."""
    left = each(tasks)
    counts = {
        "tasks": of,
        "left": len(left),
        "left_bytes": sum(map(bytes_of, left)),
        "first": len(each(tasks[:workers])),
        "workers": min(workers, len(tasks)),
    }
    return Receipt(stage, COMMITTED, f"{share or ''}", None, counts, cost=_now(), stage=BEGUN)


def _now() -> dict[str, float]:
    return {"at": time.time()}


def _log_receipt(receipt: Receipt, done: int, tasks: int) -> None:
    """Say what became of a task."""
    seconds = receipt.cost.get("seconds", 0.0)
    became = "finished" if receipt.state == COMMITTED else f"{receipt.state}: {receipt.reason}"
    fields = {"shard": receipt.task, "rows": receipt.rows, "seconds": round(seconds, 3), "done": done, "of": tasks}
    _log.info("%s of %s tasks: %s %s", done, tasks, receipt.task, became, extra=fields)
