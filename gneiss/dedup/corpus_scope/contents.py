"""Second exchange: which anchors with a partner are copies, and which must be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, BoolArray, Int, Int32Array, Int64Array, UInt8Array, UInt32Array, UInt64Array
from gneiss.dedup.corpus_scope.keys import count_keys, new_slots, occur_twice
from gneiss.dedup.corpus_scope.records import column, differences, expect, flags_of, in_passes, parted
from gneiss.dedup.corpus_scope.scheme import Scheme, in_pass, low_half
from gneiss.dedup.corpus_scope.selected import Selected
from gneiss.dedup.units import Units
from gneiss.dedup.words import hash_range

SCHEMA = pa.schema(
    [
        ("key", pa.uint32()),
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("row_step", pa.uint32()),
        ("start_step", pa.uint32()),
        ("count", pa.uint32()),
    ]
)
#: With the order of the documents, where it is not that of shards and rows: the lower come first.
CONTENTS_IN_ORDER = SCHEMA.append(pa.field("order", pa.uint64()))


class Table(NamedTuple):
    """Distinct hashes in order of first occurrence, uint64 (room, 2), and where to look for them."""

    hashes: UInt64Array
    slots: Int32Array
    used: int


def shard_contents(
    units: Units,
    selected: Selected,
    scheme: Scheme,
    repeated: Sequence[pa.RecordBatch],
    order: UInt64Array | None = None,
    begins: tuple[Int64Array, Int64Array] | None = None,
) -> list[pa.RecordBatch]:
    """Map a shard: 128-bit hash and place of the super-windows of its repeated anchors, a batch for each partition.

    Parameters: `repeated`: the bitmaps of all partitions for this shard; `order`: uint64 (documents,), which comes
    along (`CONTENTS_IN_ORDER`); `begins`: for passages, the row and the unit where each begins. Records: `SCHEMA`.
    """
    chosen, bounds = chosen_anchors(selected, scheme, flags_of(repeated))
    wanted = np.zeros(len(selected.key), np.bool_)
    wanted[chosen] = True
    high, low = _hash_super_windows(
        units.values.view(np.uint8), selected.begin, selected.left, selected.count, scheme.min_length,
        units.values.itemsize, wanted, np.uint64(scheme.hash_seed(0)), np.uint64(scheme.hash_seed(1)),
    )  # fmt: skip
    hashed = (np.cumsum(wanted) - 1)[chosen]
    document, start = places_of(selected, chosen, units)
    row = document if begins is None else begins[0][document]
    start += 0 if begins is None else begins[1][document]
    hashes = [low_half(selected.key)[chosen], high[hashed], low[hashed]]
    columns = [*hashes, *differences(row, start, bounds), selected.count[chosen].astype(np.uint32)]
    if order is None:
        return parted(pa.record_batch(columns, schema=SCHEMA), bounds)
    return parted(pa.record_batch([*columns, order[document]], schema=CONTENTS_IN_ORDER), bounds)


def wanted_texts(contents: Iterable[pa.RecordBatch], passes: int = 1) -> Iterator[pa.RecordBatch]:
    """Reduce a partition: a bitmap for each shard, set where the text of a super-window must be seen.

    Parameters: `contents`: a batch for each shard, iterated once in each of the passes. Of equal super-windows the
    earliest stands for all; where a key has only one, nothing is left to compare.
    """

    def flags(turn: int) -> Iterator[BoolArray]:
        table, seen = new_table(), new_slots()
        firsts: list[tuple[BoolArray, UInt32Array]] = []
        for batch in contents:
            taken = in_pass(column(batch, "key"), turn, passes)
            table, number = number_contents(column(batch, "high")[taken], column(batch, "low")[taken], table)
            taken[taken] = number < 0
            firsts.append((taken, column(batch, "key")[taken]))
            seen = count_keys(firsts[-1][1], seen)
        for taken, key in firsts:
            taken[taken] = occur_twice(key, seen)
            yield taken

    return in_passes(flags, passes)


def new_table() -> Table:
    """A table of no hashes."""
    return Table(np.empty((1 << 10, 2), np.uint64), np.full(1 << 11, -1, np.int32), 0)


def number_contents(high: UInt64Array, low: UInt64Array, table: Table) -> tuple[Table, Int32Array]:
    """Number 128-bit hashes from 0 by first occurrence: n for one seen before, ~n for the first of its kind."""
    number = np.empty(len(high), np.int32)
    return Table(*_number(high, low, *table, number)), number


def chosen_anchors(selected: Selected, scheme: Scheme, flags: BoolArray) -> tuple[Int64Array, Int64Array]:
    """Flagged anchors ordered by partition, and the bounds of the partitions among them."""
    order, bounds = scheme.by_partition(selected.key)
    expect(len(flags) == len(order), f"bitmaps over {len(flags)} anchors for a shard with {len(order)}")
    return order[flags], np.append(0, np.cumsum(flags))[bounds]


def places_of(selected: Selected, chosen: Int64Array, units: Units) -> tuple[Int64Array, Int64Array]:
    """Document and unit in it at which the super-windows of anchors begin."""
    begin = selected.begin[chosen]
    row = np.searchsorted(units.bounds, begin, side="right") - 1
    return row, begin - units.bounds[row]


@njit(cache=True, nogil=True)
def _hash_super_windows(
    octets: UInt8Array,
    begin: Int64Array,
    left: AnyArray,
    count: AnyArray,
    min_length: Int,
    size: Int,
    wanted: BoolArray,
    high_seed: np.uint64,
    low_seed: np.uint64,
) -> tuple[UInt64Array, UInt64Array]:
    high, low = np.empty(np.count_nonzero(wanted), np.uint64), np.empty(np.count_nonzero(wanted), np.uint64)
    written = 0
    for anchor in range(len(begin)):
        if wanted[anchor]:
            start = begin[anchor]
            end = start + np.int64(count[anchor]) - 1 + min_length
            shape = (np.uint64(left[anchor]) << np.uint64(32)) ^ np.uint64(count[anchor])
            high[written] = hash_range(octets, start * size, end * size, high_seed ^ shape)
            low[written] = hash_range(octets, start * size, end * size, low_seed)
            written += 1
    return high, low


@njit(cache=True, nogil=True)
def _number(
    high: UInt64Array, low: UInt64Array, table: UInt64Array, slots: Int32Array, used: Int, number: Int32Array
) -> tuple[UInt64Array, Int32Array, Int]:
    """Enter hashes into a table of the distinct ones, writing the number of each; returns table, slots and fill."""
    for i in range(len(high)):
        if used == len(table):
            larger = np.empty((2 * used, 2), np.uint64)
            larger[:used] = table
            table = larger
            slots = np.full(2 * len(slots), -1, np.int32)
            for old in range(used):
                slot = np.int64(table[old, 1]) & (len(slots) - 1)
                while slots[slot] >= 0:
                    slot = (slot + 1) & (len(slots) - 1)
                slots[slot] = old
        mask = len(slots) - 1
        slot = np.int64(low[i]) & mask
        while slots[slot] >= 0 and (table[slots[slot], 0] != high[i] or table[slots[slot], 1] != low[i]):
            slot = (slot + 1) & mask
        if slots[slot] >= 0:
            number[i] = slots[slot]
        else:
            slots[slot] = used
            table[used, 0], table[used, 1] = high[i], low[i]
            number[i] = ~used
            used += 1
    return table, slots, used
