"""All rounds in one process: duplicate spans across shards that are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import pyarrow as pa

from gneiss.dedup.corpus_scope.answers import answer_shards
from gneiss.dedup.corpus_scope.contents import shard_contents, wanted_texts
from gneiss.dedup.corpus_scope.cuts import SCHEMA, shard_cuts
from gneiss.dedup.corpus_scope.keys import repeated_keys, shard_keys
from gneiss.dedup.corpus_scope.scheme import Scheme
from gneiss.dedup.corpus_scope.sources import in_bytes, source_bytes, source_requests
from gneiss.dedup.corpus_scope.texts import shard_texts
from gneiss.dedup.repeats import Policy
from gneiss.dedup.units import Units

Item = TypeVar("Item")


def spans_across(shards: Sequence[Units], scheme: Scheme, policy: Policy = "protect", passes: int = 1) -> pa.Table:
    """Duplicate spans of several shards as one corpus, by the same rounds as on a cluster.

    Parameters: `shards`: in corpus order; `passes`: of each reducer over its partition. Returns int64 columns `shard`,
    `document`, `start`, `end`, `source_shard`, `source_document`, `source_start`; documents count from 0 in each shard,
    starts and ends are bytes.

    >>> from gneiss.batch import TextBatch
    >>> texts = [["Terms of use apply. First text."], ["Second text.", "Third text. Terms of use apply."]]
    >>> shards = [Units.of_bytes(TextBatch.of(shard)) for shard in texts]
    >>> spans_across(shards, Scheme(min_length=12, partitions=3)).to_pylist()[0]
    {'shard': 1, 'document': 1, 'start': 12, 'end': 31, 'source_shard': 0, 'source_document': 0, 'source_start': 0}
    """
    keys = _transposed(shard_keys(units, scheme) for units in shards)
    repeated = _transposed(repeated_keys(batches, passes) for batches in keys)
    contents = _transposed(shard_contents(units, scheme, flags) for units, flags in zip(shards, repeated, strict=True))
    wanted_by_partition = [list(wanted_texts(batches, passes)) for batches in contents]
    wanted = _transposed(wanted_by_partition)
    texts = _transposed(
        shard_texts(units, scheme, *flags) for units, *flags in zip(shards, repeated, wanted, strict=True)
    )
    answers = [
        list(answer_shards(*batches, scheme, policy, passes))
        for batches in zip(contents, wanted_by_partition, texts, strict=True)
    ]
    cuts = []
    for shard, units in enumerate(shards):
        answered = [batch for partition in answers for batch in partition[shard :: len(shards)]]
        cuts.append(shard_cuts(shard, units, scheme.anchors(units).copies, scheme, answered, policy))
    if any(units.starts is not None for units in shards):
        requests = _transposed(source_requests(batch, len(shards)) for batch in cuts)
        replies = _transposed(source_bytes(*each) for each in zip(shards, requests, strict=True))
        cuts = [in_bytes(*each) for each in zip(cuts, replies, strict=True)]
    tables = [_with_shard(shard, batch) for shard, batch in enumerate(cuts)]
    schema = pa.schema([("shard", pa.int64()), *SCHEMA])
    return pa.concat_tables([schema.empty_table(), *tables])


def _transposed(rows: Iterable[Iterable[Item]]) -> list[list[Item]]:
    """The batches of shards for partitions, or of partitions for shards, the other way round."""
    return [list(column) for column in zip(*rows, strict=True)]


def _with_shard(shard: int, cuts: pa.RecordBatch) -> pa.Table:
    table = pa.Table.from_batches([cuts])
    return table.add_column(0, "shard", pa.array([shard] * len(table), pa.int64()))
