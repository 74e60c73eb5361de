"""Which document comes first, across shards, where that is not the order of shards and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa

from gneiss.arrays import UInt64Array
from gneiss.corpus_steps.step import Batches, Segment, Stage, StepCorpus


def order_stages(measure: str | None, corpus: StepCorpus) -> Sequence[Stage]:
    """The stage `order` over shards: a batch for a receiver of all orders; none without a measure."""
    from gneiss.dedup import preference

    if measure is None:
        return ()
    work = partial(_order, measure)
    return (
        Stage("order", len(corpus.shards), preference.SCHEMA, work, is_local=True, receivers=1, is_read_by_task=True),
    )


def kept_order(measure: str | None, corpus: StepCorpus) -> Sequence[Stage]:
    """The same for an index."""
    from gneiss.dedup import preference

    if measure is None:
        return ()
    return (Stage("kept_order", len(corpus.shards), preference.SCHEMA, _kept_order, is_kept=True),)


def orders_of(measure: str | None, corpus: StepCorpus) -> Iterable[pa.RecordBatch] | None:
    """The orders of all shards, those of segments first."""
    if measure is None:
        return None
    known = (batch for segment in corpus.segments for batch in _orders_of_segment(segment))
    return chain(known, corpus.across("order", len(corpus.shards), 0))


def _orders_of_segment(segment: Segment) -> Batches:
    """All alike, where the run kept the earliest document."""
    from gneiss.dedup.preference import SCHEMA

    kept = segment.tasks("kept_order")
    for shard, (_, rows) in enumerate(segment.shards):
        if kept:
            yield from segment.batches("kept_order", shard)
        else:
            yield pa.record_batch([np.zeros(rows, np.uint64)], schema=SCHEMA)


def order_in(measure: str | None, corpus: StepCorpus, shard: int) -> UInt64Array | None:
    """The order of the rows of a shard, uint64 (rows,), as the stage left it."""
    from gneiss.dedup.corpus_scope.records import column

    return None if measure is None else column(corpus.batch("order", shard), "order")


def measured_order(measure: str | None, corpus: StepCorpus, shard: int) -> UInt64Array | None:
    """The order of the rows of a shard, uint64 (rows,)."""
    from gneiss.dedup.preference import order_of

    return None if measure is None else order_of(corpus.measured(shard, measure))


def _order(measure: str, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.preference import SCHEMA

    return [pa.record_batch([measured_order(measure, corpus, shard)], schema=SCHEMA)]


def _kept_order(corpus: StepCorpus, shard: int) -> Batches:
    return corpus.batches("order", shard)
