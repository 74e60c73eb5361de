"""Shard spans: what dedup beyond a shard says of one shard, handed to `curate`, which cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array

#: The records of the round `pieces`: bytes start to end of a row repeat a row of a shard (its index) from a byte on.
SCHEMA = pa.schema(
    [(name, pa.int64()) for name in ("row", "start", "end", "source_shard", "source_row", "source_start")]
)
#: The source shard of a piece that repeats its own shard, where dedup saw no other.
OWN_SHARD = -1


@dataclass(frozen=True, eq=False)
class ShardSpans:
    """Pieces to cut from a shard, and how much of its documents is cut elsewhere.

    row, start, end, source_shard, source_row, source_start: int64 (pieces,), sorted by row and start, disjoint;
    shard_ids: source_shard is an index into them, or OWN_SHARD; repeated_row, repeated_bytes: int64, for rows that are
    a source anywhere.
    """

    row: Int64Array
    start: Int64Array
    end: Int64Array
    source_shard: Int64Array
    source_row: Int64Array
    source_start: Int64Array
    shard_ids: Sequence[str]
    repeated_row: Int64Array
    repeated_bytes: Int64Array

    @classmethod
    def of_batches(cls, pieces: pa.RecordBatch, repeated: pa.RecordBatch, shard_ids: Sequence[str]) -> ShardSpans:
        """From a batch of the round `pieces` (SCHEMA) and one of `repeated_bytes` (row, amount)."""
        row, start, end, shard, source_row, source_start = (_numbers(pieces, name) for name in SCHEMA.names)
        repeated_row, repeated_bytes = _numbers(repeated, "row"), _numbers(repeated, "amount")
        return cls(row, start, end, shard, source_row, source_start, shard_ids, repeated_row, repeated_bytes)


def _numbers(batch: pa.RecordBatch, name: str) -> Int64Array:
    return np.asarray(batch.column(name).to_numpy(), np.int64)
