"""Records: the columns that shards and partitions exchange, as Arrow record batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gneiss.dedup.units import IntArray
from gneiss.errors import InputError

Flags: TypeAlias = npt.NDArray[np.bool_]
Narrow: TypeAlias = npt.NDArray[np.uint32]


def flags_batch(flags: Flags) -> pa.RecordBatch:
    """A bitmap over anchors."""
    return pa.record_batch([pa.array(flags, pa.bool_())], names=["flag"])


def flags_of(batches: Iterable[pa.RecordBatch]) -> Flags:
    """The bitmaps of several partitions, one after another."""
    columns = [np.asarray(batch.column("flag").to_numpy(zero_copy_only=False), np.bool_) for batch in batches]
    return np.concatenate(columns) if columns else np.empty(0, np.bool_)


def column(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    """A numeric column without nulls, not copied."""
    return np.asarray(batch.column(name).to_numpy())


def in_passes(turn_flags: Callable[[int], Iterable[Flags]], passes: int) -> Iterator[pa.RecordBatch]:
    """The bitmaps of all shards over all passes, each flag set in at most one of them; kept packed meanwhile."""
    if passes == 1:
        yield from map(flags_batch, turn_flags(0))
        return
    packed: list[npt.NDArray[np.uint8]] = []
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


def differences(row: IntArray, start: IntArray) -> tuple[Narrow, Narrow]:
    """Places in documents, sorted, as steps from one to the next; the start counts anew in a new row."""
    row_step, start_step = np.diff(row, prepend=0), np.diff(start, prepend=0)
    return row_step.astype(np.uint32), np.where(row_step > 0, start, start_step).astype(np.uint32)


def places(row_step: Narrow, start_step: Narrow) -> tuple[IntArray, IntArray]:
    """The rows and starts that `differences` came from."""
    start = np.cumsum(start_step, dtype=np.int64)
    base = np.maximum.accumulate(np.where(row_step > 0, start - start_step, 0)) if len(start) else start
    return np.cumsum(row_step, dtype=np.int64), start - base


def expect(holds: bool, what: str) -> None:
    """Raise InputError where exchanged records do not fit together."""
    if not holds:
        raise InputError(f"exchange: {what}; its files are damaged, or not of one run")
