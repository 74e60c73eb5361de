"""Duplicate documents across shards, round by round: their keys, which of them match, and the clusters these make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from gneiss.curate.clusters import ShardClusters
from gneiss.dedup.minhash.clusters import SCHEMA as CLUSTERS
from gneiss.dedup.minhash.clusters import clusters
from gneiss.dedup.minhash.criteria import Criterion
from gneiss.dedup.minhash.keys import SCHEMA as KEYS
from gneiss.dedup.minhash.keys import shard_keys
from gneiss.dedup.minhash.matching import SCHEMA as EDGES
from gneiss.dedup.minhash.matching import matched, partitions_for, passes_for
from gneiss.stages.corpus import MOST_PARTITIONS, REDUCER_MEMORY_BYTES, Batches, Corpus, Reader, Round

Kind: TypeAlias = Literal["exact", "near"]
KINDS: tuple[Kind, ...] = ("exact", "near")


@dataclass(frozen=True)
class DuplicateJob:
    """The search for one kind of duplicates in a corpus, in one phase (its index)."""

    corpus: Corpus
    phase: int
    kind: Kind
    criterion: Criterion

    @property
    def partitions(self) -> int:
        """Parts of the keys, as many as keep a reducer within its memory."""
        documents = sum(shard.rows for shard in self.corpus.shards)
        needed = partitions_for(documents, self.criterion.keys_per_document, REDUCER_MEMORY_BYTES)
        return self.corpus.partitions or min(needed, MOST_PARTITIONS)


def duplicate_job(corpus: Corpus, kind: Kind) -> DuplicateJob | None:
    """The search of a kind that a recipe asks for at corpus scope; None where it does not."""
    for index, phase in enumerate(corpus.recipe.phases):
        wanted = phase.exact_duplicates if kind == "exact" else phase.near_duplicates
        if wanted is not None and wanted.scope == "corpus":
            return DuplicateJob(corpus, index, kind, wanted)
    return None


def rounds(job: DuplicateJob) -> tuple[Round, ...]:
    """The rounds of a search, in order."""
    shards = len(job.corpus.shards)
    return (
        Round(_name(job, "keys"), shards, KEYS, partial(_open_keys, job)),
        Round(_name(job, "matched"), job.partitions, EDGES, lambda: partial(_matched, job)),
        Round(_name(job, "clusters"), 1, CLUSTERS, lambda: partial(_clusters, job)),
    )


def shard_clusters(job: DuplicateJob, shard: int) -> ShardClusters:
    """What the rounds found for a shard."""
    members = job.corpus.exchange.batch(_name(job, "clusters"), 0, shard)
    return ShardClusters.of_batch(members, job.corpus.shard_ids)


def _name(job: DuplicateJob, round_name: str) -> str:
    return f"{job.kind}_{round_name}"


def _open_keys(job: DuplicateJob) -> Callable[[int], Batches]:
    reader = Reader.of(job.corpus)
    # a row that does not reach the phase has an empty text here, which has no duplicates
    return lambda shard: shard_keys(reader.text(job.phase, shard), job.criterion, job.partitions)


def _matched(job: DuplicateJob, partition: int) -> Batches:
    sent = job.corpus.exchange.across(_name(job, "keys"), len(job.corpus.shards), partition)
    return matched(sent, passes_for(sum(batch.num_rows for batch in sent), REDUCER_MEMORY_BYTES))


def _clusters(job: DuplicateJob, task: int) -> Batches:
    exchange, name = job.corpus.exchange, _name(job, "matched")
    edges = (
        exchange.batch(name, partition, number)
        for partition in range(job.partitions)
        for number in range(exchange.batches(name, partition))
    )
    return clusters(edges, [shard.rows for shard in job.corpus.shards])
