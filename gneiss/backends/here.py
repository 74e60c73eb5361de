"""No workers: one task after another, in the process of the driver."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from gneiss.backends import Backend, Done, Patience, Room, Step, Task
from gneiss.backends.resources import Resources
from gneiss.backends.samples import Sample


@dataclass(frozen=True)
class InThisProcess:
    """The simplest backend: nothing is started, and nothing outlives or restarts what dies of a task."""

    patience: Patience = field(default_factory=Patience)
    grows: bool = False

    def room(self, resources: Resources) -> Room:
        """Room for one."""
        return Room(1, 1)

    def admit(self, workers: int, resources: Resources, local: Sequence[str]) -> None:
        """Any number: they are one."""

    def show(self, samples: Iterable[Sample]) -> None:
        """Nobody watches."""

    def present(self) -> int:
        """One."""
        return 1

    def stop(self) -> None:
        """Nothing is under way that would wait for anything."""

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """One task after another."""
        work = step.open()
        for task in tasks:
            yield work(task)

    def kept(self) -> AbstractContextManager[Backend]:
        """Itself."""
        return nullcontext(self)
