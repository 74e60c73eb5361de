"""The meter of a job: what it has done and taken so far, as its driver sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gneiss.backends.samples import Sample
from gneiss.output.cost import Cost
from gneiss.output.ledger import Receipt

#: Every metric, what kind it is, and what it means.
METRICS: Mapping[str, tuple[Literal["counter", "gauge"], str]] = {
    "gneiss_tasks_total": ("counter", "tasks that ended, by stage and by how"),
    "gneiss_tasks_left": ("gauge", "tasks of a stage that have not ended"),
    "gneiss_workers": ("gauge", "workers of a stage that have a place"),
    "gneiss_documents_total": ("counter", "documents, by what became of them"),
    "gneiss_text_bytes_total": ("counter", "bytes of input of the tasks that ended, by stage"),
    "gneiss_text_bytes_left": ("gauge", "bytes of input of the tasks of a stage that have not ended"),
    "gneiss_written_bytes_total": ("counter", "bytes of the files that tasks wrote, by stage"),
    "gneiss_task_seconds_total": ("counter", "wall time of the tasks that ended, by stage"),
    "gneiss_task_cpu_seconds_total": ("counter", "CPU time of the tasks that ended, and of getting ready, by stage"),
    "gneiss_slowest_task_seconds": ("gauge", "wall time of the slowest task of a stage"),
    "gneiss_worker_peak_memory_bytes": ("gauge", "the most memory that a worker has held"),
    "gneiss_driver_cpu_seconds_total": ("counter", "CPU time of the driver"),
    "gneiss_last_receipt_timestamp_seconds": ("gauge", "when the latest task ended, in Unix time"),
}
#: What becomes of documents: of a run; of an extraction.
_FATES = {**{fate: fate for fate in ("kept", "dropped", "quarantined", "skipped")}, "documents": "extracted"}


_Labels: TypeAlias = tuple[tuple[str, str], ...]


@dataclass
class Meter:
    """What a job has done since its driver began. run: a label of all samples."""

    run: str
    _started: float = field(default_factory=time.monotonic)
    _started_cpu: float = field(default_factory=time.process_time)
    _values: dict[str, dict[_Labels, float]] = field(default_factory=lambda: {name: {} for name in METRICS})

    def begin(self, note: Receipt) -> None:
        """A stage begins."""
        stage = (("stage", note.task),)
        self.crew(note.task, note.counts["workers"])
        self._values["gneiss_tasks_left"][stage] = note.counts["left"]
        self._values["gneiss_text_bytes_left"][stage] = note.counts["left_bytes"]

    def crew(self, stage: str, workers: int) -> None:
        """A stage has this many workers now."""
        self._values["gneiss_workers"] = {(("stage", stage),): workers}

    def add(self, receipt: Receipt) -> None:
        """A task has ended."""
        cost, stage = receipt.cost, (("stage", receipt.stage),)
        size = cost.get("input_bytes", 0.0)
        self._add("gneiss_tasks_total", (*stage, ("state", receipt.state)), 1)
        self._add("gneiss_tasks_left", stage, -1)
        self._add("gneiss_text_bytes_total", stage, size)
        self._add("gneiss_text_bytes_left", stage, -size)
        self._add("gneiss_written_bytes_total", stage, sum(file.size_bytes for file in receipt.files))
        for fate in receipt.counts.keys() & _FATES.keys():
            self._add("gneiss_documents_total", (("status", _FATES[fate]),), receipt.counts[fate])
        self._add("gneiss_task_seconds_total", stage, cost.get("seconds", 0.0))
        self._add("gneiss_task_cpu_seconds_total", stage, cpu_seconds_of(receipt))
        self._raise("gneiss_slowest_task_seconds", stage, cost.get("seconds", 0.0))
        self._raise("gneiss_worker_peak_memory_bytes", (), cost.get("peak_bytes", 0.0))
        self._raise("gneiss_last_receipt_timestamp_seconds", (), cost.get("at", 0.0))

    @property
    def has_worked(self) -> bool:
        """Whether any task has ended."""
        return bool(self._values["gneiss_tasks_total"])

    def cost(self) -> Cost:
        """What it has taken so far."""
        return Cost(
            time.monotonic() - self._started,
            sum(self._values["gneiss_task_cpu_seconds_total"].values()) + self._driver_cpu_seconds(),
            max(self._values["gneiss_worker_peak_memory_bytes"].values(), default=0.0),
            sum(self._values["gneiss_written_bytes_total"].values()),
        )

    def samples(self) -> Iterator[Sample]:
        """All metrics that have a value."""
        self._values["gneiss_driver_cpu_seconds_total"] = {(): self._driver_cpu_seconds()}
        for name, (kind, meaning) in METRICS.items():
            for labels, value in self._values[name].items():
                yield Sample(name, kind, meaning, value, {"run": self.run, **dict(labels)})

    def _add(self, name: str, labels: _Labels, value: float) -> None:
        self._values[name][labels] = self._values[name].get(labels, 0.0) + value

    def _raise(self, name: str, labels: _Labels, value: float) -> None:
        self._values[name][labels] = max(self._values[name].get(labels, 0.0), value)

    def _driver_cpu_seconds(self) -> float:
        return time.process_time() - self._started_cpu


def cpu_seconds_of(receipt: Receipt) -> float:
    """The CPU time of a task, and of its worker in getting ready for it."""
    return receipt.cost.get("cpu_seconds", 0.0) + receipt.cost.get("ready_cpu_seconds", 0.0)
