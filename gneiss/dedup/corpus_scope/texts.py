"""Third exchange, requests: the texts that must be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, BoolArray, Int, Int64Array
from gneiss.dedup.corpus_scope.contents import chosen_anchors, places_of
from gneiss.dedup.corpus_scope.records import expect, firsts_of, flags_of, parted
from gneiss.dedup.corpus_scope.scheme import Scheme
from gneiss.dedup.corpus_scope.selected import Selected
from gneiss.dedup.units import Units


def shard_texts(
    units: Units,
    selected: Selected,
    scheme: Scheme,
    repeated: Sequence[pa.RecordBatch],
    wanted: Sequence[pa.RecordBatch],
) -> list[pa.RecordBatch]:
    """Map a shard: the units of the wanted super-windows, a batch for each partition.

    Parameters: `repeated`, `wanted`: the bitmaps of all partitions for this shard. Records: `text`, large_list of
    uint8 or int32, one for each super-window: what it has beyond the one before it in the batch.
    """
    chosen, bounds = chosen_anchors(selected, scheme, flags_of(repeated))
    flags = flags_of(wanted)
    expect(len(flags) == len(chosen), f"bitmaps over {len(flags)} anchors for a shard with {len(chosen)} repeated ones")
    chosen, bounds = chosen[flags], np.append(0, np.cumsum(flags))[bounds]
    row, _ = places_of(selected, chosen, units)
    begin = selected.begin[chosen]
    end = begin + selected.count[chosen] - 1 + scheme.min_length
    shared = overlaps(row, begin, end)
    shared[firsts_of(bounds)] = 0
    fresh = begin + shared
    text = pa.LargeListArray.from_arrays(np.append(0, np.cumsum(end - fresh)), _copy(units.values, fresh, end))
    return parted(pa.record_batch([text], names=["text"]), bounds)


def super_windows(
    batch: pa.RecordBatch, row: Int64Array, start: Int64Array, length: Int64Array, taken: BoolArray
) -> AnyArray:
    """The whole super-windows of a batch, one after another, only those `taken`.

    Parameters: `row`, `start`, `length`: int64, of the super-windows in units of their documents.
    """
    text = batch.column("text")
    overlap = overlaps(row, start, start + length)
    fits = len(text) == len(row) and np.array_equal(np.diff(text.offsets.to_numpy()), length - overlap)
    expect(fits, f"{len(text)} texts do not fit {len(row)} super-windows")
    at = text.offsets.to_numpy()[:-1] - overlap - text.offsets[0].as_py()
    return np.asarray(_copy(text.flatten().to_numpy(), at[taken], (at + length)[taken]))


def overlaps(row: Int64Array, start: Int64Array, end: Int64Array) -> Int64Array:
    """How many units each super-window shares with the one before it."""
    shared = np.zeros(len(row), np.int64)
    shared[1:] = np.where(row[1:] == row[:-1], np.maximum(end[:-1] - start[1:], 0), 0)
    return shared


@njit(cache=True, nogil=True)
def _copy(values: AnyArray, start: Int64Array, end: Int64Array) -> AnyArray:
    """Ranges of units, one after another."""
    total: Int = 0
    for i in range(len(start)):
        total += end[i] - start[i]
    copied = np.empty(total, values.dtype)
    written = 0
    for i in range(len(start)):
        copied[written : written + end[i] - start[i]] = values[start[i] : end[i]]
        written += end[i] - start[i]
    return copied
