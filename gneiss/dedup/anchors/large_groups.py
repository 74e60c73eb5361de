"""Large groups: groups with too many distinct super-windows to compare in pairs."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array, UInt64Array
from gneiss.dedup.anchors.grouping import FEW
from gneiss.dedup.anchors.matching import AnchoredText, shared_windows, tile
from gneiss.dedup.growing import room_for
from gneiss.dedup.words import common_prefix, hash_range


@njit(cache=True, nogil=True)
def match_large_groups(
    text: AnchoredText, large: Int64Array, large_bounds: Int64Array, seed: np.uint64
) -> tuple[Int64Array, bool]:
    """The matches inside groups of many anchors.

    Parameters: `large`, `large_bounds`: int64, the anchors of group g are `large[large_bounds[g]:large_bounds[g + 1]]`,
    ascending; `seed`: of the hashes. Returns matches, int64 (matches, 3), in no order, and whether equal hashes
    always stood for equal units.
    A group is halved by the offset of windows from the anchor; all windows of a half share a core longer than the
    k-mer, so that members without a partner there drop out at once. At every step equal members collapse and few are
    compared in pairs; with one offset left a core is a window. Linear: each window is hashed at most twice a step.
    """
    left, count = text.left, text.windows
    matches = np.empty((1024, 3), np.int64)
    total = 0
    # tasks, the last one first: members, their number, first and last offset
    tasks = np.empty((1024, 1), np.int64)
    for group in range(len(large_bounds) - 1):
        members = large[large_bounds[group] : large_bounds[group + 1]]
        low, high = np.int64(0), np.int64(0)
        for anchor in members:
            low = min(low, -np.int64(left[anchor]))
            high = max(high, np.int64(count[anchor]) - 1 - np.int64(left[anchor]))
        top = 0
        tasks = room_for(tasks, 0, len(members) + 3)
        top = _push(tasks, top, members, low, high)
        slots = 16
        while slots < 2 * len(members):
            slots *= 2
        table = np.empty(slots, np.int64)
        hashes = np.empty(len(members), np.uint64)
        while top > 0:
            low, high, number = tasks[top - 2, 0], tasks[top - 1, 0], tasks[top - 3, 0]
            top -= 3 + number
            members = tasks[top : top + number, 0].copy()
            matches = room_for(matches, total, len(members) * FEW if len(members) <= FEW else len(members))
            before = total
            members, total = _collapse(text, members, low, high, seed, table, hashes, matches, total)
            if total < before:
                return matches[:0], False
            if len(members) <= FEW:
                total = _match_pairs(text, members, low, high, matches, total)
            elif low < high:
                middle = (low + high) // 2 if low + high >= 0 else -((-low - high + 1) // 2)
                for half in range(2):
                    half_low, half_high = (low, middle) if half == 0 else (middle + 1, high)
                    tasks = room_for(tasks, top, 4 * len(members))
                    top = _split(text, members, half_low, half_high, seed, table, hashes, tasks, top)
    return matches[:total], True


@njit(cache=True, nogil=True)
def _push(tasks: Int64Array, top: Int, members: Int64Array, low: Int, high: Int) -> Int:
    for i in range(len(members)):
        tasks[top + i, 0] = members[i]
    top += len(members)
    tasks[top, 0], tasks[top + 1, 0], tasks[top + 2, 0] = len(members), low, high
    return top + 3


@njit(cache=True, nogil=True)
def _collapse(
    text: AnchoredText,
    members: Int64Array,
    low: Int,
    high: Int,
    seed: np.uint64,
    table: Int64Array,
    hashes: UInt64Array,
    matches: Int64Array,
    total: Int,
) -> tuple[Int64Array, Int]:
    """Match members whose windows at offsets low to high are all equal; the members that are left, in place.

    A total of -1 says that two equal hashes stood for different units.
    """
    octets, size, begin, left, count, min_length, _ = text
    mask = _clear(table, len(members))
    kept = 0
    for i in range(len(members)):
        anchor = members[i]
        at = np.int64(begin[anchor]) + np.int64(left[anchor])
        first = max(low, -np.int64(left[anchor]))
        last = min(high, np.int64(count[anchor]) - 1 - np.int64(left[anchor]))
        length = (last - first + min_length) * size
        shape = (np.uint64(first - low) << np.uint64(32)) ^ np.uint64(last - low)
        hashes[kept] = hash_range(octets, (at + first) * size, (at + first) * size + length, seed ^ shape)
        slot = np.int64(hashes[kept]) & mask
        while table[slot] >= 0 and hashes[table[slot]] != hashes[kept]:
            slot = (slot + 1) & mask
        if table[slot] < 0:
            table[slot] = kept
            members[kept] = anchor
            kept += 1
            continue
        other = members[table[slot]]
        source = np.int64(begin[other]) + np.int64(left[other]) + first
        if common_prefix(octets, source * size, (at + first) * size, length) < length:
            return members[:0], -1
        matches[total, 0], matches[total, 1], matches[total, 2] = at + first, last - first + 1, source
        total += 1
    return members[:kept], total


@njit(cache=True, nogil=True)
def _split(
    text: AnchoredText,
    members: Int64Array,
    low: Int,
    high: Int,
    seed: np.uint64,
    table: Int64Array,
    hashes: UInt64Array,
    tasks: Int64Array,
    top: Int,
) -> Int:
    """Push as tasks the groups of members that agree on the units common to all windows at offsets low to high."""
    octets, size, begin, left, count, min_length, _ = text
    mask = _clear(table, len(members))
    subgroup = np.full(len(members), -1, np.int64)
    sizes = np.zeros(len(members), np.int64)
    subgroups = 0
    for i in range(len(members)):
        anchor = members[i]
        if -np.int64(left[anchor]) > high or np.int64(count[anchor]) - 1 - np.int64(left[anchor]) < low:
            continue
        at = np.int64(begin[anchor]) + np.int64(left[anchor])
        content = hash_range(octets, (at + high) * size, (at + low + min_length) * size, seed)
        slot = np.int64(content) & mask
        while table[slot] >= 0 and hashes[table[slot]] != content:
            slot = (slot + 1) & mask
        if table[slot] < 0:
            table[slot] = subgroups
            hashes[subgroups] = content
            subgroups += 1
        subgroup[i] = table[slot]
        sizes[subgroup[i]] += 1
    ends = np.empty(subgroups, np.int64)
    for g in range(subgroups):
        ends[g] = top
        if sizes[g] > 1:
            top += sizes[g] + 3
    for i in range(len(members)):
        g = subgroup[i]
        if g >= 0 and sizes[g] > 1:
            tasks[ends[g], 0] = members[i]
            ends[g] += 1
    for g in range(subgroups):
        if sizes[g] > 1:
            tasks[ends[g], 0], tasks[ends[g] + 1, 0], tasks[ends[g] + 2, 0] = sizes[g], low, high
    return top


@njit(cache=True, nogil=True)
def _match_pairs(text: AnchoredText, members: Int64Array, low: Int, high: Int, matches: Int64Array, total: Int) -> Int:
    """Match each of few members, at offsets low to high, with those before it."""
    begin, left = text.begin, text.left
    shared = np.empty((FEW, 3), np.int64)
    tiles = np.empty((FEW, 3), np.int64)
    for i in range(1, len(members)):
        found = 0
        for j in range(i):
            first, last = shared_windows(text, members[i], members[j])
            first, last = max(first, low), min(last, high)
            if first <= last:
                shared[found, 0], shared[found, 1], shared[found, 2] = first, last, members[j]
                found += 1
        at = np.int64(begin[members[i]]) + np.int64(left[members[i]])
        for t in range(tile(shared, found, tiles)):
            first, last, other = tiles[t]
            matches[total, 0], matches[total, 1] = at + first, last - first + 1
            matches[total, 2] = np.int64(begin[other]) + np.int64(left[other]) + first
            total += 1
    return total


@njit(cache=True, nogil=True)
def _clear(table: Int64Array, members: Int) -> Int:
    """Empty the part of a table that this number of members needs; returns the mask of its slots."""
    slots = 16
    while slots < 2 * members:
        slots *= 2
    table[:slots] = -1
    return slots - 1
