"""Matching: which windows of two anchors are equal, by comparing their units.

A match says that the windows at `start + n`, n < `count`, equal those at `target + n`, which are earlier: rows of an
int64 array (matches, 3), disjoint. A target may be any earlier equal window, not only the first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from gneiss.arrays import AnyArray, Int, Int64Array, UInt8Array
from gneiss.dedup.anchors.grouping import ALONE, FEW, after
from gneiss.dedup.growing import room_for
from gneiss.dedup.words import common_prefix, common_suffix


class AnchoredText(NamedTuple):
    """A corpus and its anchors, as the kernels take them.

    octets: the corpus, `size` of them a unit; begin, left, windows: (anchors,) the columns of `Anchors`, `windows`
    being `count`; min_length, k: units of a window and of a k-mer.
    """

    octets: UInt8Array
    size: Int
    begin: AnyArray
    left: AnyArray
    windows: AnyArray
    min_length: Int
    k: Int


@njit(cache=True, nogil=True)
def shared_windows(text: AnchoredText, one: Int, other: Int) -> tuple[Int, Int]:
    """First and last offset, from the anchor, of the windows that two anchors share; first > last for none."""
    octets, size, begin, left, count, min_length, k = text
    left_one, left_other = np.int64(left[one]), np.int64(left[other])
    at_one, at_other = np.int64(begin[one]) + left_one, np.int64(begin[other]) + left_other
    room = min(np.int64(count[one]) - left_one, np.int64(count[other]) - left_other) - 1 + min_length
    right = common_prefix(octets, at_one * size, at_other * size, room * size) // size
    if right < k:
        return 0, -1
    back = common_suffix(octets, at_one * size, at_other * size, min(left_one, left_other) * size) // size
    return -back, right - min_length


@njit(cache=True, nogil=True)
def tile(shared: Int64Array, found: Int, tiles: Int64Array) -> Int:
    """Cover the offsets of overlapping intervals by disjoint ones, in order; returns how many were written.

    Parameters: `shared`: int64 (found, 3): first and last offset, member; `tiles`: int64 (found, 3), written.
    """
    written = 0
    offset = np.int64(-(2**62))
    while True:
        best = -1
        start = np.int64(2**62)
        for i in range(found):
            if shared[i, 1] < offset:
                continue
            reached = max(shared[i, 0], offset)
            if reached < start or (reached == start and shared[i, 1] > shared[best, 1]):
                best, start = i, reached
        if best < 0:
            return written
        tiles[written, 0] = start
        tiles[written, 1] = shared[best, 1]
        tiles[written, 2] = shared[best, 2]
        written += 1
        offset = shared[best, 1] + 1


@njit(cache=True, nogil=True)
def match(text: AnchoredText, links: AnyArray, other_matches: Int64Array) -> tuple[Int64Array, bool]:
    """Follow the links of all anchors in text order, comparing units.

    Parameters: `links`: (anchors,), from `group`; `other_matches`: int64 (n, 3), matches found otherwise, by start.
    Returns all matches, int64 (matches, 3): start, count, target, by start; and whether every anchor linked as a copy
    really is one.
    """
    octets, size, begin, left, count, min_length, _ = text
    matches = np.empty((1024, 3), np.int64)
    total = 0
    other = 0
    shared = np.empty((FEW, 3), np.int64)
    tiles = np.empty((FEW, 3), np.int64)
    distance = np.int64(0)
    checked = np.int64(0)
    for anchor in range(len(begin) + 1):
        matches = room_for(matches, total, FEW)
        start = np.int64(begin[anchor]) if anchor < len(begin) else np.int64(len(octets))
        while other < len(other_matches) and other_matches[other, 0] < start:
            matches = room_for(matches, total, FEW)
            total = _append(matches, total, other_matches[other, 0], other_matches[other, 1], other_matches[other, 2],
                            min_length)  # fmt: skip
            other += 1
        if anchor == len(begin) or links[anchor] == ALONE:
            continue
        link = np.int64(links[anchor])
        if link >= 0:
            source = np.int64(begin[link])
            end = start + np.int64(count[anchor]) - 1 + min_length
            # neighbours mostly continue the same repeat: its overlap with them has been compared already
            compared = start
            if start - source == distance and start <= checked:
                compared = min(checked, end)
            equal = (end - compared) * size
            if common_prefix(octets, (source + compared - start) * size, compared * size, equal) < equal:
                return matches[:0], False
            distance, checked = start - source, end
            total = _append(matches, total, start, np.int64(count[anchor]), source, min_length)
            continue
        found = 0
        link = after(link)
        while True:
            first, last = shared_windows(text, anchor, link)
            if first <= last:
                shared[found, 0], shared[found, 1], shared[found, 2] = first, last, link
                found += 1
            if links[link] == ALONE:
                break
            link = after(np.int64(links[link]))
        at = start + np.int64(left[anchor])
        for i in range(tile(shared, found, tiles)):
            first, last, link = tiles[i]
            target = np.int64(begin[link]) + np.int64(left[link]) + first
            total = _append(matches, total, at + first, last - first + 1, target, min_length)
    return matches[:total], True


@njit(cache=True, nogil=True)
def _append(matches: Int64Array, total: Int, start: Int, count: Int, target: Int, min_length: Int) -> Int:
    """Add a match, as part of the one before where it continues it."""
    last = total - 1
    # windows of one unit touch across a document's end; longer ones never do
    if total and min_length > 1:
        ends = matches[last, 0] + matches[last, 1]
        if ends == start and matches[last, 2] + matches[last, 1] == target:
            matches[last, 1] += count
            return total
    matches[total, 0] = start
    matches[total, 1] = count
    matches[total, 2] = target
    return total + 1
