"""What of shards known by an index takes part in substring dedup: the passages with an anchor of the new shards.

`sought` has filters of the keys of the new shards, `known` the passages of known shards with a key that passes them,
and `known_keys` their keys. Such passages are few, so that a task serves several known shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from gneiss.corpus_steps.step import Batches, Stage, StepCorpus
from gneiss.corpus_steps.substring_plan import SubstringPlan
from gneiss.corpus_steps.union import known_place

if TYPE_CHECKING:
    from gneiss.dedup.corpus_scope import Passages


def known_stages(plan: SubstringPlan) -> Sequence[Stage]:
    """The stages between `keys`, of the new shards, and `repeated`; none where no shard is known."""
    if not plan.known:
        return ()
    from gneiss.dedup.corpus_scope import keys, sought
    from gneiss.dedup.corpus_scope.passages import schema_of

    partitions, tasks = plan.scheme.partitions, len(plan.known_buckets)
    return (
        Stage("sought", partitions, sought.SCHEMA, partial(_sought, plan), receivers=1),
        Stage("known", tasks, schema_of(plan.unit), partial(_known, plan)),
        Stage("known_keys", tasks, keys.SCHEMA, partial(_known_keys, plan), True, partitions),
    )


def known_passages(plan: SubstringPlan, corpus: StepCorpus, number: int) -> Passages:
    """The passages that take part of a known shard, by its number in the union."""
    from gneiss.dedup.corpus_scope import Passages

    return Passages.read([corpus.batch("known", *plan.known_place(number))], plan.unit)


def _sought(plan: SubstringPlan, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope import key_filter

    return [key_filter(corpus.across("keys", len(corpus.shards), partition), plan.scheme)]


def _known(plan: SubstringPlan, corpus: StepCorpus, task: int) -> Batches:
    """A batch for each known shard."""
    from gneiss.dedup.corpus_scope import Passages, sought_passages
    from gneiss.dedup.corpus_scope.passages import schema_of

    filters = corpus.across("sought", plan.scheme.partitions, 0)
    for number in plan.known_buckets[task]:
        segment, shard = known_place(corpus.segments, number)
        read = (Passages.read([batch], plan.unit) for batch in segment.batches("passages", shard))
        found = [sought_passages(passages, plan.scheme, filters) for passages in read]
        yield pa.concat_batches(found) if found else pa.RecordBatch.from_pylist([], schema_of(plan.unit))


def _known_keys(plan: SubstringPlan, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.corpus_scope import Selected, shard_keys

    for number in plan.known_buckets[task]:
        anchors = Selected.of(known_passages(plan, corpus, number).units, plan.scheme)
        yield from shard_keys(anchors, plan.scheme)
