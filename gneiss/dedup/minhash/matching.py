"""Second stage: which documents have equal keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int32Array, UInt32Array
from gneiss.dedup.corpus_scope.contents import Table, number_contents
from gneiss.dedup.corpus_scope.records import column
from gneiss.dedup.corpus_scope.scheme import in_pass, low_half

SCHEMA = pa.schema(
    [
        ("shard", pa.uint32()),
        ("row", pa.uint32()),
        ("first_shard", pa.uint32()),
        ("first_row", pa.uint32()),
    ]
)
_REDUCER_BYTES_PER_KEY = 48


def matched(sent: Iterable[pa.RecordBatch], passes: int = 1) -> Iterator[pa.RecordBatch]:
    """Reduce a partition: each document with a key that an earlier one has, and the earliest that has it (`SCHEMA`).

    Parameters: `sent`: the keys from each shard, in order of shards, iterated once before and once in each of the
    passes. A batch for each pass; a pair comes once for each key that it shares.
    """
    keys = sum(batch.num_rows for batch in sent)
    for turn in range(passes):
        yield _matched(sent, turn, passes, keys)


def partitions_for(documents: int, keys_per_document: int, memory_bytes: int) -> int:
    """How many partitions keep a reducer within `memory_bytes`, for a corpus of `documents`.

    >>> partitions_for(10**9, 14, 4 * 10**9)
    168
    """
    return passes_for(documents * keys_per_document, memory_bytes)


def passes_for(keys: int, memory_bytes: int) -> int:
    """The number of passes of a reducer over a partition with `keys`.

    >>> passes_for(10_000_000, 10**9), passes_for(100_000_000, 10**9)
    (1, 5)
    """
    return max(1, -(-keys * _REDUCER_BYTES_PER_KEY // memory_bytes))


def _matched(sent: Iterable[pa.RecordBatch], turn: int, passes: int, keys: int) -> pa.RecordBatch:
    table = _table_for(keys // passes)
    first_rows: list[UInt32Array] = [np.empty(0, np.uint32)]  # of the distinct keys, in order of first occurrence
    first_of_shard = []
    repeats: list[tuple[UInt32Array, Int32Array]] = []
    for batch in sent:
        first_of_shard.append(table.used)
        high, low = column(batch, "high"), column(batch, "low")
        row = np.cumsum(column(batch, "row_step"), dtype=np.uint32)
        if passes > 1:
            taken = in_pass(low_half(high), turn, passes)
            high, low, row = high[taken], low[taken], row[taken]
        table, number = number_contents(high, low, table)
        first_rows.append(row[number < 0])
        repeats.append((row[number >= 0], number[number >= 0]))
    del table
    rows = np.concatenate(first_rows)
    del first_rows
    row = np.concatenate([np.empty(0, np.uint32), *(row for row, _ in repeats)])
    number = np.concatenate([np.empty(0, np.int32), *(number for _, number in repeats)])
    shard = np.repeat(np.arange(len(repeats), dtype=np.uint32), [len(row) for row, _ in repeats])
    first_shard = np.searchsorted(first_of_shard, number, side="right") - 1
    return pa.record_batch([shard, row, first_shard.astype(np.uint32), rows[number]], schema=SCHEMA)


def _table_for(keys: int) -> Table:
    """A table sized for about this many keys: growing would take two and a half times the memory."""
    room = 1 << max(10, (keys + keys // 64).bit_length())
    return Table(np.empty((room, 2), np.uint64), np.full(2 * room, -1, np.int32), 0)
