"""Near-duplicates that are verified, across shards: five stages.

| stage | over | sends |
| --- | --- | --- |
| `keys` | shards | to each partition of the keys: what documents must share |
| `candidates`, `wanted` | partitions | to each verifier: pairs to compare; to each shard: whose sets, for whom |
| `sets` | shards | to each verifier: the shingle sets of documents in its pairs |
| `verified` | verifiers | to each shard: the pairs of its documents, with similarities |
| `clusters` | all pairs | to each shard: the documents in clusters |

A verifier has the pairs of a share of the later documents. Their sets are sent to it once, those of earlier ones to
each verifier that compares them. Only documents with a candidate are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array, UInt32Array
from gneiss.corpus_steps.preference_stages import order_stages, orders_of
from gneiss.corpus_steps.step import MOST_PARTITIONS, REDUCER_MEMORY_BYTES, Batches, ShardSize, Stage, StepCorpus

if TYPE_CHECKING:
    from gneiss.dedup.minhash.criteria import NearDuplicates
    from gneiss.dedup.minhash.shingle_sets import ShingleSets
    from gneiss.dedup.minhash.verified import Pairs

Salt: TypeAlias = Callable[[ShardSize], int]
#: A document of the receiver, and the verifier that wants its shingle set.
WANTED = pa.schema([("row", pa.uint32()), ("verifier", pa.uint32())])
#: A shingle set: 32-bit hashes, as steps from one to the next.
SETS = pa.schema([("row", pa.uint32()), ("steps", pa.list_(pa.uint32()))])
#: Bytes of shingle sets over bytes of text, where all documents have a candidate, and most of them one: an estimate.
_SET_BYTES_PER_BYTE = 1.5


def verifiers_for(corpus: StepCorpus) -> int:
    """How many verifiers there are."""
    size = sum(shard.text_bytes for shard in corpus.shards)
    return corpus.partitions or min(1 + int(size * _SET_BYTES_PER_BYTE / REDUCER_MEMORY_BYTES), MOST_PARTITIONS)


def verified_stages(
    step: NearDuplicates, keep: str | None, salt: Salt, partitions: int, corpus: StepCorpus
) -> Sequence[Stage]:
    """The stages; `keep`: which document comes first; `salt`: of shards that see each other; `partitions`: of keys."""
    from gneiss.dedup.minhash import candidates, keys, stars, verified

    shards, verifiers = len(corpus.shards), verifiers_for(corpus)
    of_keys = keys.SCHEMA if keep is None else keys.KEYS_IN_ORDER
    return (
        *order_stages(keep, corpus),
        Stage("keys", shards, of_keys, partial(_keys, step, keep, salt, partitions), True, partitions),
        Stage(
            "candidates", partitions, candidates.SCHEMA, partial(_candidates, verifiers), receivers=verifiers
        ),
        Stage("wanted", partitions, WANTED, partial(_wanted, verifiers), is_local=True, receivers=shards),
        Stage("sets", shards, SETS, partial(_sets, step, partitions, verifiers), receivers=verifiers),
        Stage(
            "verified", verifiers, verified.SCHEMA, partial(_verified, step, partitions),
            receivers=shards, is_read_by_task=True,
        ),
        Stage("clusters", 1, stars.SCHEMA, partial(_clusters, step, keep, verifiers)),
    )  # fmt: skip


def _keys(
    step: NearDuplicates, keep: str | None, salt: Salt, partitions: int, corpus: StepCorpus, shard: int
) -> Batches:
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.minhash.keys import shard_keys

    order = None if keep is None else column(corpus.batch("order", shard), "order")
    return shard_keys(corpus.texts(shard), step, partitions, order=order, salt=salt(corpus.shards[shard]))


def _candidates(verifiers: int, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.minhash.candidates import candidates, passes_for

    sent = corpus.across("keys", len(corpus.shards), partition)
    passes = passes_for(sum(batch.num_rows for batch in sent), REDUCER_MEMORY_BYTES)
    for batch in candidates(sent, passes):
        yield from _by_receiver(batch, _verifier(column(batch, "shard"), column(batch, "row"), verifiers), verifiers)


def _wanted(verifiers: int, corpus: StepCorpus, partition: int) -> Batches:
    """Per batch of candidates, of which there is one for each verifier in each pass."""
    from gneiss.dedup.minhash.verified import Pairs

    shards = len(corpus.shards)
    found = [np.empty((0, 2), np.int64)]
    for number, batch in enumerate(corpus.batches("candidates", partition)):
        place = Pairs.of([batch]).compared()
        found.append(np.stack([place, np.full(len(place), number % verifiers)], axis=1))
    place, verifier = np.unique(np.concatenate(found), axis=0).T
    columns = [(place & 0xFFFFFFFF).astype(np.uint32), verifier.astype(np.uint32)]
    return _by_receiver(pa.record_batch(columns, schema=WANTED), place >> 32, shards)


def _sets(step: NearDuplicates, partitions: int, verifiers: int, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import column

    wanted = [*corpus.across("wanted", partitions, shard)]
    row, verifier = (np.concatenate([column(batch, name) for batch in wanted]) for name in WANTED.names)
    verifier, row = np.unique(np.stack([verifier, row]).astype(np.int64), axis=1)
    rows, place = np.unique(row, return_inverse=True)
    if len(rows) == 0:
        return [pa.RecordBatch.from_pylist([], SETS)] * verifiers
    present = np.zeros(corpus.shards[shard].rows, np.bool_)
    present[rows] = True
    sets = step.shingle_sets(corpus.texts(shard), present).of(rows)
    lists = pa.ListArray.from_arrays(pa.array(sets.bounds.astype(np.int32)), pa.array(sets.steps))
    bounds = np.searchsorted(verifier, np.arange(verifiers + 1))
    return (
        pa.record_batch([row[low:high].astype(np.uint32), lists.take(pa.array(place[low:high]))], schema=SETS)
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    )


def _verified(step: NearDuplicates, partitions: int, corpus: StepCorpus, verifier: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import parted
    from gneiss.dedup.minhash.verified import Pairs, verified

    assert step.verify
    shards = len(corpus.shards)
    pairs = Pairs.of(corpus.across("candidates", partitions, verifier))
    sent = corpus.across("sets", shards, verifier)
    passes = 1 + sum(batch.nbytes for batch in sent) // REDUCER_MEMORY_BYTES
    for turn in range(passes):
        its = pairs.where(pairs.later % passes == turn)
        place, sets = _read(sent, its)
        batch = verified(its, place, sets, step.verify)
        yield from parted(batch, np.searchsorted(its.later, np.arange(shards + 1) << 32))


def _read(sent: Iterable[pa.RecordBatch], pairs: Pairs) -> tuple[Int64Array, ShingleSets]:
    """The places and shingle sets of the documents in pairs, from a batch for each shard."""
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.minhash.shingle_sets import ShingleSets
    from gneiss.dedup.minhash.verified import places

    wanted = pairs.compared()
    found, lists = [np.empty(0, np.int64)], [pa.array([], SETS.field("steps").type)]
    for shard, batch in enumerate(sent):
        place = places(shard, column(batch, "row"))
        here = np.isin(place, wanted, assume_unique=True)
        found.append(place[here])
        lists.append(batch.column("steps").filter(pa.array(here)))
    steps = [its.flatten().to_numpy() for its in lists]
    sizes = [np.diff(its.offsets.to_numpy()) for its in lists]
    return np.concatenate(found), ShingleSets.of_steps(np.concatenate(steps), np.concatenate(sizes))


def _clusters(step: NearDuplicates, keep: str | None, verifiers: int, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.minhash.stars import stars

    assert step.verify
    pairs = (batch for verifier in range(verifiers) for batch in corpus.batches("verified", verifier))
    rows = [shard.rows for shard in corpus.shards]
    return stars(pairs, rows, step.verify.clusters == "complete", orders_of(keep, corpus))


def _verifier(shard: UInt32Array, row: UInt32Array, verifiers: int) -> Int64Array:
    """The verifier of pairs with these later documents."""
    return (shard.astype(np.int64) + row) % verifiers


def _by_receiver(batch: pa.RecordBatch, receiver: Int64Array, receivers: int) -> Iterable[pa.RecordBatch]:
    """A batch for each receiver."""
    from gneiss.dedup.corpus_scope.records import parted

    order = np.argsort(receiver, kind="stable")
    bounds = np.searchsorted(receiver[order], np.arange(receivers + 1))
    return parted(batch.take(pa.array(order)), bounds)
