"""A hash set of 64-bit keys for what one document repeats: reused from document to document without being cleared."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

#: keys uint64 (slots,), and int64 (slots,) the round in which each slot was last filled. A round is a set.
Seen: TypeAlias = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]


def seen_keys(most_keys: int) -> Seen:
    """Slots for up to `most_keys` keys a round; rounds are numbered from 1."""
    slots = _slots(most_keys)
    return np.empty(slots, np.uint64), np.zeros(slots, np.int64)


@njit(cache=True, nogil=True)
def _slots(most_keys):  # type: ignore[no-untyped-def]
    slots = 8
    while 2 * slots < 3 * most_keys:
        slots *= 2
    return slots


@njit(cache=True, nogil=True)
def slot_mask(most_keys):  # type: ignore[no-untyped-def]
    """The slots that a round of up to `most_keys` keys uses, less one: few keys stay close together in memory."""
    return _slots(most_keys) - 1


@njit(cache=True, nogil=True)
def mixed(key):  # type: ignore[no-untyped-def]
    """A key with every bit of it spread over all bits (one to one)."""
    key = (key ^ (key >> uint64(32))) * uint64(0xD6E8FEB86659FD93)
    key = (key ^ (key >> uint64(32))) * uint64(0xD6E8FEB86659FD93)
    return key ^ (key >> uint64(32))


@njit(cache=True, nogil=True)
def find_or_add(keys, rounds, this_round, mask, key):  # type: ignore[no-untyped-def]
    """The slot of a mixed key in this round, and whether it was there before."""
    slot = np.int64(key & uint64(mask))
    while rounds[slot] == this_round:
        if keys[slot] == key:
            return slot, True
        slot = (slot + 1) & mask
    keys[slot], rounds[slot] = key, this_round
    return slot, False
