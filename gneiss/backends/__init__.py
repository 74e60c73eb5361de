"""Backends: one verb, `run(step, tasks, workers) -> receipts`, in two forms: local processes and Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Done = TypeVar("Done")
#: How often a task may lose its worker (killed, out of memory, machine gone) before it is given up.
MOST_ATTEMPTS = 3


class Step(Protocol[Task, Done]):
    """A unit of order in a run: a picklable value that a worker opens once, then applies to task after task."""

    def open(self) -> Callable[[Task], Done]:
        """Once per worker: load what all tasks need."""

    def lost(self, task: Task, reason: str) -> Done:
        """What to report for a task whose worker died every time."""


class Backend(Protocol):
    """Where workers live."""

    def run(self, step: Step[Task, Done], tasks: Sequence[Task], workers: int) -> Iterator[Done]:
        """Apply a step to all tasks with so many workers; yields in order of completion.

        Raises GneissError when a worker cannot be opened or a task meets an error that concerns the whole run.
        """
