"""Backends: one verb, `run(step, tasks, workers) -> receipts`, in two forms: local processes and Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Done = TypeVar("Done")
_Taken = TypeVar("_Taken", contravariant=True)
_Given = TypeVar("_Given", covariant=True)
#: How often a task may lose its worker (killed, out of memory, machine gone) before it is given up.
MOST_ATTEMPTS = 3


class Step(Protocol[_Taken, _Given]):
    """A unit of order in a run: a picklable value that a worker opens once, then applies to task after task."""

    def open(self) -> Callable[[_Taken], _Given]:
        """Once per worker: load what all tasks need."""

    def lost(self, task: _Taken, reason: str) -> _Given:
        """What to report for a task whose worker died every time."""


@dataclass(frozen=True)
class Room:
    """How many workers have a place: by CPUs, and by memory."""

    by_cpus: int
    by_memory: int


class Backend(Protocol):
    """Where workers live."""

    def room(self) -> Room:
        """How many workers fit."""

    def run(self, step: Step[Task, Done], tasks: Sequence[Task], workers: int) -> Generator[Done, None, None]:
        """Apply a step to all tasks with so many workers; yields in order of completion, and ends them when closed.

        Raises GneissError when a worker cannot be opened or a task meets an error that concerns the whole run.
        """
