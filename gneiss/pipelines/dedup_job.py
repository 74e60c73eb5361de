"""Dedup beyond a shard: which shards see each other, and how their rounds are laid out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from gneiss.dedup.across.scheme import Scheme, partitions_for
from gneiss.errors import RecipeError
from gneiss.exchange import Exchange
from gneiss.recipe import Dedup, Recipe
from gneiss.shard import Shard

#: What a reducer over a hash partition may hold.
REDUCER_MEMORY_BYTES = 1_000_000_000
#: A partition that this leaves too large is worked on in several passes.
MOST_PARTITIONS = 2**16 - 1


@dataclass(frozen=True)
class DedupJob:
    """Dedup at group or corpus scope over the shards of a run: a picklable value that every worker opens.

    groups: for each group the indices of its shards, which are consecutive; corpus scope has one group of all.
    """

    recipe: Recipe
    dedup: Dedup
    shards: tuple[Shard, ...]
    groups: tuple[range, ...]
    scheme: Scheme
    output: Path

    @property
    def exchange(self) -> Exchange:
        """The files of all rounds."""
        return Exchange(self.output)

    @property
    def buckets(self) -> tuple[range, ...]:
        """Stretches of shards that one task serves where shards are looked up: a group, or a part of the corpus."""
        if self.dedup.scope == "group":
            return self.groups
        count = max(1, min(self.scheme.partitions, len(self.shards)))
        edges = [bucket * len(self.shards) // count for bucket in range(count + 1)]
        return tuple(range(low, high) for low, high in pairwise(edges))


def dedup_job(recipe: Recipe, shards: Sequence[Shard], output: Path, partitions: int | None = None) -> DedupJob | None:
    """The job of a recipe whose dedup sees more than a shard; None for any other. Raises RecipeError.

    partitions: of the hashes of anchors; by default as many as keep a reducer within 1 GB. The answer is the same.
    """
    dedup = next((phase.dedup for phase in recipe.phases if phase.dedup), None)
    if dedup is None or dedup.scope == "shard":
        return None
    if partitions is None:
        units = sum(shard.text_bytes for shard in shards) // (1 if dedup.unit == "bytes" else 4)
        partitions = min(partitions_for(units, dedup.min_length, REDUCER_MEMORY_BYTES), MOST_PARTITIONS)
    groups = group_shards(dedup, shards) if dedup.scope == "group" else (range(len(shards)),)
    return DedupJob(recipe, dedup, tuple(shards), groups, Scheme(dedup.min_length, partitions), output)


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
