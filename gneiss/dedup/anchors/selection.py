"""Selection of anchors, content-defined: a function of the windows of a document and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from gneiss.arrays import AnyArray, Int, Int64Array, UInt8Array, UInt32Array, UInt64Array, read_only
from gneiss.dedup.anchors.periods import periodic_stretches
from gneiss.dedup.growing import grown, room_for
from gneiss.dedup.words import hash_range

#: From this many units on, positions take 64 bits.
WIDE = 2**31
_BLOCK = 8192
_PERIODIC = np.uint32(0x80000000)  # sorts k-mers with a short period behind all others


@dataclass(frozen=True, eq=False)
class Anchors:
    """Anchors in text order; anchor i owns the windows that start at `begin[i]` to `begin[i] + count[i] - 1`.

    It lies at unit `begin[i] + left[i]`, and its super-window, all units of its windows, reaches to
    `begin[i] + count[i] - 1 + L`. begin: int32 or int64; left, count: uint16 or uint32; key: uint64 hash of its k-mer;
    content: uint64 hash of its super-window, of `left` and of `count`. All (anchors,).
    copies: int64 (stretches, 3): windows inside a periodic stretch that no anchor owns: start, count, and the start of
    the equal window one period before.
    """

    begin: AnyArray
    left: AnyArray
    count: AnyArray
    key: UInt64Array
    content: UInt64Array
    copies: Int64Array


class _Columns(NamedTuple):
    """Columns of `Anchors` (`windows` is `count`) with room for more."""

    begin: AnyArray
    left: AnyArray
    windows: AnyArray
    key: UInt64Array
    content: UInt64Array


def select_anchors(values: AnyArray, bounds: Int64Array, min_length: int, k: int, seed: int) -> Anchors:
    """The anchors of all documents: for each window of `min_length` units its leftmost k-mer of least hash.

    Parameters: `values`: uint8 or int32 (units,), contiguous; `bounds`: int64 (documents + 1,); 1 <= k <= min_length.
    Equal windows have anchors with equal keys at equal offsets; every window has one owner or is in `copies`.
    k-mers with a short period come after all others, which keeps `=====` from being an anchor at every unit.
    Source: Schleimer, Wilkerson and Aiken 2003 (winnowing); Roberts et al. 2004 (minimizers).
    """
    values = read_only(values)
    begin = np.empty(0, np.int32 if len(values) < WIDE else np.int64)
    short = np.empty(0, np.uint16 if min_length < 2**16 else np.uint32)
    return Anchors(*_select(values, values.view(np.uint8), bounds, min_length, k, np.uint64(seed), begin, short))


def keys_of(values: AnyArray, begin: AnyArray, left: AnyArray, k: int, seed: int) -> UInt64Array:
    """The keys of anchors by their places; parameters as for `select_anchors`."""
    values = read_only(values)
    return np.asarray(_keys(values.view(np.uint8), values.itemsize, begin, left, k, np.uint64(seed)))


def periodic_copies(values: AnyArray, bounds: Int64Array, min_length: int, k: int) -> Int64Array:
    """The `copies` of the anchors of all documents, without these; parameters as for `select_anchors`."""
    values = read_only(values)
    return np.asarray(_periodic_copies(values.view(np.uint8), values.itemsize, bounds, min_length, k))


@njit(cache=True, nogil=True)
def _keys(octets: UInt8Array, size: Int, begin: AnyArray, left: AnyArray, k: Int, seed: np.uint64) -> UInt64Array:
    keys = np.empty(len(begin), np.uint64)
    for anchor in range(len(begin)):
        there = (np.int64(begin[anchor]) + np.int64(left[anchor])) * size
        keys[anchor] = hash_range(octets, there, there + k * size, seed)
    return keys


@njit(cache=True, nogil=True)
def _periodic_copies(octets: UInt8Array, size: Int, bounds: Int64Array, min_length: Int, k: Int) -> Int64Array:
    copies, copied = np.empty((16, 3), np.int64), 0
    for document in range(len(bounds) - 1):
        low, high = bounds[document], bounds[document + 1]
        if high - low >= min_length:
            stretches = periodic_stretches(octets, low, high, k, size)
            copies, copied = _note_copies(stretches, low, min_length, copies, copied)
    return copies[:copied]


@njit(cache=True, nogil=True)
def _note_copies(
    stretches: Int64Array, low: Int, min_length: Int, copies: Int64Array, copied: Int
) -> tuple[Int64Array, Int]:
    """Add the windows of a document from `low` on that no anchor owns; returns the rows and how many there are."""
    position = low
    for stretch in range(len(stretches)):
        start, end, period = stretches[stretch]
        if end - start >= min_length + period and start >= position:
            copies = room_for(copies, copied, 1)
            position = end - min_length + 1
            copies[copied, 0] = start + period
            copies[copied, 1] = position - start - period
            copies[copied, 2] = start
            copied += 1
    return copies, copied


@njit(cache=True, nogil=True)
def _select(
    values: AnyArray,
    octets: UInt8Array,
    bounds: Int64Array,
    min_length: Int,
    k: Int,
    seed: np.uint64,
    begin: AnyArray,
    left: AnyArray,
) -> tuple[AnyArray, AnyArray, AnyArray, UInt64Array, UInt64Array, Int64Array]:
    """The columns of Anchors; `begin` and `left` come empty and give the types of theirs."""
    size = len(octets) // max(len(values), 1)
    width = min_length - k + 1
    block = max(_BLOCK, 4 * min_length)
    hashes = np.empty((2, block + min_length), np.uint32)
    copies = np.empty((16, 3), np.int64)
    copied = 0
    count = left
    key = np.empty(0, np.uint64)
    content = np.empty(0, np.uint64)
    total = 0
    estimate = np.int64(2.1 * len(values) / (width + 1)) + 1024
    for document in range(len(bounds) - 1):
        low, high = bounds[document], bounds[document + 1]
        if high - low < min_length:
            continue
        stretches = periodic_stretches(octets, low, high, k, size)
        own = copied
        copies, copied = _note_copies(stretches, low, min_length, copies, copied)
        # Ranges of window starts: the whole document, or what long periodic stretches leave of it, which are two before
        # each of them, parted where it starts.
        position = low
        is_before = True
        near = 0
        while position <= high - min_length:
            stop = high - min_length + 1
            if own < copied:
                stop = copies[own, 2] if is_before else copies[own, 0]
            at = position
            opened = total
            while at < stop:
                windows = min(block, stop - at)
                if total + windows > len(begin):
                    room = max(total + windows, estimate, total + total // 2)
                    begin, left, count = grown(begin, total, room), grown(left, total, room), grown(count, total, room)
                    key, content = grown(key, total, room), grown(content, total, room)
                row = _hash_kmers(values[at : at + windows + min_length - 1], k, seed, hashes)
                while near < len(stretches) and stretches[near, 1] < at + k:
                    near += 1
                _put_last(hashes[row, : windows + width - 1], stretches[near:], at, k)
                total = _scan(hashes[row], windows, width, at, opened, total, begin, left, count)
                at += windows
            if total > opened:
                count[total - 1] = stop - begin[total - 1]
            columns = _Columns(begin, left, count, key, content)
            _hash_anchors(octets, size, columns, opened, total, min_length, k, seed)
            position = stop
            if own < copied and not is_before:
                position += copies[own, 1]
                own += 1
            is_before = not is_before
    return begin[:total], left[:total], count[:total], key[:total], content[:total], copies[:copied]


@njit(cache=True, nogil=True)
def _put_last(hashes: UInt32Array, stretches: Int64Array, at: Int, k: Int) -> None:
    """Make the hashes of k-mers inside periodic stretches larger than all others; the first is of the unit `at`."""
    for stretch in range(len(stretches)):
        first = max(stretches[stretch, 0] - at, 0)
        if first >= len(hashes):
            break
        for kmer in range(first, min(stretches[stretch, 1] - k + 1 - at, len(hashes))):
            hashes[kmer] |= _PERIODIC


@njit(cache=True, nogil=True)
def _hash_anchors(
    octets: UInt8Array, size: Int, columns: _Columns, opened: Int, total: Int, min_length: Int, k: Int, seed: np.uint64
) -> None:
    """Set the key and content of the anchors `opened` to `total`, whose text was just read."""
    begin, left, count, key, content = columns
    for anchor in range(opened, total):
        start = np.int64(begin[anchor])
        there = (start + np.int64(left[anchor])) * size
        end = start + np.int64(count[anchor]) - 1 + min_length
        key[anchor] = hash_range(octets, there, there + k * size, seed)
        shape = (np.uint64(left[anchor]) << np.uint64(32)) ^ np.uint64(count[anchor])
        content[anchor] = hash_range(octets, start * size, end * size, seed ^ shape)


@njit(cache=True, nogil=True)
def _hash_kmers(values: AnyArray, k: Int, seed: np.uint64, hashes: UInt32Array) -> Int:
    """Hash all k-mers of `values` into one of the two rows of `hashes`; returns which.

    Hashes of 4, 16, 64, ... and at last k units are put together from four hashes of the stage before, loops without
    branches that compile to vector instructions. 31 bits, the highest is left 0.
    """
    mixed = (seed ^ np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xD1B54A32D192ED03)
    multiplier = np.uint32(mixed >> np.uint64(32)) | np.uint32(1)
    reach = min(4, k)
    out = len(values) - reach + 1
    one, two, three = min(1, reach - 1), min(2, reach - 1), reach - 1
    _mix(values[:out], values[one : one + out], values[two : two + out], values[three : three + out], multiplier,
         hashes[0, :out])  # fmt: skip
    row = 0
    while reach < k:
        longer = min(4 * reach, k)
        spare = longer - reach
        out = len(values) - longer + 1
        one, two, three = min(reach, spare), min(2 * reach, spare), spare
        parts = hashes[row]
        row = 1 - row
        _mix(parts[:out], parts[one : one + out], parts[two : two + out], parts[three : three + out], multiplier,
             hashes[row, :out])  # fmt: skip
        reach = longer
    return row


@njit(cache=True, nogil=True)
def _mix(
    a: AnyArray,
    b: AnyArray,
    c: AnyArray,
    d: AnyArray,
    multiplier: np.uint32,
    to: UInt32Array,
) -> None:
    for i in range(len(to)):
        x = np.uint32(a[i])
        y = np.uint32(b[i])
        x = np.uint32(x + np.uint32(np.uint32(y << np.uint32(8)) | np.uint32(y >> np.uint32(24))))
        y = np.uint32(c[i])
        x = np.uint32(x + np.uint32(np.uint32(y << np.uint32(16)) | np.uint32(y >> np.uint32(16))))
        y = np.uint32(d[i])
        x = np.uint32(x + np.uint32(np.uint32(y << np.uint32(24)) | np.uint32(y >> np.uint32(8))))
        x = np.uint32(x * multiplier)
        to[i] = np.uint32(x ^ np.uint32(x >> np.uint32(15))) & np.uint32(0x7FFFFFFF)


@njit(cache=True, nogil=True)
def _scan(
    hashes: UInt32Array,
    windows: Int,
    width: Int,
    at: Int,
    opened: Int,
    total: Int,
    begin: AnyArray,
    left: AnyArray,
    count: AnyArray,
) -> Int:
    """Append the anchors of consecutive windows, the first of which starts at unit `at`; returns the new total.

    A window has `width` k-mers. The last anchor stays open (its count is set by the next one, or by the caller), and
    goes on if it is also the anchor of the first window here.
    """
    kmers = windows + width - 1
    anchor = _leftmost_least(hashes, 0, width)
    if total > opened and begin[total - 1] + np.int64(left[total - 1]) == at + anchor:
        total -= 1
    else:
        if total > opened:
            count[total - 1] = at - begin[total - 1]
        begin[total] = at
        left[total] = anchor
    entering = width
    while True:
        leaves = min(anchor + width, kmers)
        better = _first_below(hashes, entering, leaves, hashes[anchor])
        if better < leaves:
            anchor = better
            entering = better + 1
        elif leaves == kmers:
            return total + 1
        else:
            anchor = _leftmost_least(hashes, anchor + 1, anchor + 1 + width)
            entering = leaves + 1
        window = entering - width
        count[total] = at + window - begin[total]
        total += 1
        begin[total] = at + window
        left[total] = anchor - window


@njit(cache=True, nogil=True)
def _first_below(hashes: UInt32Array, start: Int, end: Int, bound: np.uint32) -> Int:
    """The first position with a hash below `bound`, or end."""
    while end - start >= 16:
        block = hashes[start : start + 16]
        below = np.uint32(0)
        for i in range(16):
            below |= np.uint32(block[i] < bound)
        if below:
            break
        start += 16
    while start < end and hashes[start] >= bound:
        start += 1
    return start


@njit(cache=True, nogil=True)
def _leftmost_least(hashes: UInt32Array, start: Int, end: Int) -> Int:
    """The first position of the least hash."""
    block = hashes[start:end]
    least = block[0]
    for i in range(len(block)):
        least = min(least, block[i])
    return start + _first_below(block, 0, len(block), least + np.uint32(1))
