"""The keys of JSON lines as a tree of nodes, which notes the kinds of values that each of them has had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import Int32Array, Int64Array, UInt8Array, UInt64Array

#: Kinds of values that a node has had, as bits. INT: up to 2^53, which a double holds; WIDE: other integers of 64 bits
#: with a sign; UNSIGNED: of 64 bits without one; HUGE: numbers that neither they nor a double hold; MANY: an object has
#: too many keys.
NULL, BOOL, INT, NEGATIVE, WIDE, UNSIGNED, FLOAT, HUGE, STRING, OBJECT, ARRAY, MANY = (1 << bit for bit in range(12))
#: Keys of rows, keys of an object in them, and all keys that are kept track of.
MOST_COLUMNS, MOST_KEYS, MOST_NODES = 1_000, 256, 1 << 14
#: The node of rows, that of a key which is not kept track of, and the length of a key that items of an array have.
ROOT, NONE, ITEM = 0, -1, -1
_SLOTS = 4 * MOST_NODES
_Arrays: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Tree:
    """The keys of rows, and of the objects in them: nodes, in the order in which they first occurred.

    parent: of node 0, which is the rows, -1; kinds: of the values that it has had; key: start and length of its key in
    `keys`, with the length -1 for the items of an array. A malformed row leaves nothing in `kinds`.
    """

    parent: Int32Array = field(default_factory=lambda: np.full(MOST_NODES, -1, np.int32))
    kinds: Int32Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.int32))
    key: Int32Array = field(default_factory=lambda: np.zeros((MOST_NODES, 2), np.int32))
    keys: UInt8Array = field(default_factory=lambda: np.zeros(MOST_NODES * 64, np.uint8))
    _hashes: UInt64Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.uint64))
    _slots: Int32Array = field(default_factory=lambda: np.full(_SLOTS, -1, np.int32))
    _members: Int32Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.int32))
    _seen_in: Int64Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.int64))
    #: Nodes, bytes of keys, objects.
    _counts: Int64Array = field(default_factory=lambda: np.array([1, 0, 0], np.int64))

    def child(self, parent: int, key: str | None) -> int:
        """The node of a key in an object (None: of the items of an array), made if it is not there; -1: too many."""
        raw = np.frombuffer(bytearray((key or "").encode() + b"\0"), np.uint8)  # as writable as blocks: one kernel
        return int(child_of(self.arrays(), parent, raw, 0, ITEM if key is None else len(raw) - 1))

    def name(self, node: int) -> str | None:
        """The key of a node; None for the items of an array."""
        start, length = self.key[node].tolist()
        return None if length == ITEM else self.keys[start : start + length].tobytes().decode()

    def members(self, parent: int) -> list[int]:
        """The nodes in an object or array that have had values, in order."""
        count = int(self._counts[0])
        members = np.flatnonzero((self.parent[:count] == parent) & (self.kinds[:count] != 0))
        return [int(node) for node in members]

    def arrays(self) -> _Arrays:
        """For the kernels."""
        return (self.parent, self.kinds, self.key, self.keys, self._hashes, self._slots, self._members, self._seen_in,
                self._counts)  # fmt: skip


@njit(cache=True, nogil=True)
def child_of(tree, parent, text, start, length):  # type: ignore[no-untyped-def]
    """The node of a key of an object, or of the items of an array; made if it is not there; -1: one too many."""
    parents, _, key, keys, hashes, slots, members, _, counts = tree
    hash_ = (np.uint64(parent) + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    for index in range(start, start + length):
        hash_ = (hash_ ^ np.uint64(text[index])) * np.uint64(0x100000001B3)
    hash_ = (hash_ ^ (hash_ >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
    slot = np.int64(hash_ >> np.uint64(48))
    while slots[slot] >= 0:
        node = slots[slot]
        if hashes[node] == hash_ and parents[node] == parent and key[node, 1] == length:
            is_it = True
            for index in range(length):
                if keys[key[node, 0] + index] != text[start + index]:
                    is_it = False
                    break
            if is_it:
                return np.int64(node)
        slot = (slot + 1) % len(slots)
    node, used = counts[0], counts[1]
    most = MOST_COLUMNS if parent == ROOT else MOST_KEYS
    if node == len(parents) or members[parent] >= most or used + max(length, 0) > len(keys):
        return np.int64(NONE)
    for index in range(length):
        keys[used + index] = text[start + index]
    parents[node], key[node, 0], key[node, 1], hashes[node], slots[slot] = parent, used, length, hash_, node
    members[parent] += 1
    counts[0], counts[1] = node + 1, used + max(length, 0)
    return np.int64(node)


@njit(cache=True, nogil=True)
def note_kind(kinds, node, bits, journal, noted):  # type: ignore[no-untyped-def]
    """Note kinds of a node, and what it had before, so that a malformed row can be forgotten."""
    if kinds[node] & bits != bits:
        journal[noted[0], 0], journal[noted[0], 1] = node, kinds[node]
        noted[0] += 1
        kinds[node] |= bits
