"""Backends: one verb, `run(step, tasks, workers) -> receipts`, in two forms: local processes and Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gneiss.backends.resources import Resources

Task = TypeVar("Task")
Done = TypeVar("Done")
_Taken = TypeVar("_Taken", contravariant=True)
_Given = TypeVar("_Given", covariant=True)
#: How often a task may lose its worker (killed, out of memory, machine gone) before it is given up.
MOST_ATTEMPTS = 3


class Step(Protocol[_Taken, _Given]):
    """The work of a stage: a picklable value that a worker opens once, then applies to task after task."""

    def open(self) -> Callable[[_Taken], _Given]:
        """Once per worker: load what all tasks need."""

    def lost(self, task: _Taken, reason: str) -> _Given:
        """What to report for a task whose worker died every time."""


@dataclass(frozen=True)
class Room:
    """How many workers have a place: by CPUs, and by memory."""

    by_cpus: int
    by_memory: int


@dataclass(frozen=True)
class Workers:
    """The workers of a job: where they live, how many there are, and what each asks for."""

    backend: Backend
    count: int
    resources: Resources

    def run(self, step: Step[Task, Done], tasks: Sequence[Task]) -> Generator[Done, None, None]:
        """Apply a step to all tasks; see Backend."""
        return self.backend.run(step, tasks, min(self.count, len(tasks)), self.resources)


class Backend(Protocol):
    """Where workers live."""

    def room(self, resources: Resources) -> Room:
        """How many workers fit that ask for these resources each."""

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """Apply a step to all tasks with this many workers; yields in order of completion, and ends them when closed.

        Raises GneissError when a worker cannot be opened or a task meets an error that concerns the whole run.
        """
