"""Repeats: what an engine finds, and what each policy cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array
from gneiss.dedup.cuts import Cuts
from gneiss.dedup.gaps import filled

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

    start: Int64Array
    count: Int64Array
    source: Int64Array
    period: Int64Array


def cuts(
    repeats: Repeats,
    bounds: Int64Array,
    min_length: int,
    policy: Policy,
    also_first: tuple[Int64Array, Int64Array] | None = None,
    fill_gaps: float = 1.0,
) -> Cuts:
    """What a policy cuts from a corpus.

    Parameters: `bounds`: int64 (documents + 1,), first unit of each document; `min_length`: units of a window;
    `also_first`: start and end, int64 (n,), of units of first windows whose repeats are not among `repeats`;
    `fill_gaps`: the share of a stretch from which on gaps in it are cut too, those without a protected unit.
    A unit of a cut repeats what the latest repeat window over it says; a unit that only first windows cover, which
    only `all` cuts, is its own source.

    >>> one = Repeats(np.array([10]), np.array([2]), np.array([0]), np.array([2]))
    >>> cut = cuts(one, np.array([0, 10, 20]), 5, "protect")
    >>> cut.document, cut.start, cut.end, cut.source_document, cut.source_start
    (array([1]), array([0]), array([6]), array([0]), array([0]))
    """
    start, end = repeats.start, _ends(repeats.start, repeats.count, min_length)
    columns = (start, end, repeats.count, repeats.source, repeats.period)
    nothing = np.empty(0, np.int64)
    if policy == "union":
        return filled(_cuts(*columns, bounds, nothing, nothing), bounds, (nothing, nothing), fill_gaps)
    firsts = _reaches(repeats.source, np.minimum(repeats.count, repeats.period), min_length)
    if also_first is not None:
        firsts = np.concatenate([firsts[0], also_first[0]]), np.concatenate([firsts[1], also_first[1]])
    firsts_start, firsts_end = _union(*firsts)
    if policy == "protect":
        found = _cuts(*columns, bounds, firsts_start, firsts_end)
        return filled(found, bounds, (firsts_start, firsts_end), fill_gaps)
    own_start, own_end = _without(firsts_start, firsts_end, start, end)
    own = (own_start, own_end, own_end - own_start, own_start, own_end - own_start)
    order = np.argsort(np.concatenate([start, own_start]), kind="stable")
    start, end, count, source, period = (np.concatenate(column)[order] for column in zip(columns, own, strict=True))
    found = _cuts(start, end, count, source, period, bounds, nothing, nothing)
    return filled(found, bounds, (nothing, nothing), fill_gaps)


@njit(cache=True, nogil=True)
def last_at_or_before(ascending: Int64Array, value: Int) -> Int:
    """The last position whose entry is at most a value, -1 for none."""
    low: Int = 0
    high: Int = len(ascending)
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low - 1


@njit(cache=True, nogil=True)
def _ends(start: Int64Array, count: Int64Array, min_length: Int) -> Int64Array:
    """Where the units end that take their source from each run: where its last window ends, or the next run begins."""
    end = np.empty(len(start), np.int64)
    for run in range(len(start)):
        end[run] = start[run] + count[run] - 1 + min_length
        if run + 1 < len(start):
            end[run] = min(end[run], start[run + 1])
    return end


@njit(cache=True, nogil=True)
def _reaches(source: Int64Array, count: Int64Array, min_length: Int) -> tuple[Int64Array, Int64Array]:
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


def _union(start: Int64Array, end: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The union of intervals, as sorted disjoint intervals."""
    if len(start) == 0:
        return start, end
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    opens = np.append(True, start[1:] > reach[:-1])
    return start[opens], reach[np.append(opens[1:], True)]


@njit(cache=True, nogil=True)
def _without(
    start: Int64Array, end: Int64Array, hole_start: Int64Array, hole_end: Int64Array
) -> tuple[Int64Array, Int64Array]:
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


def _cuts(
    start: Int64Array,
    end: Int64Array,
    count: Int64Array,
    source: Int64Array,
    period: Int64Array,
    bounds: Int64Array,
    hole_start: Int64Array,
    hole_end: Int64Array,
) -> Cuts:
    """The runs' units without holes, as cuts: split at the ends of documents, joined where sources go on."""
    most = len(start) + len(hole_start) + len(bounds) + int(((count - 1) // period).sum())
    rows = np.empty((5, most), np.int64)
    total = _write(start, end, count, source, period, bounds, hole_start, hole_end, rows)
    return Cuts(*rows[:, :total])


@njit(cache=True, nogil=True)
def _write(
    start: Int64Array,
    end: Int64Array,
    count: Int64Array,
    source: Int64Array,
    period: Int64Array,
    bounds: Int64Array,
    hole_start: Int64Array,
    hole_end: Int64Array,
    rows: Int64Array,
) -> Int:
    """Write the columns of Cuts into `rows`, int64 (5, enough); returns how many."""
    document, out_start, out_end, source_document, out_source = rows
    last: Int = -1
    hole: Int = 0
    row: Int = 0
    source_row: Int = 0
    for interval in range(len(start)):
        position = round_start = start[interval]
        last_round = position + (count[interval] - 1) // period[interval] * period[interval]
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
            limit = min(end[interval], bounds[row + 1])
            if hole < len(hole_start):
                limit = min(limit, hole_start[hole])
            stop = min(limit, round_start + period[interval]) if round_start < last_round else limit
            first = source[interval] + position - round_start
            if not bounds[source_row] <= first < bounds[source_row + 1]:
                source_row = last_at_or_before(bounds, first)
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
            if round_start >= last_round or position < round_start + period[interval]:
                continue
            round_start = position
            # whole rounds of periodic text, of which there may be one a unit
            rounds = (min(limit, last_round) - position) // period[interval]
            if rounds > 0 and first == source[interval]:
                for at in range(last + 1, last + 1 + rounds):
                    document[at], source_document[at] = row, source_row
                    out_start[at], out_end[at] = position - low, position + period[interval] - low
                    out_source[at] = first - source_low
                    position += period[interval]
                last += rounds
                round_start = position
    return last + 1
