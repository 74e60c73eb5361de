"""Which of several documents comes first: by a measure of the documents, then by shard and row."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Int64Array, UInt64Array

#: A value for each row of a shard: the lower come first.
SCHEMA = pa.schema([("order", pa.uint64())])
_LAST = 2**64 - 1
_SIGN = np.uint64(1 << 63)


def order_of(measure: pa.Array) -> UInt64Array:
    """Numbers or flags as an order, uint64 (documents,), in which the largest comes first and what is missing last.

    >>> np.argsort(order_of(pa.array([0.5, None, -2.0, 7.0, float("nan")])), kind="stable").tolist()
    [3, 0, 2, 1, 4]
    """
    values = measure.cast(pa.int8()) if pa.types.is_boolean(measure.type) else measure
    values = values.cast(pa.float64(), safe=False)
    there = pc.fill_null(pc.invert(pc.is_nan(values)), False).to_numpy(zero_copy_only=False)
    given = np.asarray(pc.fill_null(values, 0.0)) + 0.0  # no negative zero
    bits = given.view(np.uint64)
    rising = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.where(there, ~rising, np.uint64(_LAST))


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where documents in order of preference are cut into parts, by default into one: the first of each other part.

    order: uint64 (parts - 1,); number: in the corpus, int64 (parts - 1,); own: the number of the first document that
    has its order: those before come before all others, by number.
    """

    order: UInt64Array = field(default_factory=lambda: np.empty(0, np.uint64))
    number: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    own: int = 0

    @classmethod
    def evenly(cls, order: UInt64Array, number: Int64Array, parts: int) -> Cuts:
        """Cuts between which there are about equally many of these documents.

        >>> cuts = Cuts.evenly(np.array([5, 0, 5, 0], np.uint64), np.array([0, 1, 2, 3]), 2)
        >>> len(cuts), cuts.part_of(np.array([0, 5, 5], np.uint64), np.array([9, 0, 2])).tolist()
        (2, [0, 1, 1])
        """
        places = np.arange(1, parts) * len(number) // parts
        rising = np.lexsort((number, order))[places]
        return cls(order[rising], number[rising])

    def __len__(self) -> int:
        return len(self.number) + 1

    def part_of(self, order: UInt64Array, number: Int64Array) -> Int64Array:
        """The part that each of some documents is in, int64 (documents,)."""
        part = np.zeros(len(number), np.int64)
        for cut in range(1, len(self)):
            part += self._begun(cut, order, number)
        return part

    def are_in(self, part: int, order: UInt64Array, number: Int64Array) -> BoolArray:
        """Whether each of some documents is in a part."""
        return self._begun(part, order, number) & ~self._begun(part + 1, order, number)

    def _begun(self, part: int, order: UInt64Array, number: Int64Array) -> BoolArray:
        """Whether documents are in a part, or a later one."""
        if not 0 < part < len(self):
            return np.full(len(number), part == 0)
        cut_order, cut = self.order[part - 1], self.number[part - 1]
        order = np.where(number < self.own, np.uint64(0), order)
        return np.asarray((order > cut_order) | ((order == cut_order) & (number >= cut)))
