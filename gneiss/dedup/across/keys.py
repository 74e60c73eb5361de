"""Round 1: which anchors have a partner anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.dedup.across.records import Flags, Narrow, column, in_passes
from gneiss.dedup.across.scheme import Scheme, in_pass, low_half
from gneiss.dedup.sampling import Words
from gneiss.dedup.units import Int, Units

SCHEMA = pa.schema([("key", pa.uint32())])
_REPEATED = np.uint64(1 << 63)


def shard_keys(units: Units, scheme: Scheme) -> list[pa.RecordBatch]:
    """Map a shard: the keys of its anchors in text order, a batch for each partition (`SCHEMA`)."""
    key = scheme.anchors(units).key
    order, bounds = scheme.by_partition(key)
    keys = low_half(key)[order]
    return [
        pa.record_batch([keys[low:high]], schema=SCHEMA) for low, high in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def repeated_keys(keys: Iterable[pa.RecordBatch], passes: int = 1) -> Iterator[pa.RecordBatch]:
    """Reduce a partition: a bitmap for each shard, set where the key occurs twice or more in all of them.

    Parameters: `keys`: a batch for each shard, iterated twice in each of the passes. Two different keys may share
    their low half; that costs a record in the next round, nothing else.
    """

    def flags(turn: int) -> Iterator[Flags]:
        slots, used = np.zeros(1 << 10, np.uint64), 0
        for batch in keys:
            slots, used = count_keys(_taken(column(batch, "key"), turn, passes), slots, used)
        for batch in keys:
            key = column(batch, "key")
            if passes == 1:
                yield occur_twice(key, slots)
            else:
                yield in_pass(key, turn, passes) & occur_twice(key, slots)

    return in_passes(flags, passes)


def _taken(key: Narrow, turn: int, passes: int) -> Narrow:
    return key if passes == 1 else key[in_pass(key, turn, passes)]


@njit(cache=True, nogil=True)
def count_keys(key: Narrow, slots: Words, used: Int) -> tuple[Words, Int]:
    """Enter keys into a table of the distinct ones (0 is an empty slot); returns the table and its fill."""
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
def occur_twice(key: Narrow, slots: Words) -> Flags:
    """Which keys were entered twice or more."""
    flags = np.zeros(len(key), np.bool_)
    mask = len(slots) - 1
    for i in range(len(key)):
        wanted = np.uint64(key[i]) + np.uint64(1)
        slot = np.int64(key[i]) & mask
        while slots[slot] and slots[slot] & ~_REPEATED != wanted:
            slot = (slot + 1) & mask
        flags[i] = slots[slot] >= _REPEATED
    return flags
