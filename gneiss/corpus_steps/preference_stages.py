"""Which document comes first, across shards, where that is not the order of shards and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import pyarrow as pa

from gneiss.corpus_steps.step import Batches, Stage, StepCorpus


def order_stages(keep: str | None, corpus: StepCorpus) -> Sequence[Stage]:
    """The stage `order` over shards: a batch for the one task that joins pairs to clusters; none without `keep`."""
    from gneiss.dedup.minhash import preference

    if keep is None:
        return ()
    work = partial(_order, keep)
    return (
        Stage("order", len(corpus.shards), preference.SCHEMA, work, is_local=True, receivers=1, is_read_by_task=True),
    )


def orders_of(keep: str | None, corpus: StepCorpus) -> Iterable[pa.RecordBatch] | None:
    """The orders of all shards."""
    return None if keep is None else corpus.across("order", len(corpus.shards), 0)


def _order(keep: str, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.minhash.preference import SCHEMA, order_of

    return [pa.record_batch([order_of(corpus.measured(shard, keep))], schema=SCHEMA)]
