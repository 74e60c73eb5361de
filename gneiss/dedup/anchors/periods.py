"""Periodic stretches: the text in which every window repeats one a few units before it (`=====`, `| | |`)."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array, UInt8Array
from gneiss.dedup.growing import room_for
from gneiss.dedup.words import common_prefix, common_suffix, load_word


@njit(cache=True, nogil=True)
def longest_period(k: Int, size: Int) -> Int:
    """The longest period that `periodic_stretches` looks for in stretches of `k` units of `size` bytes.

    At most 2/5 of k, so that two stretches with different periods overlap by less than k (Fine and Wilf 1965).
    """
    return 2 * max(0, (k - 8 // size) // 5)


@njit(cache=True, nogil=True)
def periodic_stretches(octets: UInt8Array, low: Int, high: Int, k: Int, size: Int) -> Int64Array:
    """Every maximal stretch of at least k units with a period of at most `longest_period`.

    Parameters: `octets`: the corpus as bytes; `low`, `high`: a document, in units of `size` bytes.
    Returns int64 (stretches, 3), by start: start, end (units), shortest period.
    Every k units with such a period contain a probed word that recurs at a distance in (longest / 2, longest], since
    each period has a multiple there; probing one word in a few dozen bytes finds all.
    """
    found = np.empty((4, 3), np.int64)
    count: Int = 0
    longest = longest_period(k, size)
    word = 8 // size
    stride = k - longest - word + 1
    if longest == 0 or high - low < k:
        return found[:0]
    start = end = period = low - 1
    for probe in range(low, high - longest - word + 1, stride):
        content = load_word(octets, probe * size)
        for distance in range(longest // 2 + 1, longest + 1):
            if content != load_word(octets, (probe + distance) * size):
                continue
            if start <= probe and probe + distance + word <= end and distance % period == 0:
                continue  # the stretch found last explains it
            one, other = probe * size, (probe + distance) * size
            first = probe - common_suffix(octets, one, other, (probe - low) * size) // size
            last = probe + distance + common_prefix(octets, one, other, (high - probe - distance) * size) // size
            if last - first < k:
                continue
            start, end, period = first, last, _shortest_period(octets, first, distance, size)
            found = room_for(found, count, 1)
            place = count
            while place > 0 and found[place - 1, 0] > start:
                found[place, 0], found[place, 1], found[place, 2] = found[place - 1]
                place -= 1
            found[place, 0], found[place, 1], found[place, 2] = start, end, period
            count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _shortest_period(octets: UInt8Array, start: Int, period: Int, size: Int) -> Int:
    """The shortest period of a stretch (at least twice `period` long) that has `period`: one of its divisors."""
    for shorter in range(1, period):
        if period % shorter == 0:
            wanted = period * size
            if common_prefix(octets, start * size, (start + shorter) * size, wanted) == wanted:
                return shorter
    return period
