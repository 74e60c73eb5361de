"""Passages: the parts of a corpus that hold a first copy of each of its windows, by which it is known later on.

They are the smallest text that has every window: whatever only repeats earlier text is left out, and so are documents
shorter than a window. A passage is a document to all stages; its windows are windows of the corpus, by shard and row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import Int, Int64Array, read_only
from gneiss.dedup.corpus_scope.records import column, expect, places
from gneiss.dedup.corpus_scope.scheme import Scheme
from gneiss.dedup.growing import grown
from gneiss.dedup.units import Units

#: Units of passages in one batch, which is compressed at once.
_BATCH_UNITS = 1 << 24


def schema_of(unit: str) -> pa.Schema:
    """Of passages of bytes or tokens: document and first unit of each, its units, and bytes from one to the next."""
    fields = [("row", pa.uint32()), ("start", pa.uint32())]
    if unit == "bytes":
        return pa.schema([*fields, ("units", pa.large_list(pa.uint8()))])
    return pa.schema([*fields, ("units", pa.large_list(pa.int32())), ("steps", pa.large_list(pa.int32()))])


@dataclass(frozen=True, eq=False)
class Passages:
    """Passages of a shard: their units, and the document and the unit in it where each begins, int64 (passages,).

    starts of the units: bytes of the whole document. A shard as a whole is one passage a document.
    """

    units: Units
    row: Int64Array
    start: Int64Array

    @classmethod
    def read(cls, batches: Iterable[pa.RecordBatch], unit: str) -> Passages:
        """From the batches of `shard_passages`."""
        schema = schema_of(unit)
        table = pa.Table.from_batches(batches, schema)
        row, start = (table[name].to_numpy().astype(np.int64) for name in ("row", "start"))
        lists = table["units"].combine_chunks()
        values, bounds = lists.flatten().to_numpy(), np.append(0, np.cumsum(np.diff(lists.offsets.to_numpy())))
        starts = None
        if unit == "tokens":
            steps = table["steps"].combine_chunks().flatten().to_numpy()
            starts = np.cumsum(steps, dtype=np.int64)
            starts -= np.repeat(np.append(0, starts)[bounds[:-1]], np.diff(bounds))
        # no cut of a passage is looked for, so that nobody asks where its last token ends
        return cls(Units(read_only(values), bounds, starts, np.diff(bounds)), row, start)

    def byte_offsets(self, row: Int64Array, position: Int64Array) -> Int64Array:
        """Bytes in documents of units that are in passages, by document and unit."""
        if self.units.starts is None:
            return position
        order = np.searchsorted(_keys(self.row, self.start), _keys(row, position), side="right") - 1
        at = self.units.bounds[order] + position - self.start[order]
        inside = (order >= 0) & (self.row[order] == row) & (at < self.units.bounds[order + 1])
        expect(bool(inside.all()), "sources that are not in the passages of an index")
        return np.asarray(self.units.starts[at], np.int64)


def shard_passages(
    units: Units, copies: Int64Array, scheme: Scheme, answers: Iterable[pa.RecordBatch], own: int
) -> Iterator[pa.RecordBatch]:
    """Map a shard: what has each window of the corpus that is first in this shard (`schema_of`), sorted.

    Parameters: `copies`: of its anchors; `answers`: those of all partitions and passes for it; `own`: the first shard
    of this corpus: repeats of what comes before are kept, since a later corpus may not be compared with that.
    """
    starts, counts = [copies[:, 0]], [copies[:, 1]]
    for batch in answers:
        row, start = places(column(batch, "row_step"), column(batch, "start_step"))
        expect(bool((row < len(units.sizes)).all()), "answers that do not fit a shard")
        repeats = column(batch, "source_shard") > own
        starts.append((units.bounds[row] + start)[repeats])
        counts.append(column(batch, "count")[repeats].astype(np.int64))
    first, count = np.concatenate(starts), np.concatenate(counts)
    order = np.argsort(first, kind="stable")
    begin, end = _kept(first[order], (first + count)[order], units.bounds, scheme.min_length)
    documents = len(units.sizes)
    whole = Passages(units, np.arange(documents), np.zeros(documents, np.int64))
    sizes = np.append(0, np.cumsum(end - begin))
    low = 0
    while low < len(begin):
        high = max(int(np.searchsorted(sizes, sizes[low] + _BATCH_UNITS, side="right")) - 1, low + 1)
        yield passages_batch(whole, begin[low:high], end[low:high])
        low = high


def passages_batch(passages: Passages, begin: Int64Array, end: Int64Array) -> pa.RecordBatch:
    """Stretches of the units of passages, none across two of them, as passages (`schema_of`)."""
    units = passages.units
    of = np.searchsorted(units.bounds, begin, side="right") - 1
    start = passages.start[of] + begin - units.bounds[of]
    bounds = pa.array(np.append(0, np.cumsum(end - begin)))
    stretches = [slice(low, high) for low, high in zip(begin.tolist(), end.tolist(), strict=True)]
    columns = [passages.row[of].astype(np.uint32), start.astype(np.uint32)]
    values = np.concatenate([units.values[:0], *(units.values[stretch] for stretch in stretches)])
    lists = [pa.LargeListArray.from_arrays(bounds, values)]
    if units.starts is not None:
        starts = [units.starts[:0], *(units.starts[stretch] for stretch in stretches)]
        steps = np.diff(np.concatenate(starts), prepend=0)
        steps[np.asarray(bounds)[:-1]] = units.starts[begin]
        lists.append(pa.LargeListArray.from_arrays(bounds, pa.array(steps.astype(np.int32))))
    return pa.record_batch([*columns, *lists], schema=schema_of("bytes" if units.starts is None else "tokens"))


def _keys(row: Int64Array, unit: Int64Array) -> Int64Array:
    return (row << 32) + unit


@njit(cache=True, nogil=True)
def _kept(
    repeats: Int64Array, repeats_end: Int64Array, bounds: Int64Array, min_length: Int
) -> tuple[Int64Array, Int64Array]:
    """Where stretches begin and end that windows cover which are no repeats, int64 (passages,) each.

    Parameters: `repeats`, `repeats_end`: stretches of windows that are, disjoint and sorted.
    """
    begin, end = np.empty(16, np.int64), np.empty(16, np.int64)
    count: Int = 0
    repeat: Int = 0
    for document in range(len(bounds) - 1):
        opened = count
        window, limit = bounds[document], bounds[document + 1] - min_length + 1
        while window < limit:
            while repeat < len(repeats) and repeats_end[repeat] <= window:
                repeat += 1
            stop = limit
            if repeat < len(repeats):
                if repeats[repeat] <= window:
                    window = repeats_end[repeat]
                    continue
                stop = min(limit, repeats[repeat])
            if count == opened or window > end[count - 1]:
                if count == len(begin):
                    begin, end = grown(begin, count, 2 * count), grown(end, count, 2 * count)
                begin[count] = window
                count += 1
            end[count - 1] = stop - 1 + min_length
            window = stop
    return begin[:count], end[:count]
