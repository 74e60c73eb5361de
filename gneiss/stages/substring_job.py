"""Dedup beyond a shard: which shards see each other, and how their rounds are laid out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from gneiss.dedup.corpus_scope.scheme import Scheme, partitions_for
from gneiss.errors import RecipeError
from gneiss.input.shard import Shard
from gneiss.recipe.duplicates import Dedup
from gneiss.stages.corpus import MOST_PARTITIONS, REDUCER_MEMORY_BYTES, Corpus
from gneiss.stages.exchange import Exchange


@dataclass(frozen=True)
class DedupJob:
    """Dedup at group or corpus scope over a corpus, in one phase (its index).

    groups: for each group the indices of its shards, which are consecutive; corpus scope has one group of all.
    """

    corpus: Corpus
    phase: int
    dedup: Dedup
    groups: tuple[range, ...]
    scheme: Scheme

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of the corpus."""
        return self.corpus.shards

    @property
    def exchange(self) -> Exchange:
        """The files of all rounds."""
        return self.corpus.exchange

    @property
    def buckets(self) -> tuple[range, ...]:
        """Stretches of shards that one task serves where shards are looked up: a group, or a part of the corpus."""
        if self.dedup.scope == "group":
            return self.groups
        count = max(1, min(self.scheme.partitions, len(self.shards)))
        edges = [bucket * len(self.shards) // count for bucket in range(count + 1)]
        return tuple(range(low, high) for low, high in pairwise(edges))


def dedup_job(corpus: Corpus) -> DedupJob | None:
    """The job of a recipe whose dedup sees more than a shard; None for any other. Raises RecipeError."""
    phases = ((index, its.dedup) for index, its in enumerate(corpus.recipe.phases) if its.dedup)
    phase, dedup = next(phases, (0, None))
    if dedup is None or dedup.scope == "shard":
        return None
    partitions = corpus.partitions
    if partitions is None:
        units = sum(shard.text_bytes for shard in corpus.shards) // (1 if dedup.unit == "bytes" else 4)
        partitions = min(partitions_for(units, dedup.min_length, REDUCER_MEMORY_BYTES), MOST_PARTITIONS)
    groups = group_shards(dedup, corpus.shards) if dedup.scope == "group" else (range(len(corpus.shards)),)
    return DedupJob(corpus, phase, dedup, groups, Scheme(dedup.min_length, partitions))


def group_shards(dedup: Dedup, shards: Sequence[Shard]) -> tuple[range, ...]:
    """Consecutive shards with an equal value of `group_by`, cut where a group would exceed `group_max_bytes`.

    Raises RecipeError where a shard's id does not match the pattern.
    """
    groups: list[range] = []
    for _, members in groupby(range(len(shards)), key=lambda index: _value(dedup, shards[index].id)):
        first, size = None, 0
        for index in members:
            if first is None or size + shards[index].text_bytes > dedup.group_max_bytes:
                if first is not None:
                    groups.append(range(first, index))
                first, size = index, 0
            size += shards[index].text_bytes
        if first is not None:
            groups.append(range(first, index + 1))
    return tuple(groups)


def _value(dedup: Dedup, shard_id: str) -> str:
    found = re.search(dedup.group_by or "", shard_id)
    if found is None:
        raise RecipeError(f"dedup.group_by: {dedup.group_by!r} does not match the shard {shard_id!r}")
    return found.group(1) if found.re.groups else found.group()
