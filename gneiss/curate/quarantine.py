"""Isolation: work on a batch, and where that fails, on ever smaller parts of it, so that a document costs only itself.

A document may fail by an exception, or by killing or stalling the worker. An exception is isolated here, by bisection.
Of the rest a watch knows: it sees at which documents a worker is, and says afterwards which of them to leave out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from gneiss.arrays import Int64Array
from gneiss.batch import TextBatch
from gneiss.errors import DefectError, GneissError, first_line

Result = TypeVar("Result")
#: (documents, result) for consecutive parts of a batch; the result of a document that failed is None.
Results: TypeAlias = "list[tuple[int, Result | None]]"
#: Where all documents of a batch fail that has as many, or more, it is not for what they are.
FEWEST_OF_A_DEFECT = 32
#: How often a document that alone needs more memory than there is may try.
_MEMORY_ATTEMPTS = 3
_log = logging.getLogger(__name__)


class Watch(Protocol):
    """Sees what a worker computes, and for which rows of its shard; work: a name that no other work has."""

    def begin(self, work: str, first: int, last: int, size_bytes: int) -> None:
        """Computing begins for the documents in these rows; their texts have this size."""

    def end(self) -> None:
        """It has ended, well or not."""

    def suspects(self, work: str, first: int, last: int) -> bool:
        """Whether a worker came to grief in these rows before, so that each document is to be computed by itself."""

    def blamed(self, work: str) -> Mapping[int, str]:
        """Row → what its document does to workers: such documents are left out."""


class Unwatched:
    """Nobody looks on."""

    def begin(self, work: str, first: int, last: int, size_bytes: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def suspects(self, work: str, first: int, last: int) -> bool:
        """No."""
        return False

    def blamed(self, work: str) -> Mapping[int, str]:
        """None."""
        return {}


@dataclass(frozen=True)
class Watched:
    """Some work under watch; name: what reasons call it."""

    name: str
    work: str = ""
    watch: Watch = field(default_factory=Unwatched)


def isolated(
    batch: TextBatch, watched: Watched, compute: Callable[[TextBatch], Result], rows: Int64Array | None = None
) -> tuple[Results[Result], dict[int, str]]:
    """The results of a batch: for the whole, or for parts of it where some documents fail.

    Parameters: `rows`: of the documents, in order, int64 (documents,). Returns with it position → reason of the
    documents that fail; the first traceback of each kind is logged. Raises DefectError where all of many fail; errors
    of gneiss itself (a broken model, a wrong recipe) concern the run, and pass.

    >>> isolated(TextBatch.of(["1", "x"]), Watched("sum"), lambda part: sum(int(text) for text in part.texts()))
    ([(1, 1), (1, None)], {1: 'sum failed: ValueError'})
    """
    rows = np.arange(len(batch)) if rows is None else rows
    if not len(batch):
        return [(0, compute(batch))], {}
    bisection = _Bisection(batch, watched, compute, rows)
    blamed = watched.watch.blamed(watched.work)
    left_out = {
        int(at): f"{watched.name} {blamed[int(rows[at])]}" for at in np.flatnonzero(np.isin(rows, list(blamed)))
    }
    edges = sorted({0, len(batch), *left_out, *(at + 1 for at in left_out)})
    if watched.watch.suspects(watched.work, int(rows[0]), int(rows[-1])):
        edges = list(range(len(batch) + 1))
    results: Results[Result] = []
    for start, stop in pairwise(edges):
        results += [(1, None)] if start in left_out else bisection.results(start, stop)
    return results, left_out | bisection.failures()


@dataclass(eq=False)
class _Bisection(Generic[Result]):
    """Computes parts of a batch; errors: by position; first: the first error of each kind, with its traceback."""

    batch: TextBatch
    watched: Watched
    compute: Callable[[TextBatch], Result]
    rows: Int64Array
    errors: dict[int, type[Exception]] = field(default_factory=dict)
    first: dict[tuple[type, int], Exception] = field(default_factory=dict)

    def results(self, start: int, stop: int, attempt: int = 1) -> Results[Result]:
        """The results of the documents from `start` to `stop`."""
        part = self.batch if stop - start == len(self.batch) else self.batch.slice(start, stop)  # which shares views
        self.watched.watch.begin(self.watched.work, int(self.rows[start]), int(self.rows[stop - 1]), part.size_bytes)
        try:
            return [(stop - start, self.compute(part))]
        except GneissError:
            raise
        except Exception as error:  # noqa: BLE001 - one document may have broken the batch: find out which, and why
            if stop - start == 1:
                self.errors[start] = type(error)
                self.first.setdefault((type(error), _line(error)), error)
        finally:
            self.watched.watch.end()
        if stop - start > 1:
            middle = (start + stop) // 2
            return self.results(start, middle) + self.results(middle, stop)
        if self.errors[start] is MemoryError and attempt < _MEMORY_ATTEMPTS:  # others may have held the memory
            del self.errors[start]
            return self.results(start, stop, attempt + 1)
        return [(1, None)]

    def failures(self) -> dict[int, str]:
        """Position → reason, without what the exception says: it may quote the text, and no two need be alike."""
        are_all = len(self.errors) == len(self.batch)
        if are_all and len(self.batch) > 1 and {*self.errors.values()} == {MemoryError}:
            raise MemoryError
        if are_all and len(self.batch) >= FEWEST_OF_A_DEFECT:
            error = next(iter(self.first.values()))
            raise DefectError.of(f"{self.watched.name} failed on each of {len(self.batch)} documents", error)
        for error in self.first.values():
            _log.error("%s: %s", self._reason(type(error)), first_line(error), exc_info=error)
        return {position: self._reason(kind) for position, kind in self.errors.items()}

    def _reason(self, kind: type[Exception]) -> str:
        return f"{self.watched.name} failed: {kind.__name__[:100]}"


def _line(error: BaseException) -> int:
    """The line that raised it."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_lineno if trace else 0
