"""Care: what the ends of a task's workers have shown, and how its next worker goes about the documents they were at.

A worker that dies is at a batch. The next one computes the documents of that batch one by one; so the next death names
a document. One that a worker dies of again and again, by itself, is to blame, and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from gneiss.backends.memory import forget_peak
from gneiss.backends.recorder import Recorder, Work, name_of

#: How many deaths at a document blame it, that of its batch included: those by its own doing, and those by whatever.
ENDS_OF_ONE, ENDS_OF_ONE_BY_WHATEVER = 3, 5
#: How often workers of a task may die of documents before the task is given up.
MOST_ENDS = 30


@dataclass(frozen=True)
class End:
    """How a worker ended that was at some work.

    is_own: by what its task did, as far as is known; did: what the documents did to it; is_late: they took too long;
    said, stack: of its last moment.
    """

    work: Work
    is_own: bool
    did: str = "killed its worker"
    is_late: bool = False
    said: str = ""
    stack: str = ""

    @property
    def last_words(self) -> str:
        """A traceback, as far as there was one."""
        return (
            f"Traceback (most recent call last):\n{self.stack}\nWorkerDied: {self.said}"
            if self.stack
            else f"WorkerDied: {self.said}"
        )


@dataclass(frozen=True)
class Care:
    """The ends of a task's workers so far."""

    ends: tuple[End, ...] = ()

    def after(self, end: End) -> Care:
        """The same with one more end."""
        return Care((*self.ends, end))

    @property
    def is_too_much(self) -> bool:
        """Whether the task is to be given up."""
        return sum(end.is_own for end in self.ends) >= MOST_ENDS

    def suspects(self, work: str, first: int, last: int) -> bool:
        """Whether each of these documents is computed by itself. Work that was late may be slow: from there on."""
        return any(
            end.work.name == work and end.work.first <= last and (first <= end.work.last or end.is_late)
            for end in self.ends
            if not end.work.is_of_one_document
        )

    def blamed(self) -> list[End]:
        """The ends that blame a document: the last of each."""
        last = {(end.work.name, end.work.first): end for end in self.ends if end.work.is_of_one_document}
        return [end for end in last.values() if self._is_blamed(end.work)]

    def _is_blamed(self, work: Work) -> bool:
        at_it = [
            end for end in self.ends if end.work.name == work.name and end.work.first <= work.first <= end.work.last
        ]
        alone = [end for end in at_it if end.work.is_of_one_document]
        batch = [end for end in at_it if not end.work.is_of_one_document][:1]
        both = [*alone, *batch]
        return sum(end.is_own for end in both) >= ENDS_OF_ONE or len(both) >= ENDS_OF_ONE_BY_WHATEVER


#: Of a task of which no worker died.
NO_CARE = Care()


@dataclass(frozen=True)
class WorkerWatch:
    """Who hears at which documents a step is, and knows those to beware of; without a recorder nobody hears."""

    care: Care = NO_CARE
    recorder: Recorder | None = None

    def begin(self, work: str, first: int, last: int, size_bytes: int) -> None:
        """Computing begins for the documents in these rows; work: a name that no other work of the task has."""
        if self.recorder:
            self.recorder.begin(Work(work, first, last, size_bytes))

    def end(self) -> None:
        """It has ended."""
        if self.recorder:
            self.recorder.end()

    def suspects(self, work: str, first: int, last: int) -> bool:
        """Whether a worker came to grief in these rows before."""
        return self.care.suspects(name_of(work), first, last)

    def blamed(self, work: str) -> dict[int, str]:
        """Row → what its document does to workers."""
        return {end.work.first: end.did for end in self.care.blamed() if end.work.name == name_of(work)}


_WATCH: ContextVar[WorkerWatch] = ContextVar("gneiss_watch", default=WorkerWatch())  # noqa: B039 - never changed


def watch() -> WorkerWatch:
    """The watch over the task that this worker does."""
    return _WATCH.get()


@contextmanager
def watched(care: Care, recorder: Recorder | None) -> Iterator[None]:
    """Let a task that is done within the block be watched; the peak of memory restarts."""
    if recorder:
        recorder.clear()
    forget_peak()
    token = _WATCH.set(WorkerWatch(care, recorder))
    try:
        yield
    finally:
        _WATCH.reset(token)
