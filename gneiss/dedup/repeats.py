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

    Run i: the windows that start at units `start[i] + n`, n < `count[i]`, are repeats, and `source[i] + n % period[i]`
    starts the first window of their class. int64 (runs,), sorted by start, disjoint; units count over the whole
    corpus. A run stays in one document, and so do its sources. Only periodic text has a period below the count:
    without it a run of one character would be a run for every window.
    """

    start: IntArray
    count: IntArray
    source: IntArray
    period: IntArray


@dataclass(frozen=True, eq=False)
class Pieces:
    """What to cut: units `start` to `end` of `document`, repeats of those of `source_document` from `source_start` on.

    int64 (pieces,), sorted, disjoint, each maximal with consecutive sources; units count inside the document.
    """

    document: IntArray
    start: IntArray
    end: IntArray
    source_document: IntArray
    source_start: IntArray


def pieces(repeats: Repeats, bounds: IntArray, min_length: int, policy: Policy) -> Pieces:
    """The duplicate spans of a corpus under a policy.

    Parameters: `bounds`: int64 (documents + 1,), first unit of each document; `min_length`: units of a window.
    A unit of a cut repeats what the latest repeat window over it says; a unit that only first windows cover, which
    only `all` cuts, is its own source.

    >>> one = Repeats(np.array([10]), np.array([2]), np.array([0]), np.array([2]))
    >>> cut = pieces(one, np.array([0, 10, 20]), 5, "protect")
    >>> cut.document, cut.start, cut.end, cut.source_document, cut.source_start
    (array([1]), array([0]), array([6]), array([0]), array([0]))
    """
    start, end = repeats.start, _ends(repeats.start, repeats.count, min_length)
    columns = (start, end, repeats.count, repeats.source, repeats.period)
    nothing = np.empty(0, np.int64)
    if policy == "union":
        return Pieces(*_cut(*columns, bounds, nothing, nothing))
    firsts_start, firsts_end = _union(*_reaches(repeats.source, np.minimum(repeats.count, repeats.period), min_length))
    if policy == "protect":
        return Pieces(*_cut(*columns, bounds, firsts_start, firsts_end))
    own_start, own_end = _without(firsts_start, firsts_end, start, end)
    own = (own_start, own_end, own_end - own_start, own_start, own_end - own_start)
    order = np.argsort(np.concatenate([start, own_start]), kind="stable")
    both = (np.concatenate(column)[order] for column in zip(columns, own, strict=True))
    return Pieces(*_cut(*both, bounds, nothing, nothing))


@njit(cache=True, nogil=True)
def _ends(start: IntArray, count: IntArray, min_length: int) -> IntArray:
    """Where the units end that take their source from each run: where its last window ends, or the next run begins."""
    end = np.empty(len(start), np.int64)
    for run in range(len(start)):
        end[run] = start[run] + count[run] - 1 + min_length
        if run + 1 < len(start):
            end[run] = min(end[run], start[run + 1])
    return end


@njit(cache=True, nogil=True)
def _reaches(source: IntArray, count: IntArray, min_length: int) -> tuple[IntArray, IntArray]:
    """The units of the first windows of each run, without runs that add nothing to the one before (`=====`)."""
    kept = 0
    start, end = np.empty(len(source), np.int64), np.empty(len(source), np.int64)
    for run in range(len(source)):
        reach = source[run] + count[run] - 1 + min_length
        if kept and start[kept - 1] <= source[run] and reach <= end[kept - 1]:
            continue
        start[kept], end[kept] = source[run], reach
        kept += 1
    return start[:kept].copy(), end[:kept].copy()


def _union(start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
    """The union of intervals, as sorted disjoint intervals."""
    if len(start) == 0:
        return start, end
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    opens = np.append(True, start[1:] > reach[:-1])
    return start[opens], reach[np.append(opens[1:], True)]


@njit(cache=True, nogil=True)
def _without(start: IntArray, end: IntArray, hole_start: IntArray, hole_end: IntArray) -> tuple[IntArray, IntArray]:
    """Intervals without holes; both sorted and disjoint."""
    out_start, out_end = (
        np.empty(len(start) + len(hole_start), np.int64),
        np.empty(len(start) + len(hole_start), np.int64),
    )
    written = 0
    hole = 0
    for interval in range(len(start)):
        position = start[interval]
        while position < end[interval]:
            while hole < len(hole_start) and hole_end[hole] <= position:
                hole += 1
            stop = end[interval]
            if hole < len(hole_start):
                stop = min(stop, max(hole_start[hole], position))
            if stop > position:
                out_start[written], out_end[written] = position, stop
                written += 1
            position = stop if hole == len(hole_start) or stop < hole_start[hole] else hole_end[hole]
    return out_start[:written], out_end[:written]


@njit(cache=True, nogil=True)
def _cut(
    start: IntArray,
    end: IntArray,
    count: IntArray,
    source: IntArray,
    period: IntArray,
    bounds: IntArray,
    hole_start: IntArray,
    hole_end: IntArray,
) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
    """The columns of Pieces: intervals without holes, cut at the ends of documents, joined where sources go on."""
    limit = len(start) + len(hole_start) + len(bounds)
    for interval in range(len(start)):
        limit += (count[interval] - 1) // period[interval]
    document, source_document = np.empty(limit, np.int64), np.empty(limit, np.int64)
    out_start, out_end, out_source = np.empty(limit, np.int64), np.empty(limit, np.int64), np.empty(limit, np.int64)
    last = -1
    hole = 0
    row = 0
    source_row = 0
    for interval in range(len(start)):
        position = start[interval]
        last_round = start[interval] + (count[interval] - 1) // period[interval] * period[interval]
        round_start = position
        while position < end[interval]:
            while hole < len(hole_start) and hole_end[hole] <= position:
                hole += 1
            if hole < len(hole_start) and hole_start[hole] <= position:
                position = hole_end[hole]
                if position < end[interval]:
                    round_start += (min(position, last_round) - round_start) // period[interval] * period[interval]
                continue
            while bounds[row + 1] <= position:
                row += 1
            stop = min(end[interval], bounds[row + 1])
            if hole < len(hole_start):
                stop = min(stop, hole_start[hole])
            if round_start < last_round:
                stop = min(stop, round_start + period[interval])
            first = source[interval] + position - round_start
            if not bounds[source_row] <= first < bounds[source_row + 1]:
                source_row = np.searchsorted(bounds, first, side="right") - 1
            low, source_low = bounds[row], bounds[source_row]
            if (
                last >= 0
                and document[last] == row
                and out_end[last] == position - low
                and source_document[last] == source_row
                and out_source[last] + out_end[last] - out_start[last] == first - source_low
            ):
                out_end[last] = stop - low
            else:
                last += 1
                document[last], source_document[last] = row, source_row
                out_start[last], out_end[last], out_source[last] = position - low, stop - low, first - source_low
            position = stop
            if round_start < last_round and position == round_start + period[interval]:
                round_start = position
    total = last + 1
    return document[:total], out_start[:total], out_end[:total], source_document[:total], out_source[:total]
