"""Near-duplicates that are verified, across shards.

| stage | over | sends |
| --- | --- | --- |
| `keys` | shards | to each partition of the keys: what documents must share |
| `candidates`, `wanted` | partitions | to each verifier: pairs to compare; to each shard: whose sets, for whom |
| `sets` | shards | to each verifier: the shingle sets of documents in its pairs |
| `verified` | verifiers | to each shard: the pairs of its documents, with similarities |
| `accepted` to `clusters` | | see `star_stages` |

A verifier has the pairs of a share of the later documents. Their sets are sent to it once, those of earlier ones to
each verifier that compares them. Only documents with a candidate are sent. What comes before these shards is known by
its index: its keys and its sets are sent as if they were at hand, and its clusters stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array, UInt32Array
from gneiss.corpus_steps.indexed_keys import IndexedKeys, index_stages
from gneiss.corpus_steps.indexed_sets import SETS, kept_set_stage, kept_sets, lists_of
from gneiss.corpus_steps.preference_stages import order_stages
from gneiss.corpus_steps.star_stages import cut_stages, kept_star_stage, star_stages
from gneiss.corpus_steps.step import MOST_PARTITIONS, REDUCER_MEMORY_BYTES, Batches, ShardSize, Stage, StepCorpus
from gneiss.corpus_steps.union import Union

if TYPE_CHECKING:
    from gneiss.dedup.minhash.criteria import NearDuplicates
    from gneiss.dedup.minhash.shingle_sets import ShingleSets
    from gneiss.dedup.minhash.verified import Pairs

Salt: TypeAlias = Callable[[ShardSize], int]
#: A document of the receiver, and the verifier that wants its shingle set.
WANTED = pa.schema([("row", pa.uint32()), ("verifier", pa.uint32())])
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
    from gneiss.dedup.minhash import candidates, keys, verified

    assert step.verify
    shards, verifiers, union = len(corpus.shards), verifiers_for(corpus), Union.of(corpus)
    every = union.before + shards
    kept = [kept_set_stage(step, verifiers, corpus), kept_star_stage(keep, verifiers, corpus)]
    of_keys = keys.SCHEMA if keep is None else keys.KEYS_IN_ORDER
    return (
        *order_stages(keep, corpus),
        Stage("keys", shards, of_keys, partial(_keys, step, keep, salt, partitions), True, partitions),
        Stage(
            "candidates", partitions, candidates.SCHEMA, partial(_candidates, step, partitions, verifiers),
            receivers=verifiers,
        ),
        Stage("wanted", partitions, WANTED, partial(_wanted, verifiers, every), is_local=True, receivers=every),
        Stage("sets", every, SETS, partial(_sets, step, partitions, verifiers, union.before), receivers=verifiers),
        *cut_stages(keep, corpus),
        Stage("verified", verifiers, verified.SCHEMA, partial(_verified, step, partitions), receivers=shards),
        *star_stages(keep, step.verify.clusters == "complete", verifiers, corpus),
        *(kept if corpus.keeps_index else ()),
        *index_stages(step.keys_per_document, partitions, keep, corpus),
    )  # fmt: skip


def _keys(
    step: NearDuplicates, keep: str | None, salt: Salt, partitions: int, corpus: StepCorpus, shard: int
) -> Batches:
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.minhash.keys import shard_keys

    order = None if keep is None else column(corpus.batch("order", shard), "order")
    return shard_keys(corpus.texts(shard), step, partitions, order=order, salt=salt(corpus.shards[shard]))


def _candidates(step: NearDuplicates, partitions: int, verifiers: int, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import by_receiver, column
    from gneiss.dedup.minhash.candidates import candidates, passes_for

    sent = corpus.across("keys", len(corpus.shards), partition)
    known = IndexedKeys(corpus.segments, step.keys_per_document, partition, partitions)
    passes = passes_for(sum(batch.num_rows for batch in chain(known, sent)), REDUCER_MEMORY_BYTES)
    union = Union.of(corpus)
    for batch in candidates(sent, passes, known, union.before, union.segment):
        yield from by_receiver(batch, _verifier(column(batch, "shard"), column(batch, "row"), verifiers), verifiers)


def _wanted(verifiers: int, shards: int, corpus: StepCorpus, partition: int) -> Batches:
    """Per batch of candidates, of which there is one for each verifier in each pass."""
    from gneiss.dedup.corpus_scope.records import by_receiver
    from gneiss.dedup.minhash.verified import Pairs

    found = [np.empty((0, 2), np.int64)]
    for number, batch in enumerate(corpus.batches("candidates", partition)):
        place = Pairs.of([batch]).compared()
        found.append(np.stack([place, np.full(len(place), number % verifiers)], axis=1))
    place, verifier = np.unique(np.concatenate(found), axis=0).T
    columns = [(place & 0xFFFFFFFF).astype(np.uint32), verifier.astype(np.uint32)]
    return by_receiver(pa.record_batch(columns, schema=WANTED), place >> 32, shards)


def _sets(
    step: NearDuplicates, partitions: int, verifiers: int, before: int, corpus: StepCorpus, shard: int
) -> Batches:
    from gneiss.dedup.corpus_scope.records import column

    wanted = [*corpus.across("wanted", partitions, shard)]
    row, verifier = (np.concatenate([column(batch, name) for batch in wanted]) for name in WANTED.names)
    verifier, row = np.unique(np.stack([verifier, row]).astype(np.int64), axis=1)
    rows, place = np.unique(row, return_inverse=True)
    if len(rows) == 0:
        return [pa.RecordBatch.from_pylist([], SETS)] * verifiers
    if shard < before:
        lists = kept_sets(corpus.segments, shard, rows)
    else:
        present = np.zeros(corpus.shards[shard - before].rows, np.bool_)
        present[rows] = True
        lists = lists_of(step.shingle_sets(corpus.texts(shard - before), present).of(rows))
    bounds = np.searchsorted(verifier, np.arange(verifiers + 1))
    return (
        pa.record_batch([row[low:high].astype(np.uint32), lists.take(pa.array(place[low:high]))], schema=SETS)
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    )


def _verified(step: NearDuplicates, partitions: int, corpus: StepCorpus, verifier: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import parted
    from gneiss.dedup.minhash.verified import Pairs, verified

    assert step.verify
    shards = np.arange(Union.of(corpus).before, Union.of(corpus).end + 1)
    pairs = Pairs.of(corpus.across("candidates", partitions, verifier))
    sent = corpus.across("sets", Union.of(corpus).end, verifier)
    passes = 1 + sum(batch.nbytes for batch in sent) // REDUCER_MEMORY_BYTES
    for turn in range(passes):
        passing = pairs.where(pairs.later % passes == turn)
        place, sets = _read(sent, passing)
        batch = verified(passing, place, sets, step.verify)
        yield from parted(batch, np.searchsorted(passing.later, shards << 32))


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
    steps = [part.flatten().to_numpy() for part in lists]
    sizes = [np.diff(part.offsets.to_numpy()) for part in lists]
    return np.concatenate(found), ShingleSets.of_steps(np.concatenate(steps), np.concatenate(sizes))


def _verifier(shard: UInt32Array, row: UInt32Array, verifiers: int) -> Int64Array:
    """The verifier of pairs with these later documents."""
    return (shard.astype(np.int64) + row) % verifiers
