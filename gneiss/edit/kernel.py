"""Applying and combining edits."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Int64Array, UInt8Array


@njit(cache=True, nogil=True)
def copy(
    data: UInt8Array,
    offsets: Int64Array,
    document: Int64Array,
    start: Int64Array,
    end: Int64Array,
    texts: UInt8Array,
    bounds: Int64Array,
    out: UInt8Array,
) -> None:
    read, written = offsets[0], 0
    for i in range(len(document)):
        edit_from = offsets[document[i]] + start[i]
        out[written : written + edit_from - read] = data[read:edit_from]
        written += edit_from - read
        inserted = bounds[i + 1] - bounds[i]
        out[written : written + inserted] = texts[bounds[i] : bounds[i + 1]]
        written += inserted
        read = offsets[document[i]] + end[i]
    out[written:] = data[read : offsets[-1]]


@njit(cache=True, nogil=True)
def merged(
    document: Int64Array,
    start: Int64Array,
    end: Int64Array,
    others: Int64Array,
    others_start: Int64Array,
    others_end: Int64Array,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Both lists as one, disjoint; and whose replacement each edit has: first list, second list, or none."""
    first, second = len(document), len(others)
    room = 2 * first + second  # each edit of the first list splits at most one of the second
    at = np.empty((4, room), np.int64)
    count = 0
    i = 0
    for j in range(second + 1):
        # edits of the first list that end before this one begins
        while i < first and (
            j == second or document[i] < others[j] or (document[i] == others[j] and end[i] <= others_start[j])
        ):
            at[0, count], at[1, count], at[2, count], at[3, count] = document[i], start[i], end[i], i
            i, count = i + 1, count + 1
        if j == second:
            break
        low, text = others_start[j], first + j
        while i < first and document[i] == others[j] and start[i] < others_end[j]:
            if low < start[i]:
                at[0, count], at[1, count], at[2, count], at[3, count] = others[j], low, start[i], text
                count, text = count + 1, first + second
            low = max(low, end[i])
            if end[i] > others_end[j]:  # it may reach into the next one too
                break
            at[0, count], at[1, count], at[2, count], at[3, count] = document[i], start[i], end[i], i
            i, count = i + 1, count + 1
        if low < others_end[j]:
            at[0, count], at[1, count], at[2, count], at[3, count] = others[j], low, others_end[j], text
            count += 1
    return at[0, :count].copy(), at[1, :count].copy(), at[2, :count].copy(), at[3, :count].copy()
