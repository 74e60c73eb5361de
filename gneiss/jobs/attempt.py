"""An attempt: a task as a worker runs it, timed; what it raises becomes a receipt, unless it concerns the whole run."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, cast

from gneiss.backends import Step, Task, bytes_of, fields_of
from gneiss.backends.care import NO_CARE, watch
from gneiss.backends.memory import peak_bytes
from gneiss.errors import DefectError, GneissError, InputError, OutputError, StoreError, format_traceback
from gneiss.jobs.bundle import Bundle, BundleWork
from gneiss.jobs.defects import Defect, collected_defects
from gneiss.jobs.logs import LOGGER, LogSettings, log_fields
from gneiss.output.ledger import FAILED, Receipt

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """What the driver gets for a task: its receipt, or one for each of a bundle, and the defects met on the way.

    apart: the tasks of a bundle that its workers died of: which of them it was shows when each is done by itself.
    """

    receipts: Sequence[Receipt]
    defects: Sequence[Defect] = ()
    apart: Sequence[Any] = ()


@dataclass(frozen=True)
class AttemptStep(Generic[Task]):
    """A step as workers run it.

    stage, run: what logs say of it; logs: how a worker without a log of its own logs.
    """

    step: Step[Task, Receipt]
    stage: str
    run: str
    logs: LogSettings

    def open(self) -> Callable[[Task | Bundle[Task]], Attempt]:
        """Open the step. Raises GneissError, of any unexpected exception DefectError."""
        started, cpu = time.perf_counter(), _cpu_seconds()
        if not LOGGER.hasHandlers():  # a new worker process, which has done nothing but get ready
            self.logs.apply()
            cpu = 0.0
        with log_fields(run=self.run, stage=self.stage):
            try:
                work = self.step.open()
            except GneissError:
                raise
            except Exception as error:
                raise DefectError.of("a worker cannot start", error) from error
            _log.info("a worker is ready after %.1f s", time.perf_counter() - started)
        return partial(self._attempt, work, [_cpu_seconds() - cpu])

    def lost(self, task: Task | Bundle[Task], reason: str) -> Attempt:
        """See Step."""
        if isinstance(task, Bundle):
            return Attempt((), apart=task.tasks)
        return Attempt([self.step.lost(task, reason)])

    def _attempt(
        self, work: Callable[[Task], Receipt], ready_cpu_seconds: list[float], task: Task | Bundle[Task]
    ) -> Attempt:
        """ready_cpu_seconds: what getting ready took, until a receipt has said so."""
        tasks = task.tasks if isinstance(task, Bundle) else (task,)
        wall, cpu = time.perf_counter(), _cpu_seconds()
        fields = {"run": self.run, "stage": self.stage, **fields_of(task)}
        with log_fields(**fields), collected_defects() as defects:
            done = self._together(work, tasks) if len(tasks) > 1 else [None]
            receipts = [receipt or self._receipt(work, one) for receipt, one in zip(done, tasks, strict=True)]
        seconds, cpu_seconds = time.perf_counter() - wall, _cpu_seconds() - cpu
        each = {"seconds": seconds / len(tasks), "cpu_seconds": cpu_seconds / len(tasks), "peak_bytes": peak_bytes()}
        costs = [each | ({"input_bytes": size} if (size := bytes_of(one)) else {}) for one in tasks]
        if ready_cpu_seconds:
            costs[0]["ready_cpu_seconds"] = ready_cpu_seconds.pop()
        died_of = [Defect(f"{end.work}: {end.did}", end.last_words) for end in watch().care.blamed()]
        found = tuple(replace(defect, fields=fields) for defect in (*defects.values(), *died_of))
        return Attempt([replace(receipt, cost=cost) for receipt, cost in zip(receipts, costs, strict=True)], found)

    def _together(self, work: Callable[[Task], Receipt], tasks: Sequence[Task]) -> Sequence[Receipt | None]:
        """The receipts of the tasks that could be done together, unless a worker died of this."""
        if watch().care == NO_CARE:
            try:
                return cast("BundleWork[Task]", work).together(tasks)
            except (StoreError, OutputError):
                raise  # concern the run
            except Exception as error:  # noqa: BLE001 - each is done by itself, and meets its own error again
                _log.info("%d tasks are done one by one: %s: %s", len(tasks), type(error).__name__, error)
        return [None] * len(tasks)

    def _receipt(self, work: Callable[[Task], Receipt], task: Task) -> Receipt:
        try:
            return work(task)
        except InputError as error:
            return self.step.lost(task, str(error))
        except MemoryError:
            return self.step.lost(task, "out of memory; use fewer workers, or smaller shards")
        except DefectError as error:
            error.traceback = error.traceback or format_traceback(error)
            raise
        except GneissError:
            raise  # concerns the run: a full disk, a rule that fails
        except Exception as error:  # noqa: BLE001 - kept with its traceback
            reason = f"{type(error).__name__}: {error}"
            _log.exception("%s failed: %s", self.stage, reason)
            try:
                return replace(self.step.lost(task, reason), state=FAILED)
            except GneissError as fatal:  # the run cannot go on without this task
                raise DefectError(str(fatal), format_traceback(error)) from error


def _cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
