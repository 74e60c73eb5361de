"""Sections: the windows of distinct super-windows, cut where their firsts change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Int, Int32Array, Int64Array, UInt8Array
from gneiss.dedup.repeats import Repeats

_REPEAT, _FIRST, _ALONE = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Sections:
    """Super-window n has the sections `bounds[n]` to `bounds[n + 1]`.

    Section i: the windows `offset[i]` to `offset[i] + count[i]` of its super-window, whose firsts are the windows of
    super-window `source[i]` from `source_offset[i]` on. kind: repeats, firsts of others, or firsts of none other than
    copies of the whole super-window. int64 and uint8 (sections,); bounds: int64 (super-windows + 1,).
    """

    bounds: Int64Array
    offset: Int64Array
    count: Int64Array
    source: Int64Array
    source_offset: Int64Array
    kind: UInt8Array
    copied: BoolArray


def sections_of(at: Int64Array, count: Int64Array, copied: BoolArray, found: Repeats) -> Sections:
    """The sections of super-windows, in corpus order.

    Parameters: `at`: int64 (super-windows,), place of its units in the texts that `found` is about, -1 without; the
    places rise; `count`: its windows; `copied`: whether other super-windows are equal to it.
    """
    order = np.argsort(found.source, kind="stable")
    first_start = found.source[order]
    first_end = np.maximum.accumulate((found.source + np.minimum(found.count, found.period))[order])
    bounds, offset, counts, source_at, kind = _cut(
        at, count, found.start, found.count, found.source, found.period, first_start, first_end
    )
    owner = np.repeat(np.arange(len(at)), np.diff(bounds))
    with_text = np.flatnonzero(at >= 0)
    repeats = kind == _REPEAT
    owner[repeats] = with_text[np.searchsorted(at[with_text], source_at[repeats], side="right") - 1]
    source_offset = np.where(repeats, source_at - at[owner], offset)
    return Sections(bounds, offset, counts, owner, source_offset, kind, copied)


def collect(number: Int32Array, sections: Sections, with_firsts: bool) -> tuple[Int64Array, Int64Array, BoolArray]:
    """What to answer a shard about its anchors.

    Parameters: `number`: int32 (anchors,), super-window n, or ~n for the first of its kind. Returns anchor, section
    and whether it is a first window, (answers,).
    """
    return _collect(number, sections.bounds, sections.kind, sections.copied, with_firsts)


@njit(cache=True, nogil=True)
def _cut(
    at: Int64Array,
    count: Int64Array,
    run_start: Int64Array,
    run_count: Int64Array,
    run_source: Int64Array,
    run_period: Int64Array,
    first_start: Int64Array,
    first_end: Int64Array,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, UInt8Array]:
    room: Int = len(at) + 2 * len(run_start) + 2 * len(first_start)
    for run in range(len(run_start)):
        room += run_count[run] // run_period[run]
    bounds = np.zeros(len(at) + 1, np.int64)
    offset, counts, source_at = np.empty(room, np.int64), np.empty(room, np.int64), np.full(room, np.int64(-1))
    kind = np.empty(room, np.uint8)
    total: Int = 0
    run = 0
    first = 0
    for n in range(len(at)):
        position = max(at[n], 0)
        stop = position + count[n]
        while position < stop:
            end = stop
            kind[total] = _ALONE
            if at[n] >= 0:
                while run < len(run_start) and run_start[run] + run_count[run] <= position:
                    run += 1
                while first < len(first_start) and first_end[first] <= position:
                    first += 1
                if run < len(run_start) and run_start[run] <= position:
                    kind[total] = _REPEAT
                    within = (position - run_start[run]) % run_period[run]
                    end = min(end, run_start[run] + run_count[run], position + run_period[run] - within)
                    source_at[total] = run_source[run] + within
                else:
                    if run < len(run_start):
                        end = min(end, run_start[run])
                    if first < len(first_start) and first_start[first] <= position:
                        kind[total] = _FIRST
                        end = min(end, first_end[first])
                    elif first < len(first_start):
                        end = min(end, first_start[first])
            offset[total] = position - max(at[n], 0)
            counts[total] = end - position
            total += 1
            position = end
        bounds[n + 1] = total
    return bounds, offset[:total], counts[:total], source_at[:total], kind[:total]


@njit(cache=True, nogil=True)
def _collect(
    number: Int32Array, bounds: Int64Array, kind: UInt8Array, copied: BoolArray, with_firsts: bool
) -> tuple[Int64Array, Int64Array, BoolArray]:
    room: Int = 0
    for n in number:
        n = max(n, ~n)
        room += bounds[n + 1] - bounds[n]
    anchor, section, is_first = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.bool_)
    total = 0
    for i in range(len(number)):
        n = max(number[i], ~number[i])
        for s in range(bounds[n], bounds[n + 1]):
            first = number[i] < 0 and kind[s] != _REPEAT
            if first and not (with_firsts and (copied[n] or kind[s] == _FIRST)):
                continue
            anchor[total], section[total], is_first[total] = i, s, first
            total += 1
    return anchor[:total], section[:total], is_first[:total]
