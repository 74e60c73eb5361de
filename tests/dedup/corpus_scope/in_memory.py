"""All stages in one process: duplicate spans across shards that are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from gneiss.arrays import UInt64Array
from gneiss.dedup import corpus_scope as across
from gneiss.dedup.corpus_scope import Scheme
from gneiss.dedup.repeats import Policy
from gneiss.dedup.units import Units

Item = TypeVar("Item")
Row = tuple[int, ...]


def spans_across(
    shards: Sequence[Units],
    scheme: Scheme,
    policy: Policy,
    passes: int,
    fill_gaps: float = 1.0,
    orders: Sequence[UInt64Array] | None = None,
) -> list[Row]:
    """Duplicate spans of several shards as one corpus: shard, document, start, end; source shard, document, start."""
    of_shards = orders or [None] * len(shards)
    keys = transposed(across.shard_keys(units, scheme) for units in shards)
    repeated = transposed(across.repeated_keys(batches, passes) for batches in keys)
    contents = transposed(
        across.shard_contents(units, scheme, flags, order)
        for units, flags, order in zip(shards, repeated, of_shards, strict=True)
    )
    wanted_by_partition = [list(across.wanted_texts(batches, passes)) for batches in contents]
    wanted = transposed(wanted_by_partition)
    texts = transposed(
        across.shard_texts(units, scheme, *flags) for units, *flags in zip(shards, repeated, wanted, strict=True)
    )
    answers = [
        list(across.answer_shards(*batches, scheme, policy, passes))
        for batches in zip(contents, wanted_by_partition, texts, strict=True)
    ]
    cuts = []
    for shard, (units, order) in enumerate(zip(shards, of_shards, strict=True)):
        own = [batch for partition in answers for batch in partition[shard :: len(shards)]]
        copies = scheme.anchors(units).copies
        cuts.append(across.shard_cuts(shard, units, copies, scheme, own, policy, fill_gaps, order))
    return rows_in_bytes(cuts, shards)


def rows_in_bytes(cuts: Iterable[pa.RecordBatch], shards: Sequence[Units]) -> list[Row]:
    """The cuts of each shard as rows, where sources start in bytes too."""
    rows = []
    for shard, batch in enumerate(cuts):
        for document, start, end, source_shard, source_document, unit in zip(
            *(column.to_pylist() for column in batch.columns), strict=True
        ):
            (byte,) = shards[source_shard].byte_offsets(np.array([source_document]), np.array([unit])).tolist()
            rows.append((shard, document, start, end, source_shard, source_document, byte))
    return rows


def transposed(rows: Iterable[Iterable[Item]]) -> list[list[Item]]:
    """The batches of shards for partitions, or of partitions for shards, the other way round."""
    return [list(column) for column in zip(*rows, strict=True)]
