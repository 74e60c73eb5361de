"""How anchors are selected and split into partitions, the same in every stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gneiss.arrays import BoolArray, Int64Array, UInt32Array, UInt64Array
from gneiss.dedup.anchors.selection import Anchors, periodic_copies, select_anchors
from gneiss.dedup.units import Units
from gneiss.errors import InputError

# Peak of the largest reducer, batches in memory included: measured 90 to 133 at min_length 200 on real text of which
# half of the anchors repeat. A corpus with more repeats needs more passes, not more partitions.
_REDUCER_BYTES_PER_ANCHOR = 130


@dataclass(frozen=True)
class Scheme:
    """What all stages over a corpus must agree on.

    Parameters: `min_length`: units of a window; `partitions`: of the hashes of anchors; `seed`: of all hashes; the
    answer depends on neither of the two. Raises InputError for values out of range.

    >>> Scheme(min_length=200, partitions=16).kmer_length
    100
    """

    min_length: int
    partitions: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        for name, limit in (("min_length", 2**31), ("partitions", 2**16)):
            if not 1 <= getattr(self, name) < limit:
                raise InputError(f"{name}: expected 1 to {limit - 1}, found {getattr(self, name)}")

    @property
    def kmer_length(self) -> int:
        """Units of the k-mers that anchors are chosen from."""
        return max(1, self.min_length // 2)

    def hash_seed(self, index: int) -> int:
        """One of the 64-bit seeds that derive from `seed` (Steele, Lea and Flood 2014, SplitMix)."""
        mask = 2**64 - 1
        word = (self.seed + (index + 1) * 0x9E3779B97F4A7C15) & mask
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        return word ^ (word >> 31)

    def anchors(self, units: Units) -> Anchors:
        """The anchors of a shard, in text order.

        Raises InputError for a document of 2^31 units or more.
        """
        longest = int(np.diff(units.bounds).max(initial=0))
        if longest >= 2**31:
            raise InputError(f"a document of {longest} units: corpus scope takes at most {2**31 - 1}")
        return select_anchors(units.values, units.bounds, self.min_length, self.kmer_length, self.hash_seed(0))

    def copies(self, units: Units) -> Int64Array:
        """The `copies` of the anchors of a shard, in a fraction of their time."""
        return periodic_copies(units.values, units.bounds, self.min_length, self.kmer_length)

    def by_partition(self, key: UInt64Array) -> tuple[Int64Array, Int64Array]:
        """Anchors ordered by partition, then as they come.

        Parameters: `key`: uint64 (anchors,), whose upper half decides. Returns order (anchors,), bounds (partitions +
        1,): partition p has the anchors `order[bounds[p]:bounds[p + 1]]`.
        """
        partition = ((key >> np.uint64(32)) * np.uint64(self.partitions)) >> np.uint64(32)
        narrow = partition.astype(np.uint16)  # sorted by its digits
        bounds = np.zeros(self.partitions + 1, np.int64)
        np.cumsum(np.bincount(narrow, minlength=self.partitions), out=bounds[1:])
        return np.argsort(narrow, kind="stable"), bounds


def low_half(key: UInt64Array) -> UInt32Array:
    """The half of a key that tells anchors of one partition apart."""
    return key.astype(np.uint32)


def in_pass(key: UInt32Array, turn: int, passes: int) -> BoolArray:
    """Which anchors a reducer looks at in one of several passes over its partition."""
    taken: Any = (key.astype(np.uint64) * np.uint64(passes)) >> np.uint64(32) == turn
    return np.asarray(taken, np.bool_)


def partitions_for(units: int, min_length: int, memory_bytes: int) -> int:
    """How many partitions keep a reducer within `memory_bytes`, for a corpus of `units`.

    >>> partitions_for(10**12, 200, 10**9)
    2550
    """
    return max(1, -(-_expected_anchors(units, min_length) * _REDUCER_BYTES_PER_ANCHOR // memory_bytes))


def passes_for(anchors: int, memory_bytes: int) -> int:
    """The number of passes of a reducer over a partition with `anchors`.

    >>> passes_for(7_000_000, 10**9), passes_for(30_000_000, 10**9)
    (1, 4)
    """
    return max(1, -(-anchors * _REDUCER_BYTES_PER_ANCHOR // memory_bytes))


def _expected_anchors(units: int, min_length: int) -> int:
    width = min_length - max(1, min_length // 2) + 1
    return 2 * units // (width + 1)
