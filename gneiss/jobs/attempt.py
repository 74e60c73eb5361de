"""An attempt: a task as a worker runs it, timed; what it raises becomes a receipt, unless it concerns the whole run."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic

from gneiss.backends import Step, Task, bytes_of, fields_of
from gneiss.backends.care import watch
from gneiss.backends.memory import peak_bytes
from gneiss.errors import DefectError, GneissError, InputError, format_traceback
from gneiss.jobs.defects import Defect, collected_defects
from gneiss.jobs.logs import LOGGER, LogSettings, log_fields
from gneiss.output.ledger import FAILED, Receipt

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """What the driver gets for a task: its receipt, and the defects met on the way."""

    receipt: Receipt
    defects: tuple[Defect, ...] = ()


@dataclass(frozen=True)
class AttemptStep(Generic[Task]):
    """A step as workers run it.

    stage, run: what logs say of it; logs: how a worker without a log of its own logs.
    """

    step: Step[Task, Receipt]
    stage: str
    run: str
    logs: LogSettings

    def open(self) -> Callable[[Task], Attempt]:
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

    def lost(self, task: Task, reason: str) -> Attempt:
        """See Step."""
        return Attempt(self.step.lost(task, reason))

    def _attempt(self, work: Callable[[Task], Receipt], ready_cpu_seconds: list[float], task: Task) -> Attempt:
        """ready_cpu_seconds: what getting ready took, until a receipt has said so."""
        wall, cpu = time.perf_counter(), _cpu_seconds()
        fields = {"run": self.run, "stage": self.stage, **fields_of(task)}
        with log_fields(**fields), collected_defects() as defects:
            receipt = self._receipt(work, task)
        cost: dict[str, float] = {"seconds": time.perf_counter() - wall, "cpu_seconds": _cpu_seconds() - cpu}
        cost["peak_bytes"] = peak_bytes()
        if ready_cpu_seconds:
            cost["ready_cpu_seconds"] = ready_cpu_seconds.pop()
        if size := bytes_of(task):
            cost["input_bytes"] = size
        died_of = [Defect(f"{end.work}: {end.did}", end.last_words) for end in watch().care.blamed()]
        found = tuple(replace(defect, fields=fields) for defect in (*defects.values(), *died_of))
        return Attempt(replace(receipt, cost=cost), found)

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
