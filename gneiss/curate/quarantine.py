"""Quarantine of documents: where one breaks the work on a batch, each is tried by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from gneiss.batch import TextBatch
from gneiss.errors import GneissError

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


def isolated(
    batch: TextBatch, name: str, work: Callable[[TextBatch], Result]
) -> tuple[list[tuple[int, Result | None]], dict[int, str]]:
    """What `work` makes of a batch, as (documents, result) for the whole, or for each document where the whole fails.

    name: what the reasons call the work. Returns with it position → reason of the documents that `work` fails on, whose
    result is None; the first traceback of each kind is logged. Errors of gneiss itself (a broken model, a wrong recipe)
    concern the run, and are raised.

    >>> isolated(TextBatch.of(["1", "x"]), "sum", lambda part: sum(int(text) for text in part.texts()))[0]
    [(1, 1), (1, None)]
    """
    try:
        return [(len(batch), work(batch))], {}
    except (MemoryError, GneissError):
        raise
    except Exception:  # noqa: BLE001 - one document may have broken the batch: find out which, and why
        pass
    return _one_by_one(batch, name, work)


def _one_by_one(
    batch: TextBatch, name: str, work: Callable[[TextBatch], Result]
) -> tuple[list[tuple[int, Result | None]], dict[int, str]]:
    results: list[tuple[int, Result | None]] = []
    failures: dict[int, str] = {}
    logged: set[tuple[type, int]] = set()
    for position in range(len(batch)):
        try:
            results.append((1, work(batch.slice(position, position + 1))))
        except (MemoryError, GneissError):
            raise
        except Exception as error:  # noqa: BLE001 - the document goes to quarantine with this reason
            reason = (str(error).splitlines() or [""])[0][:200]
            failures[position] = f"{name} failed: {type(error).__name__}: {reason}"
            if (kind := (type(error), _line(error))) not in logged:
                logged.add(kind)
                _log.exception("%s", failures[position])
            results.append((1, None))
    return results, failures


def _line(error: BaseException) -> int:
    """The line that raised it."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_lineno if trace else 0
