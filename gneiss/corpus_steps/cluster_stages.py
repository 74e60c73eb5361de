"""Clusters across shards: two stages for each range of the corpus, one task each.

From the last range to the first, `joined` unites what is linked; from the first to the last, `clusters` says of each
document which cluster it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa

from gneiss.corpus_steps.preference_stages import orders_of
from gneiss.corpus_steps.step import REDUCER_MEMORY_BYTES, Batches, Stage, StepCorpus
from gneiss.corpus_steps.union import Union

if TYPE_CHECKING:
    from gneiss.dedup.minhash.joining import Ranges


def ranges_of(corpus: StepCorpus) -> Ranges:
    """The ranges of a corpus and what comes before it, each of which a task can hold."""
    from gneiss.dedup.minhash.joining import BYTES_PER_DOCUMENT, Ranges

    union = Union.of(corpus)
    return Ranges.of(union.rows, REDUCER_MEMORY_BYTES // BYTES_PER_DOCUMENT, union.segment)


def cluster_stages(keep: str | None, partitions: int, corpus: StepCorpus) -> Sequence[Stage]:
    """The stages after `matched`, whose batches are for ranges; `keep`: which document comes first."""
    from gneiss.dedup.minhash import clusters, joining

    count = len(ranges_of(corpus))
    joined = [
        Stage(f"joined_{index}", 1, joining.SCHEMA, partial(_joined, keep, partitions, index), receivers=count)
        for index in reversed(range(count))
    ]
    resolved = [
        Stage(f"clusters_{index}", 1, clusters.SCHEMA, partial(_resolved, index), is_local=index == 0)
        for index in range(count)
    ]
    return (*joined, *resolved)


def clusters_of(corpus: StepCorpus, ranges: Ranges, shard: int) -> pa.RecordBatch:
    """The documents of a shard, by its number in the union, that are in clusters, when all stages are done."""
    index = ranges.of_shard(shard)
    return corpus.batch(f"clusters_{index}", 0, shard - int(ranges.shards[index]))


def _joined(keep: str | None, partitions: int, index: int, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.minhash.joining import joined

    ranges = ranges_of(corpus)
    passed = (batch for later in range(index + 1, len(ranges)) for batch in corpus.across(f"joined_{later}", 1, index))
    orders = orders_of(keep, corpus)
    first, end = ranges.shards[index : index + 2].tolist()
    its_orders = None if orders is None else islice(orders, first, end)
    return joined(corpus.across("matched", partitions, index), passed, ranges, index, its_orders)


def _resolved(index: int, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.minhash.joining import resolved

    ranges = ranges_of(corpus)
    *_, members = corpus.across(f"joined_{index}", 1, index)
    passed = (corpus.across(f"joined_{later}", 1, index) for later in range(index + 1, len(ranges)))
    answers = (
        corpus.batch(f"clusters_{earlier}", 0, ranges.shards_in(earlier) + index) for earlier in range(index)
    )  # fmt: skip
    return resolved(members, passed, answers, ranges, index)
