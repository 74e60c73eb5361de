"""Records: the columns that shards and partitions exchange, as Arrow record batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from gneiss.arrays import AnyArray, BoolArray, Int64Array, UInt8Array, UInt32Array
from gneiss.errors import InputError


def flags_batch(flags: BoolArray) -> pa.RecordBatch:
    """A bitmap over anchors."""
    return pa.record_batch([pa.array(flags, pa.bool_())], names=["flag"])


def flags_of(batches: Iterable[pa.RecordBatch]) -> BoolArray:
    """The bitmaps of several partitions, one after another."""
    columns = [column(batch, "flag") for batch in batches]
    return np.concatenate(columns) if columns else np.empty(0, np.bool_)


def column(batch: pa.RecordBatch, name: str) -> AnyArray:
    """A column of numbers or flags without nulls; numbers are not copied."""
    return np.asarray(batch.column(name).to_numpy(zero_copy_only=False))


def in_passes(turn_flags: Callable[[int], Iterable[BoolArray]], passes: int) -> Iterator[pa.RecordBatch]:
    """The bitmaps of all shards over all passes, each flag set in at most one of them; kept packed meanwhile."""
    if passes == 1:
        yield from map(flags_batch, turn_flags(0))
        return
    packed: list[UInt8Array] = []
    lengths: list[int] = []
    for turn in range(passes):
        for shard, flags in enumerate(turn_flags(turn)):
            if turn == 0:
                packed.append(np.packbits(flags))
                lengths.append(len(flags))
            else:
                packed[shard] |= np.packbits(flags)
    for bits, length in zip(packed, lengths, strict=True):
        yield flags_batch(np.unpackbits(bits, count=length).astype(np.bool_))


def parted(batch: pa.RecordBatch, bounds: Int64Array) -> list[pa.RecordBatch]:
    """The parts of a batch between bounds: made of one batch, they take a fiftieth of the time of as many batches."""
    return [batch.slice(low, high - low) for low, high in pairwise(bounds.tolist())]


def by_receiver(batch: pa.RecordBatch, receiver: Int64Array, receivers: int) -> list[pa.RecordBatch]:
    """A batch for each receiver, of the records that are for it."""
    order = np.argsort(receiver, kind="stable")
    return parted(batch.take(pa.array(order)), np.searchsorted(receiver[order], np.arange(receivers + 1)))


def firsts_of(bounds: Int64Array) -> Int64Array:
    """The place of the first record of each part between bounds, without those that are empty."""
    return bounds[:-1][np.diff(bounds) > 0]


def differences(
    row: Int64Array, start: Int64Array, bounds: Int64Array | None = None
) -> tuple[UInt32Array, UInt32Array]:
    """Places in documents, sorted, as steps from one to the next; the start is absolute in a new row.

    bounds: of parts, in each of which this starts again.
    """
    row_step, start_step = np.diff(row, prepend=0), np.diff(start, prepend=0)
    if bounds is not None:
        firsts = firsts_of(bounds)
        row_step[firsts], start_step[firsts] = row[firsts], start[firsts]
    return row_step.astype(np.uint32), np.where(row_step > 0, start, start_step).astype(np.uint32)


def places(row_step: UInt32Array, start_step: UInt32Array) -> tuple[Int64Array, Int64Array]:
    """The rows and starts that `differences` came from."""
    start = np.cumsum(start_step, dtype=np.int64)
    base = np.maximum.accumulate(np.where(row_step > 0, start - start_step, 0)) if len(start) else start
    return np.cumsum(row_step, dtype=np.int64), start - base


def expect(holds: bool, what: str) -> None:
    """Raise InputError where exchanged records do not fit together."""
    if not holds:
        raise InputError(f"exchange: {what}; its files are damaged, or not of one run")
