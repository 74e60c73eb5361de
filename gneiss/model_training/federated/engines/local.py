"""Sites as tasks of workers on one machine or one Ray cluster: silos of one owner, who may see all of them.

A worker is asked for the same sites every time, so that the documents of a site are in the memory of one worker. One
that dies is replaced, and the task is done again, with the same answer; see `gneiss.backends`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeAlias

from gneiss.backends import Workers
from gneiss.errors import DefectError, GneissError
from gneiss.model_training.federated.engines import Lost, Site, received
from gneiss.model_training.federated.message import Message, packed, unpacked
from gneiss.model_training.federated.region import site_of


class Files(Protocol):
    """Where the documents of a site are, and what it is called."""

    @property
    def site(self) -> str: ...


@dataclass(frozen=True)
class SiteTask:
    """A task for a site as it travels to its worker."""

    files: Files
    content: bytes

    @property
    def size_bytes(self) -> int:
        """Of the message."""
        return len(self.content)

    def __str__(self) -> str:
        return f"of site {self.files.site}"


@dataclass(frozen=True)
class SiteStep:
    """See Step: the work of sites; most_bytes: of a message; opened: files → their site, in a process the same one."""

    most_bytes: int
    opened: Callable[[Any], Site] = site_of

    def open(self) -> Callable[[SiteTask], bytes | Lost]:
        """See Step."""
        return self._work

    def lost(self, task: SiteTask, reason: str) -> bytes | Lost:
        """See Step."""
        return Lost(task.files.site, reason)

    def _work(self, task: SiteTask) -> bytes:
        return packed(self.opened(task.files).work(unpacked(task.content, self.most_bytes)))


_Answer: TypeAlias = "tuple[str, bytes | Lost] | GneissError"


class LocalEngine:
    """See Engine. Made by `local_engine`."""

    def __init__(self, sites: Sequence[Files], step: SiteStep, lanes: int) -> None:
        self._files = {files.site: files for files in sites}
        self._step = step
        self._lanes: tuple[SimpleQueue[SiteTask | None], ...] = tuple(SimpleQueue() for _ in range(lanes))
        self._lane_of = {site: self._lanes[number % lanes] for number, site in enumerate(sorted(self._files))}
        self._answers: SimpleQueue[_Answer] = SimpleQueue()

    def sites(self) -> tuple[str, ...]:
        """See Engine."""
        return tuple(sorted(self._files))

    def ask(self, site: str, task: Message) -> None:
        """See Engine."""
        self._lane_of[site].put(SiteTask(self._files[site], packed(task)))

    def answer(self, timeout_s: float) -> tuple[str, Message] | Lost | None:
        """See Engine."""
        try:
            found = self._answers.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(found, GneissError):
            raise found
        site, content = found
        return content if isinstance(content, Lost) else received(site, content, self._step.most_bytes)

    def serve(self, workers: Workers) -> list[Thread]:
        """Start a thread for each lane, which speaks to a worker of its own."""
        threads = [Thread(target=self._serve, args=(workers, lane), daemon=True) for lane in self._lanes]
        for thread in threads:
            thread.start()
        return threads

    def close(self) -> None:
        """No more tasks."""
        for lane in self._lanes:
            lane.put(None)

    def _serve(self, workers: Workers, lane: SimpleQueue[SiteTask | None]) -> None:
        try:
            with workers.kept() as kept:
                while (task := lane.get()) is not None:
                    for answer in kept.run(self._step, [task]):
                        self._answers.put((task.files.site, answer))
        except GneissError as error:
            self._answers.put(error)
        except Exception as error:  # noqa: BLE001 - the coordinator is told, and keeps the traceback
            self._answers.put(DefectError.of("an engine failed", error))


@contextmanager
def local_engine(
    sites: Sequence[Files], workers: Workers, most_bytes: int, opened: Callable[[Any], Site] = site_of
) -> Iterator[LocalEngine]:
    """An engine whose sites are served by workers, each of which has some of them, until the block ends.

    most_bytes: of a message; opened: files → their site, in a process the same one.
    """
    workers.backend.room(workers.resources)  # connects to a cluster here, since several threads at once could not
    engine = LocalEngine(sites, SiteStep(most_bytes, opened), max(1, min(workers.count, len(sites))))
    threads = engine.serve(workers)
    try:
        yield engine
    finally:
        engine.close()
        for thread in threads:
            thread.join()
