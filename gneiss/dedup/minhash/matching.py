"""Second stage: which documents have equal keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int32Array, UInt32Array
from gneiss.dedup.corpus_scope.contents import Table, number_contents
from gneiss.dedup.corpus_scope.scheme import in_pass, low_half
from gneiss.dedup.minhash.keys import PlacedKeys, placed_keys

SCHEMA = pa.schema(
    [
        ("shard", pa.uint32()),
        ("row", pa.uint32()),
        ("first_shard", pa.uint32()),
        ("first_row", pa.uint32()),
    ]
)
_REDUCER_BYTES_PER_KEY = 52


def matched(
    sent: Iterable[pa.RecordBatch], passes: int = 1, known: Iterable[pa.RecordBatch] = (), before: int = 0
) -> Iterator[pa.RecordBatch]:
    """Reduce a partition: each document with a key that an earlier one has, and the earliest that has it (`SCHEMA`).

    Parameters: `sent`: the keys from each shard, in order of shards, iterated once before and once in each of the
    passes; `known`: keys of the `before` shards before those (`KNOWN`), iterated alike. A batch for each pass; a pair
    comes once for each key that it shares.
    """
    keys = sum(batch.num_rows for batches in (known, sent) for batch in batches)
    for turn in range(passes):
        yield _matched(placed_keys(sent, known, before), turn, passes, keys)


def partitions_for(documents: int, keys_per_document: int, memory_bytes: int) -> int:
    """How many partitions keep a reducer within `memory_bytes`, for a corpus of `documents`.

    >>> partitions_for(10**9, 14, 4 * 10**9)
    182
    """
    return passes_for(documents * keys_per_document, memory_bytes)


def passes_for(keys: int, memory_bytes: int) -> int:
    """The number of passes of a reducer over a partition with `keys`.

    >>> passes_for(10_000_000, 10**9), passes_for(100_000_000, 10**9)
    (1, 6)
    """
    return max(1, -(-keys * _REDUCER_BYTES_PER_KEY // memory_bytes))


def _matched(sent: Iterable[PlacedKeys], turn: int, passes: int, keys: int) -> pa.RecordBatch:
    table = _table_for(keys // passes)
    firsts: list[tuple[UInt32Array, UInt32Array]] = []  # of the distinct keys, in order of first occurrence
    repeats: list[tuple[UInt32Array, UInt32Array, Int32Array]] = []
    for batch in sent:
        taken = batch.where(in_pass(low_half(batch.high), turn, passes)) if passes > 1 else batch
        table, number = number_contents(taken.high, taken.low, table)
        firsts.append((taken.shard[number < 0], taken.row[number < 0]))
        repeats.append((taken.shard[number >= 0], taken.row[number >= 0], number[number >= 0]))
    del table
    nothing = np.empty(0, np.uint32)
    first_shard, first_row = (np.concatenate(column) for column in zip((nothing, nothing), *firsts, strict=True))
    del firsts
    none = (nothing, nothing, np.empty(0, np.int32))
    shard, row, number = (np.concatenate(column) for column in zip(none, *repeats, strict=True))
    return pa.record_batch([shard, row, first_shard[number], first_row[number]], schema=SCHEMA)


def _table_for(keys: int) -> Table:
    """A table sized for about this many keys: growing would take two and a half times the memory."""
    room = 1 << max(10, (keys + keys // 64).bit_length())
    return Table(np.empty((room, 2), np.uint64), np.full(2 * room, -1, np.int32), 0)
