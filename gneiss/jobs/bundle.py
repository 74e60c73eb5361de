"""Bundles: small tasks that one worker does together, since what each costs by itself is more than its data costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gneiss.backends import Task, bytes_of
from gneiss.output.ledger import Receipt

_Task = TypeVar("_Task", contravariant=True)
#: The most tasks and bytes of a bundle. What a bundle of small tasks holds in memory is little beside what any worker
#: needs.
MOST_TASKS, MOST_BYTES = 256, 16_000_000
#: Tasks that wait for a network are in bundles too, where each is read while the one before it is done. Those larger
#: than this are in bundles of their own, of so many bytes.
SMALL_BYTES, MOST_AHEAD_BYTES = 1_000_000, 256_000_000
#: How many bundles a worker gets at least, and how many of those that are left, so that none runs out of work long
#: before the others.
_A_WORKER, _A_WORKER_AT_LAST = 4, 2


@dataclass(frozen=True)
class Bundle(Generic[Task]):
    """Several tasks for one worker at once."""

    tasks: Sequence[Task]

    @property
    def id(self) -> str:
        """What logs call it."""
        return f"{getattr(self.tasks[0], 'id', '')} and {len(self.tasks) - 1} more"

    @property
    def text_bytes(self) -> int:
        """Bytes of input of the largest, which say what memory it takes."""
        return max(map(bytes_of, self.tasks))


class BundleWork(Protocol[_Task]):
    """The work of a step that takes bundles; by itself a task is done as of any step."""

    def __call__(self, task: _Task) -> Receipt: ...

    def together(self, tasks: Sequence[_Task]) -> Sequence[Receipt | None]:
        """The receipt of each task; None for one that is to be done by itself, to find out what is wrong with it."""


def bundled(
    tasks: Sequence[Task], size_of: Callable[[Task], float], workers: int, most_ahead_bytes: float = MOST_BYTES
) -> Sequence[Task | Bundle[Task]]:
    """Tasks in order, consecutive ones in bundles, ever shorter ones at last.

    size_of: the bytes that a task takes in memory; most_ahead_bytes: of a bundle of tasks that are not small.
    """
    groups: list[list[Task]] = []
    most_at_first = min(MOST_TASKS, len(tasks) // (workers * _A_WORKER))
    most, held, held_at_most = 0, 0.0, 0.0
    for number, task in enumerate(tasks):
        size = size_of(task)
        limit = MOST_BYTES if size <= SMALL_BYTES else most_ahead_bytes
        held += size
        if not groups or len(groups[-1]) >= most or held > held_at_most or limit != held_at_most:
            groups.append([])
            most = min(most_at_first, (len(tasks) - number) // (workers * _A_WORKER_AT_LAST))
            held, held_at_most = size, limit
        groups[-1].append(task)
    return [Bundle(group) if len(group) > 1 else group[0] for group in groups]


def each(tasks: Iterable[Task | Bundle[Task]]) -> list[Task]:
    """The tasks, those in bundles too."""
    return [one for task in tasks for one in (task.tasks if isinstance(task, Bundle) else (task,))]
