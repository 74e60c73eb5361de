"""All stages in one process: duplicate spans across shards that are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from gneiss.arrays import UInt64Array
from gneiss.dedup import corpus_scope as across
from gneiss.dedup.corpus_scope import Passages, Scheme, Selected
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
    cuts, _ = cuts_across([], shards, scheme, policy, passes, fill_gaps, orders)
    return rows_in_bytes(cuts, shards)


def cuts_across(
    known: Sequence[Passages],
    own: Sequence[Units],
    scheme: Scheme,
    policy: Policy,
    passes: int,
    fill_gaps: float = 1.0,
    orders: Sequence[UInt64Array] | None = None,
    before: int = 0,
) -> tuple[list[pa.RecordBatch], list[Passages]]:
    """What is cut from shards after those that are known, and the passages by which they are known from then on."""
    if known:
        own_keys = [across.shard_keys(Selected.of(units, scheme), scheme) for units in own]
        filters = [across.key_filter([keys[n] for keys in own_keys], scheme) for n in range(scheme.partitions)]
        unit = "bytes" if known[0].units.starts is None else "tokens"
        known = [Passages.read([across.sought_passages(passages, scheme, filters)], unit) for passages in known]
    of_known = [np.zeros(len(passages.row), np.uint64) for passages in known]
    of_shards = [*of_known, *orders] if orders else [None] * (len(known) + len(own))
    begins = [*((passages.row, passages.start) for passages in known), *[None] * len(own)]
    shards = [*(passages.units for passages in known), *own]
    selected = [Selected.of(units, scheme) for units in shards]
    keys = transposed(across.shard_keys(anchors, scheme) for anchors in selected)
    read = [
        Selected.read(anchors.to_batch(scheme), units, scheme) for anchors, units in zip(selected, shards, strict=True)
    ]
    of_own, of_those = slice(len(known), None), slice(len(known))
    repeated = transposed(across.repeated_keys(each[of_own], passes, each[of_those]) for each in keys)
    contents = transposed(
        across.shard_contents(units, anchors, scheme, *rest)
        for units, anchors, *rest in zip(shards, read, repeated, of_shards, begins, strict=True)
    )
    wanted_by_partition = [list(across.wanted_texts(batches, passes)) for batches in contents]
    wanted = transposed(wanted_by_partition)
    texts = transposed(
        across.shard_texts(units, anchors, scheme, *flags)
        for units, anchors, *flags in zip(shards, read, repeated, wanted, strict=True)
    )
    answers = [
        list(across.answer_shards(*batches, scheme, policy, passes, len(known)))
        for batches in zip(contents, wanted_by_partition, texts, strict=True)
    ]
    cuts, left = [], []
    for shard, (units, order) in enumerate(zip(shards, of_shards, strict=True)):
        answered = [batch for partition in answers for batch in partition[shard :: len(shards)]]
        if shard < len(known):
            assert not any(batch.num_rows for batch in answered)
            continue
        copies, unit = scheme.anchors(units).copies, "bytes" if units.starts is None else "tokens"
        cuts.append(across.shard_cuts(shard, units, copies, scheme, answered, policy, fill_gaps, order))
        left.append(Passages.read(across.shard_passages(units, copies, scheme, answered, before), unit))
    return cuts, left


def rows_in_bytes(cuts: Iterable[pa.RecordBatch], shards: Sequence[Units | Passages], first: int = 0) -> list[Row]:
    """The cuts of each shard from one on as rows, where sources start in bytes too."""
    rows = []
    for shard, batch in enumerate(cuts, first):
        for document, start, end, source_shard, source_document, unit in zip(
            *(column.to_pylist() for column in batch.columns), strict=True
        ):
            (byte,) = shards[source_shard].byte_offsets(np.array([source_document]), np.array([unit])).tolist()
            rows.append((shard, document, start, end, source_shard, source_document, byte))
    return rows


def transposed(rows: Iterable[Iterable[Item]]) -> list[list[Item]]:
    """The batches of shards for partitions, or of partitions for shards, the other way round."""
    return [list(column) for column in zip(*rows, strict=True)]
