"""A hash table of what a document has already shown: reused from document to document without being cleared."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from gneiss.arrays import Int, UInt64Array

#: uint64 (slots, 2): a key, and where it was first seen: round << 32 | place. What earlier rounds left is empty.


def seen_table(most_keys: int) -> UInt64Array:
    """Slots for up to `most_keys` keys in a round; rounds are numbered from 1."""
    return np.zeros((slots_for(most_keys), 2), np.uint64)


@njit(cache=True, nogil=True)
def slots_for(most_keys: Int) -> Int:
    """The slots that a round of up to `most_keys` keys uses: few keys stay close together in memory."""
    slots = 8
    while slots < 2 * most_keys:
        slots *= 2
    return slots


@njit(cache=True, nogil=True)
def first_seen(table: UInt64Array, slots: Int, this_round: Int, key: Int, place: Int) -> Int:
    """The place where a key was first seen in this round, or -1 if that is here. Places are less than 2**32."""
    spread = (key ^ (key >> uint64(32))) * uint64(0xD6E8FEB86659FD93)
    slot = (spread >> uint64(32)) & uint64(slots - 1)
    while table[slot, 1] >> uint64(32) == uint64(this_round):
        if table[slot, 0] == key:
            return np.int64(table[slot, 1] & uint64(0xFFFFFFFF))
        slot = (slot + uint64(1)) & uint64(slots - 1)
    table[slot, 0] = key
    table[slot, 1] = np.uint64(this_round) << np.uint64(32) | np.uint64(place)
    return np.int64(-1)
