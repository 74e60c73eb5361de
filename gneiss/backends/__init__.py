"""Backends: one verb, `run(step, tasks, workers) -> receipts`, in two forms: local processes and Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from gneiss.backends.resources import Resources
from gneiss.backends.samples import Sample

Task = TypeVar("Task")
Done = TypeVar("Done")
_Taken = TypeVar("_Taken", contravariant=True)
_Given = TypeVar("_Given", covariant=True)
#: How often a worker may die of its task (out of memory, a crash, a hang) before the task is given up.
MOST_ATTEMPTS = 3
#: How often all workers may be lost with machines, or to somebody who kills them, before new ones have to wait.
MOST_LOSSES = 3
#: CPU seconds that code which is not ours may take for a document, and for each MB of text beside.
DOCUMENT_SECONDS = 30.0


class Step(Protocol[_Taken, _Given]):
    """The work of a stage: a picklable value that a worker opens once, then applies to task after task."""

    def open(self) -> Callable[[_Taken], _Given]:
        """Once per worker: load what all tasks need."""

    def lost(self, task: _Taken, reason: str) -> _Given:
        """What to report for a task that its workers died of, every time."""


def fields_of(task: object) -> dict[str, str]:
    """What logs call a task: a shard by its id, any other by its number."""
    return {"shard": str(task.id)} if hasattr(task, "id") else {"task": str(task)}


def bytes_of(task: object) -> int:
    """The bytes of input of a task: text of a shard, those of an archive; none of a task that is a number."""
    return int(getattr(task, "text_bytes", getattr(task, "size_bytes", 0)))


@dataclass(frozen=True)
class Patience:
    """How long a driver waits, in seconds.

    look: between two looks at its workers; say: before it says that one has no place, or gives no sign of life; kill:
    before it kills such a one; place: for the first place of any worker; join: before it asks again for how many
    workers there is room; end: for workers to end when they are asked to. A worker gives a sign of life by using this
    share of a CPU, itself or its children; none is needed of one that waits for storage. A long task is no reason to
    kill: there is no limit for it; long: before it says where one is. document: CPU seconds that a filter may take for
    a document, and for each MB of text beside; document_waits: how often as much of wall time, as one may sleep;
    back_off: the longest wait for new workers.
    """

    look_seconds: float = 15.0
    say_seconds: float = 60.0
    kill_seconds: float = 600.0
    place_seconds: float = 3600.0
    join_seconds: float = 3.0
    end_seconds: float = 5.0
    busy_share: float = 0.01
    long_seconds: float = 1800.0
    document_seconds: float = DOCUMENT_SECONDS
    document_waits: float = 10.0
    back_off_seconds: float = 60.0


@dataclass(frozen=True)
class Room:
    """How many workers have a place: by CPUs, and by memory."""

    by_cpus: int
    by_memory: int


@dataclass
class Headcount:
    """The workers of a stage that have a place now; is_over: nobody needs them any more."""

    now: int = 0
    is_over: bool = False


@dataclass(frozen=True)
class Workers:
    """The workers of a job: where they live, how many there are, and what each asks for."""

    backend: Backend
    count: int
    resources: Resources

    def run(self, step: Step[Task, Done], tasks: Sequence[Task]) -> Generator[Done, None, None]:
        """Apply a step to all tasks; see Backend."""
        return self.backend.run(step, tasks, min(self.count, len(tasks)), self.resources)

    @contextmanager
    def kept(self) -> Iterator[Workers]:
        """These workers, which live on from stage to stage until the block ends."""
        with self.backend.kept() as backend:
            yield replace(self, backend=backend)


class Backend(Protocol):
    """Where workers live."""

    def room(self, resources: Resources) -> Room:
        """How many workers fit that ask for these resources each."""

    def admit(self, workers: int, resources: Resources, local: Sequence[str]) -> None:
        """Refuse workers that no machine has the memory for, and machines that may not see all files.

        local: paths of machines that workers read or write. Raises MachineError.
        """

    def show(self, samples: Iterable[Sample]) -> None:
        """Show what a job has done to those who watch the machines, if anybody does."""

    def present(self) -> int:
        """How many workers have a place now."""

    def stop(self) -> None:
        """End the runs under way, in other threads, at their next look: nobody needs what is left of them."""

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """Apply a step to all tasks with this many workers; yields in order of completion, and ends them when closed.

        Raises GneissError when a worker cannot be opened or a task meets an error that concerns the whole run.
        """

    def kept(self) -> AbstractContextManager[Backend]:
        """This backend, whose workers live on when a run ends, for the next one, until the block ends."""
