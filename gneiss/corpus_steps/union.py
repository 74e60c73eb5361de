"""A corpus and what comes before it: shards of finished outputs and earlier increments, known by their indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gneiss.arrays import Int64Array
from gneiss.corpus_steps.step import Segment, StepCorpus


@dataclass(frozen=True, eq=False)
class Union:
    """All shards, the known ones first: what stages over several shards number them by.

    ids, rows: of each shard; before: how many are known by an index; segment: int64 (shards,), the number of the
    segment that each is of, the own ones being a last one; against: int64 (shards,), the number in the step's `against`
    of the output that each is of, -1 for this output.
    """

    ids: Sequence[str]
    rows: Sequence[int]
    before: int
    segment: Int64Array
    against: Int64Array

    @classmethod
    def of(cls, corpus: StepCorpus) -> Union:
        """Of the shards of a step's corpus and those of its segments."""
        segments = corpus.segments
        known = [shard for segment in segments for shard in segment.shards]
        counts = [*(len(segment.shards) for segment in segments), len(corpus.shards)]
        outputs = [*(-1 if segment.against is None else segment.against for segment in segments), -1]
        return cls(
            [*(id_ for id_, _ in known), *(shard.id for shard in corpus.shards)],
            [*(rows for _, rows in known), *(shard.rows for shard in corpus.shards)],
            len(known),
            np.repeat(np.arange(len(counts)), counts),
            np.repeat(np.array(outputs), counts),
        )

    @cached_property
    def starts(self) -> Int64Array:
        """The number of each shard's first document among all, and the end, int64 (shards + 1,)."""
        return np.append(0, np.cumsum(np.asarray(self.rows, np.int64)))

    @property
    def segments(self) -> Int64Array:
        """The number of each segment's first document, of those with shards, int64 (segments,)."""
        return self.starts[:-1][np.diff(self.segment, prepend=-1) > 0]

    @property
    def end(self) -> int:
        """How many there are."""
        return len(self.ids)

    @classmethod
    def alone(cls, shard_id: str) -> Union:
        """Of a shard that sees no other."""
        return cls([shard_id], [0], 0, np.array([0]), np.array([-1]))

    def name(self, shard: int, row: int) -> str | None:
        """Shard and row of a document of this output; None for one of another."""
        return None if self.against[shard] >= 0 else f"{self.ids[shard]}:{row}"


def known_place(segments: Sequence[Segment], number: int) -> tuple[Segment, int]:
    """The segment that a known shard is of, by its number in the union, and its number there."""
    for segment in segments:
        if number < len(segment.shards):
            return segment, number
        number -= len(segment.shards)
    raise IndexError(number)


def check_against(scope: str, against: Sequence[str]) -> None:
    """Raise ValueError where a step cannot be run against other outputs."""
    if against and scope not in ("corpus", "group"):
        raise ValueError("`against` compares with documents of other outputs: it goes with `scope: corpus` or `group`")
