"""First exchange: which anchors have a partner anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import BoolArray, Int, UInt32Array, UInt64Array
from gneiss.dedup.corpus_scope.records import column, in_passes, parted
from gneiss.dedup.corpus_scope.scheme import Scheme, in_pass, low_half
from gneiss.dedup.corpus_scope.selected import Selected

SCHEMA = pa.schema([("key", pa.uint32())])
_REPEATED = np.uint64(1 << 63)


class Slots(NamedTuple):
    """A hash table of keys: key + 1 and, in the highest bit, whether it came twice; 0 is an empty slot."""

    slots: UInt64Array
    used: int


def shard_keys(selected: Selected, scheme: Scheme) -> list[pa.RecordBatch]:
    """Map a shard: the keys of its anchors in text order, a batch for each partition (`SCHEMA`)."""
    order, bounds = scheme.by_partition(selected.key)
    return parted(pa.record_batch([low_half(selected.key)[order]], schema=SCHEMA), bounds)


def repeated_keys(
    keys: Iterable[pa.RecordBatch], passes: int = 1, known: Iterable[pa.RecordBatch] = ()
) -> Iterator[pa.RecordBatch]:
    """Reduce a partition: a bitmap for each shard, set where the key occurs twice or more in all of them.

    Parameters: `keys`: a batch for each shard, iterated twice in each of the passes; `known`: the same of those that
    are known by an index, whose bitmaps come first; of them, keys are set that occur in one of the others. Two
    different keys may share their low half; that costs a record in the next exchange, nothing else.
    """

    def flags(turn: int) -> Iterator[BoolArray]:
        seen = new_slots()
        for batch in keys:
            key = column(batch, "key")
            seen = count_keys(key[in_pass(key, turn, passes)], seen)
        for batch in known:
            key = column(batch, "key")
            flags = in_pass(key, turn, passes)
            flags[flags] = occur(key[flags], seen)
            seen = count_keys(key[flags], seen)
            yield flags
        for batch in keys:
            key = column(batch, "key")
            flags = in_pass(key, turn, passes)
            flags[flags] = occur_twice(key[flags], seen)
            yield flags

    return in_passes(flags, passes)


def new_slots() -> Slots:
    """A table of no keys."""
    return Slots(np.zeros(1 << 10, np.uint64), 0)


def count_keys(key: UInt32Array, seen: Slots) -> Slots:
    """The table with more keys."""
    return Slots(*_count(key, *seen))


def occur(key: UInt32Array, seen: Slots) -> BoolArray:
    """Which keys were entered."""
    return np.asarray(_occur(key, seen.slots, np.uint64(1)), np.bool_)


def occur_twice(key: UInt32Array, seen: Slots) -> BoolArray:
    """Which keys were entered twice or more."""
    return np.asarray(_occur(key, seen.slots, _REPEATED), np.bool_)


@njit(cache=True, nogil=True)
def _count(key: UInt32Array, slots: UInt64Array, used: Int) -> tuple[UInt64Array, Int]:
    for i in range(len(key)):
        if 10 * used >= 7 * len(slots):
            larger = np.zeros(2 * len(slots), np.uint64)
            for old in slots:
                if old:
                    slot = np.int64(old - np.uint64(1)) & (len(larger) - 1)
                    while larger[slot]:
                        slot = (slot + 1) & (len(larger) - 1)
                    larger[slot] = old
            slots = larger
        mask = len(slots) - 1
        wanted = np.uint64(key[i]) + np.uint64(1)
        slot = np.int64(key[i]) & mask
        while slots[slot] and slots[slot] & ~_REPEATED != wanted:
            slot = (slot + 1) & mask
        if slots[slot]:
            slots[slot] |= _REPEATED
        else:
            slots[slot] = wanted
            used += 1
    return slots, used


@njit(cache=True, nogil=True)
def _occur(key: UInt32Array, slots: UInt64Array, at_least: np.uint64) -> BoolArray:
    flags = np.zeros(len(key), np.bool_)
    mask = len(slots) - 1
    for i in range(len(key)):
        wanted = np.uint64(key[i]) + np.uint64(1)
        slot = np.int64(key[i]) & mask
        while slots[slot] and slots[slot] & ~_REPEATED != wanted:
            slot = (slot + 1) & mask
        flags[i] = slots[slot] >= at_least
    return flags
