"""Which document comes first, across shards, where that is not the order of shards and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import pyarrow as pa

from gneiss.arrays import UInt64Array
from gneiss.corpus_steps.step import Batches, Stage, StepCorpus


def order_stages(measure: str | None, corpus: StepCorpus) -> Sequence[Stage]:
    """The stage `order` over shards: a batch for a receiver of all orders; none without a measure."""
    from gneiss.dedup import preference

    if measure is None:
        return ()
    work = partial(_order, measure)
    return (
        Stage("order", len(corpus.shards), preference.SCHEMA, work, is_local=True, receivers=1, is_read_by_task=True),
    )


def orders_of(measure: str | None, corpus: StepCorpus) -> Iterable[pa.RecordBatch] | None:
    """The orders of all shards."""
    return None if measure is None else corpus.across("order", len(corpus.shards), 0)


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
