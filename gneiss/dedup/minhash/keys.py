"""First stage: each shard sends the keys of its documents to partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from gneiss.arrays import AnyArray, BoolArray, Int64Array, UInt32Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.dedup.corpus_scope.records import column, firsts_of, parted
from gneiss.dedup.corpus_scope.scheme import Scheme
from gneiss.dedup.minhash.criteria import Criterion, Keys
from gneiss.errors import InputError

SCHEMA = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("row_step", pa.uint32())])
#: With the order of preference of documents, where it is not that of shards and rows: the lower come first.
KEYS_IN_ORDER = SCHEMA.append(pa.field("order", pa.uint64()))
#: Keys of shards that are known by an index, in order of keys, then of shards and rows.
KNOWN = pa.schema([*KEYS_IN_ORDER.remove(2), ("shard", pa.uint32()), ("row", pa.uint32())])
_SLICE_BYTES = 16_000_000


@dataclass(frozen=True, eq=False)
class PlacedKeys:
    """Keys as reducers take them: whose they are, and the order of preference; arrays (keys,)."""

    shard: UInt32Array
    row: UInt32Array
    high: UInt64Array
    low: UInt64Array
    order: UInt64Array

    @classmethod
    def joined(cls, parts: Sequence[PlacedKeys]) -> PlacedKeys:
        """One part after another."""
        types = (np.uint32, np.uint32, np.uint64, np.uint64, np.uint64)
        return cls(
            *(
                np.concatenate([np.empty(0, type_), *(getattr(part, field.name) for part in parts)])
                for field, type_ in zip(fields(cls), types, strict=True)
            )
        )

    def where(self, chosen: BoolArray) -> PlacedKeys:
        """Only those for which `chosen` is true."""
        return PlacedKeys(*(getattr(self, field.name)[chosen] for field in fields(self)))


def places(shard: AnyArray | int, row: AnyArray) -> Int64Array:
    """Documents by one number each, which rises with shards and rows."""
    return np.asarray(shard, np.int64) << 32 | row.astype(np.int64)


def placed_keys(
    sent: Iterable[pa.RecordBatch], known: Iterable[pa.RecordBatch] = (), before: int = 0
) -> Iterator[PlacedKeys]:
    """Batches of `KNOWN`, then those from each shard, in order of shards, whose numbers begin with `before`."""
    for batch in known:
        yield PlacedKeys(*(column(batch, field.name) for field in fields(PlacedKeys)))
    for shard, batch in enumerate(sent, before):
        order = column(batch, "order") if "order" in batch.schema.names else np.zeros(batch.num_rows, np.uint64)
        row = np.cumsum(column(batch, "row_step"), dtype=np.uint32)
        shards = np.full(batch.num_rows, shard, np.uint32)
        yield PlacedKeys(shards, row, column(batch, "high"), column(batch, "low"), order)


def shard_keys(
    batch: TextBatch,
    criterion: Criterion,
    partitions: int = 1,
    present: BoolArray | None = None,
    order: UInt64Array | None = None,
    salt: int = 0,
) -> list[pa.RecordBatch]:
    """Map a shard: the keys of its documents, a batch for each partition (`SCHEMA`, a row being steps after the last).

    Parameters: `batch`: a text for each row of the shard; `present`: bool (documents,), those that take part, default
    all; `order`: uint64 (documents,), which comes along (`KEYS_IN_ORDER`); `salt`: of 64 bits: documents of shards with
    another one share no keys.
    Raises InputError for a number of partitions out of range, and flags that are not one for each document.
    """
    present = np.ones(len(batch), np.bool_) if present is None else present
    if len(present) != len(batch):
        raise InputError(f"present: expected a flag for each of {len(batch)} documents, found {len(present)}")
    parts = [Keys(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint64))]
    for start, end in slices(batch):
        keys = criterion.keys(batch.slice(start, end), present[start:end])
        parts.append(Keys(keys.row + start, keys.high, keys.low))
    row, high, low = (np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "high", "low"))
    high ^= np.uint64(salt)
    by_partition, bounds = Scheme(min_length=1, partitions=partitions).by_partition(high)
    row, high, low = row[by_partition], high[by_partition], low[by_partition]
    step, firsts = np.diff(row, prepend=0), firsts_of(bounds)
    step[firsts] = row[firsts]
    columns = [high, low, step.astype(np.uint32)]
    if order is None:
        return parted(pa.record_batch(columns, schema=SCHEMA), bounds)
    return parted(pa.record_batch([*columns, order[row]], schema=KEYS_IN_ORDER), bounds)


def slices(batch: TextBatch) -> Iterator[tuple[int, int]]:
    """Runs of documents of at most `_SLICE_BYTES`, to bound memory; a longer document is a run of its own."""
    start = 0
    while start < len(batch):
        end = int(np.searchsorted(batch.offsets, batch.offsets[start] + _SLICE_BYTES, "right")) - 1
        yield start, (end := min(max(end, start + 1), len(batch)))
        start = end
