"""Near-duplicates that are verified, across shards.

| stage | over | sends |
| --- | --- | --- |
| `keys` | shards | to each partition of the keys: what documents must share |
| `candidates`, `wanted` | partitions | to each verifier: pairs to compare; to each giver: whose sets, for whom |
| `sets` | givers | to each verifier: the shingle sets of documents in its pairs |
| `verified` | verifiers | to each shard: the pairs of its documents, with similarities |
| `accepted` to `clusters` | | see `star_stages` |

A verifier has the pairs of a share of the later documents. Their sets are sent to it once, those of earlier ones to
each verifier that compares them. Only documents with a candidate are sent. What comes before these shards is known by
its index: its keys and its sets are sent as if they were at hand, and its clusters stay. A giver is a shard, or several
small ones that are known.
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
#: The place of a document of the receiver, and the verifier that wants its shingle set.
WANTED = pa.schema([("place", pa.int64()), ("verifier", pa.uint32())])
#: Documents of the known shards of a giver, at most, if they are several: a task costs what reading hundreds does.
_MOST_KNOWN = 1 << 15
#: Bytes of shingle sets over bytes of text, where all documents have a candidate, and most of them one: an estimate.
_SET_BYTES_PER_BYTE = 1.5


def verifiers_for(corpus: StepCorpus) -> int:
    """How many verifiers there are."""
    size = sum(shard.text_bytes for shard in corpus.shards)
    return corpus.partitions or min(1 + int(size * _SET_BYTES_PER_BYTE / REDUCER_MEMORY_BYTES), MOST_PARTITIONS)


def givers_of(union: Union) -> Int64Array:
    """The first shard of each giver of shingle sets, by its number in the union, and the end, int64 (givers + 1,)."""
    from gneiss.dedup.minhash.joining import Ranges

    known = Ranges.of(union.rows[: union.before], _MOST_KNOWN).shards
    return np.union1d(known, np.arange(union.before, union.end + 1))


def verified_stages(
    step: NearDuplicates, keep: str | None, salt: Salt, partitions: int, corpus: StepCorpus
) -> Sequence[Stage]:
    """The stages; `keep`: which document comes first; `salt`: of shards that see each other; `partitions`: of keys."""
    from gneiss.dedup.minhash import candidates, keys, verified

    assert step.verify
    shards, verifiers, union = len(corpus.shards), verifiers_for(corpus), Union.of(corpus)
    givers = len(givers_of(union)) - 1
    kept = [kept_set_stage(step, verifiers, corpus), kept_star_stage(keep, verifiers, corpus)]
    of_keys = keys.SCHEMA if keep is None else keys.KEYS_IN_ORDER
    return (
        *order_stages(keep, corpus),
        Stage("keys", shards, of_keys, partial(_keys, step, keep, salt, partitions), True, partitions),
        Stage(
            "candidates", partitions, candidates.SCHEMA, partial(_candidates, step, partitions, verifiers),
            receivers=verifiers,
        ),
        Stage("wanted", partitions, WANTED, partial(_wanted, verifiers), is_local=True, receivers=givers),
        Stage("sets", givers, SETS, partial(_sets, step, partitions, verifiers), receivers=verifiers),
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


def _wanted(verifiers: int, corpus: StepCorpus, partition: int) -> Batches:
    """Per batch of candidates, of which there is one for each verifier in each pass."""
    from gneiss.dedup.corpus_scope.records import by_receiver
    from gneiss.dedup.minhash.verified import Pairs

    found = [np.empty((0, 2), np.int64)]
    for number, batch in enumerate(corpus.batches("candidates", partition)):
        place = Pairs.of([batch]).compared()
        found.append(np.stack([place, np.full(len(place), number % verifiers)], axis=1))
    place, verifier = np.unique(np.concatenate(found), axis=0).T
    givers = givers_of(Union.of(corpus))
    giver = np.searchsorted(givers, place >> 32, side="right") - 1
    return by_receiver(pa.record_batch([place, verifier.astype(np.uint32)], schema=WANTED), giver, len(givers) - 1)


def _sets(step: NearDuplicates, partitions: int, verifiers: int, corpus: StepCorpus, giver: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import column

    wanted = [*corpus.across("wanted", partitions, giver)]
    place, verifier = (np.concatenate([column(batch, name) for batch in wanted]) for name in WANTED.names)
    verifier, place = np.unique(np.stack([verifier.astype(np.int64), place]), axis=1)
    document, at = np.unique(place, return_inverse=True)
    shards, starts = np.unique(document >> 32, return_index=True)
    rows = np.split(document & 0xFFFFFFFF, starts[1:])
    of_shards = [_sets_in(step, corpus, shard, own) for shard, own in zip(shards.tolist(), rows, strict=False)]
    lists = pa.concat_arrays([pa.array([], SETS.field("steps").type), *of_shards])
    bounds = np.searchsorted(verifier, np.arange(verifiers + 1))
    return (
        pa.record_batch([place[low:high], lists.take(pa.array(at[low:high]))], schema=SETS)
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    )


def _sets_in(step: NearDuplicates, corpus: StepCorpus, shard: int, rows: Int64Array) -> pa.ListArray:
    """The shingle sets of some documents of a shard, by its number in the union."""
    before = Union.of(corpus).before
    if shard < before:
        return kept_sets(corpus.segments, shard, rows)
    present = np.zeros(corpus.shards[shard - before].rows, np.bool_)
    present[rows] = True
    return lists_of(step.shingle_sets(corpus.texts(shard - before), present).of(rows))


def _verified(step: NearDuplicates, partitions: int, corpus: StepCorpus, verifier: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import parted
    from gneiss.dedup.minhash.verified import Pairs, verified

    assert step.verify
    union = Union.of(corpus)
    pairs = Pairs.of(corpus.across("candidates", partitions, verifier))
    sent = corpus.across("sets", len(givers_of(union)) - 1, verifier)
    passes = 1 + sum(batch.nbytes for batch in sent) // REDUCER_MEMORY_BYTES
    for turn in range(passes):
        passing = pairs.where(pairs.later % passes == turn)
        place, sets = _read(sent, passing)
        batch = verified(passing, place, sets, step.verify)
        yield from parted(batch, np.searchsorted(passing.later, np.arange(union.before, union.end + 1) << 32))


def _read(sent: Iterable[pa.RecordBatch], pairs: Pairs) -> tuple[Int64Array, ShingleSets]:
    """The places and shingle sets of the documents in pairs, from a batch of each giver."""
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.minhash.shingle_sets import ShingleSets

    wanted = pairs.compared()
    found, lists = [np.empty(0, np.int64)], [pa.array([], SETS.field("steps").type)]
    for batch in sent:
        place = column(batch, "place")
        here = np.isin(place, wanted, assume_unique=True)
        found.append(place[here])
        lists.append(batch.column("steps").filter(pa.array(here)))
    steps = [part.flatten().to_numpy() for part in lists]
    sizes = [np.diff(part.offsets.to_numpy()) for part in lists]
    return np.concatenate(found), ShingleSets.of_steps(np.concatenate(steps), np.concatenate(sizes))


def _verifier(shard: UInt32Array, row: UInt32Array, verifiers: int) -> Int64Array:
    """The verifier of pairs with these later documents."""
    return (shard.astype(np.int64) + row) % verifiers
