"""Grouping: which anchors share a k-mer, and which of those share their whole super-window."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import AnyArray, Int, Int32Array, Int64Array, UInt64Array
from gneiss.dedup.growing import grown

#: Members of a group with more distinct super-windows than this are compared by splitting, not in pairs.
FEW = 12
ALONE = -1
#: From this many anchors on, links take 64 bits.
WIDE = 2**30
_BUCKET = 16384
_ROUNDS = 4


def group(key: UInt64Array, content: UInt64Array) -> tuple[AnyArray, Int64Array, Int64Array]:
    """For each anchor the earlier anchor to compare with; hashes only propose.

    Parameters: `key`, `content`: uint64 (anchors,), in text order.
    Returns (links, large, large_bounds). links, int32 or int64 (anchors,): `copy_of(other)` when an earlier anchor,
    the first of its kind, has the same content; `after(other)` when the content is new and `other` is the latest of
    the at most FEW - 1 distinct earlier members of its group; ALONE otherwise. Groups with more than FEW distinct
    members are listed in `large`: group g has the anchors `large[large_bounds[g]:large_bounds[g + 1]]`, ascending.
    """
    links = np.empty(len(key), np.int32 if len(key) < WIDE else np.int64)
    large, large_bounds = _group(key, content, links)
    return links, large, large_bounds


@njit(cache=True, nogil=True, inline="always")
def copy_of(other: Int) -> Int:
    """The link to an equal anchor."""
    return other


@njit(cache=True, nogil=True, inline="always")
def after(other: Int) -> Int:
    """The link to another member of the group; its own inverse."""
    return -3 - other


@njit(cache=True, nogil=True)
def _group(key: UInt64Array, content: UInt64Array, links: AnyArray) -> tuple[Int64Array, Int64Array]:
    bits: Int = 3
    while len(key) >> bits > _BUCKET:
        bits += 1
    buckets = 1 << bits
    shift = np.uint64(64 - bits)
    ends = np.zeros(buckets + 1, np.int64)
    for anchor in range(len(key)):
        ends[np.int64(key[anchor] >> shift) + 1] += 1
    for bucket in range(buckets):
        ends[bucket + 1] += ends[bucket]
    starts = ends[:-1].copy()
    large = np.empty(16, np.int64)
    large_bounds = np.zeros(16, np.int64)
    groups: Int = 0
    largest_round: Int = 0
    largest: Int = 0
    for turn in range(_ROUNDS):
        largest_round = max(largest_round, ends[(turn + 1) * buckets // _ROUNDS] - ends[turn * buckets // _ROUNDS])
    for bucket in range(buckets):
        largest = max(largest, ends[bucket + 1] - ends[bucket])
    ids = np.empty(largest_round, links.dtype)
    keys = np.empty(largest_round, np.uint64)
    contents = np.empty(largest_round, np.uint64)
    slots: Int = 16
    while slots < 2 * largest:
        slots *= 2
    content_table = np.empty(slots, links.dtype)
    key_table = np.empty(slots, links.dtype)
    rank = np.empty(largest, np.int32)
    for turn in range(_ROUNDS):
        low, high = turn * buckets // _ROUNDS, (turn + 1) * buckets // _ROUNDS
        base = ends[low]
        for anchor in range(len(key)):
            home = np.int64(key[anchor] >> shift)
            if low <= home < high:
                place = starts[home] - base
                starts[home] += 1
                ids[place] = anchor
                keys[place] = key[anchor]
                contents[place] = content[anchor]
        for bucket in range(low, high):
            start, stop = ends[bucket] - base, ends[bucket + 1] - base
            mask = 15
            while mask + 1 < 2 * (stop - start):
                mask = 2 * mask + 1
            content_table[: mask + 1] = -1
            key_table[: mask + 1] = -1
            has_large = _link(
                ids[start:stop], keys[start:stop], contents[start:stop], links, content_table, key_table, mask, rank
            )
            if not has_large:
                continue
            for slot in range(mask + 1):
                member = key_table[slot]
                if member < 0 or rank[member] < FEW:
                    continue
                size = rank[member] + 1
                end = large_bounds[groups] + size
                if end > len(large):
                    large = grown(large, len(large), 2 * end)
                if groups + 2 > len(large_bounds):
                    large_bounds = grown(large_bounds, len(large_bounds), 2 * groups + 2)
                groups += 1
                large_bounds[groups] = end
                one = np.int64(ids[start + member])
                for place in range(end - 1, end - 1 - size, -1):
                    large[place] = one
                    before = np.int64(links[one])
                    links[one] = ALONE
                    one = after(before)
    return large[: large_bounds[groups]], large_bounds[: groups + 1]


@njit(cache=True, nogil=True)
def _link(
    ids: AnyArray,
    keys: UInt64Array,
    contents: UInt64Array,
    links: AnyArray,
    content_table: AnyArray,
    key_table: AnyArray,
    mask: Int,
    rank: Int32Array,
) -> bool:
    """Link the members of one bucket; `key_table` is left with the last distinct member of each group."""
    has_large = False
    for member in range(len(ids)):
        slot = np.int64(contents[member]) & mask
        while content_table[slot] >= 0 and contents[content_table[slot]] != contents[member]:
            slot = (slot + 1) & mask
        if content_table[slot] >= 0:
            links[ids[member]] = copy_of(np.int64(ids[content_table[slot]]))
            continue
        content_table[slot] = member
        slot = np.int64(keys[member]) & mask
        while key_table[slot] >= 0 and keys[key_table[slot]] != keys[member]:
            slot = (slot + 1) & mask
        last = key_table[slot]
        if last < 0:
            rank[member] = 0
            links[ids[member]] = ALONE
        else:
            rank[member] = rank[last] + 1
            links[ids[member]] = after(np.int64(ids[last]))
            has_large |= rank[member] >= FEW
        key_table[slot] = member
    return has_large
