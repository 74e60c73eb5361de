"""Repeats: what an engine finds, and what each policy makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numba import njit

from gneiss.dedup.units import IntArray

Policy: TypeAlias = Literal["protect", "union", "all"]
POLICIES: tuple[str, ...] = get_args(Policy)


@dataclass(frozen=True, eq=False)
class Repeats:
    """Every repeat of a corpus, with the first window of its class, as runs of windows.

    Run i: the windows that start at units `start[i] + k`, k < `count[i]`, are repeats, and `source[i] + k` starts the
    first window of their class. int64 (runs,), sorted by start, disjoint; units count over the whole corpus. A run
    stays in one document, and so do its sources.
    """

    start: IntArray
    count: IntArray
    source: IntArray


@dataclass(frozen=True, eq=False)
class Pieces:
    """Units to cut, `start` to `end`, each with the unit that `start` repeats: int64 (pieces,), sorted, disjoint."""

    start: IntArray
    end: IntArray
    source: IntArray


def pieces(repeats: Repeats, bounds: IntArray, min_length: int, policy: Policy) -> Pieces:
    """The duplicate spans of a corpus under a policy, as maximal pieces with consecutive sources.

    Parameters: `bounds`: int64 (documents + 1,), first unit of each document; `min_length`: units of a window.
    A unit of a cut repeats what the latest repeat window over it says; a unit that only first windows cover, which
    only `all` cuts, is its own source.

    >>> one = Repeats(np.array([10]), np.array([2]), np.array([0]))
    >>> cut = pieces(one, np.array([0, 10, 20]), 5, "protect")
    >>> cut.start, cut.end, cut.source
    (array([10]), array([16]), array([0]))
    """
    if len(repeats.start) == 0:
        return Pieces(repeats.start, repeats.start, repeats.source)
    reach = repeats.start + repeats.count - 1 + min_length
    # A unit belongs to the greatest window start before it, so a run's piece ends where the next run begins.
    end = np.minimum(reach, np.append(repeats.start[1:], reach[-1]))
    found = Pieces(repeats.start, end, repeats.source)
    if policy == "union":
        return _merge(found, bounds)
    firsts_start, firsts_end = _union_of(repeats.source, repeats.source + repeats.count - 1 + min_length)
    if policy == "protect":
        return _merge(Pieces(*_subtract(found.start, found.end, found.source, firsts_start, firsts_end)), bounds)
    own = Pieces(*_subtract(firsts_start, firsts_end, firsts_start, found.start, found.end))
    order = np.argsort(np.concatenate([found.start, own.start]), kind="stable")
    both = (np.concatenate([mine, other])[order] for mine, other in zip(_columns(found), _columns(own), strict=True))
    return _merge(_split(Pieces(*both), bounds), bounds)


def _columns(cut: Pieces) -> tuple[IntArray, IntArray, IntArray]:
    return cut.start, cut.end, cut.source


def _union_of(start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
    """The union of intervals, as sorted disjoint intervals."""
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    opens = np.append(True, start[1:] > reach[:-1])
    return start[opens], reach[np.append(opens[1:], True)]


@njit(cache=True, nogil=True)
def _subtract(
    start: IntArray, end: IntArray, source: IntArray, hole_start: IntArray, hole_end: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Pieces without the units of holes; both sorted and disjoint."""
    limit = len(start) + len(hole_start)
    out_start = np.empty(limit, np.int64)
    out_end = np.empty(limit, np.int64)
    out_source = np.empty(limit, np.int64)
    written = 0
    hole = 0
    for piece in range(len(start)):
        position = start[piece]
        while hole < len(hole_start) and hole_end[hole] <= position:
            hole += 1
        at = hole
        while position < end[piece]:
            stop = end[piece]
            resume = stop
            if at < len(hole_start) and hole_start[at] < stop:
                stop = max(hole_start[at], position)
                resume = hole_end[at]
                at += 1
            if stop > position:
                out_start[written] = position
                out_end[written] = stop
                out_source[written] = source[piece] + position - start[piece]
                written += 1
            position = resume
    return out_start[:written], out_end[:written], out_source[:written]


def _split(cut: Pieces, bounds: IntArray) -> Pieces:
    """Pieces cut apart where a document ends; sources are cut with them (needed only for pieces of their own)."""
    holes = np.unique(bounds)
    return Pieces(*_subtract(cut.start, cut.end, cut.source, holes, holes))


def _merge(cut: Pieces, bounds: IntArray) -> Pieces:
    """Join neighbours whose units and sources are consecutive inside one document each."""
    if len(cut.start) == 0:
        return cut
    document = np.searchsorted(bounds, cut.start, side="right")
    source_document = np.searchsorted(bounds, cut.source, side="right")
    joined = (
        (cut.end[:-1] == cut.start[1:])
        & (cut.source[:-1] + (cut.end[:-1] - cut.start[:-1]) == cut.source[1:])
        & (document[:-1] == document[1:])
        & (source_document[:-1] == source_document[1:])
    )
    opens = np.append(True, ~joined)
    return Pieces(cut.start[opens], cut.end[np.append(~joined, True)], cut.source[opens])
