"""Shard clusters: which documents of a shard have duplicates in the corpus, handed to `curate`, which annotates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array


@dataclass(frozen=True, eq=False)
class ShardClusters:
    """The documents of a shard that are in a cluster of two or more, and the first document of each one's cluster.

    row, first_shard (an index into shard_ids), first_row, size: int64 (members,), in order of rows.
    """

    row: Int64Array
    first_shard: Int64Array
    first_row: Int64Array
    size: Int64Array
    shard_ids: Sequence[str]

    @classmethod
    def of_batch(cls, members: pa.RecordBatch, shard_ids: Sequence[str]) -> ShardClusters:
        """From the batch of a shard of the last round of duplicates."""
        row, first_shard, first_row, size = (np.asarray(column.to_numpy(), np.int64) for column in members.columns)
        return cls(row, first_shard, first_row, size, shard_ids)

    def sizes(self, rows: Int64Array) -> pa.Array:
        """For each row the documents in its cluster, itself included; 1 where it is alone."""
        size = np.ones(len(rows), np.int64)
        size[np.searchsorted(rows, self.row)] = self.size
        return pa.array(size)

    def are_first(self, rows: Int64Array, shard_id: str) -> pa.Array:
        """For each row whether no earlier document of the corpus is in its cluster."""
        first = np.ones(len(rows), np.bool_)
        own = np.array([id_ == shard_id for id_ in self.shard_ids], np.bool_)
        first[np.searchsorted(rows, self.row)] = own[self.first_shard] & (self.first_row == self.row)
        return pa.array(first)

    def names(self, rows: Int64Array) -> pa.Array:
        """For each row the name of its cluster, shard and row of the first document; null where it is alone."""
        names: list[str | None] = [None] * len(rows)
        members = zip(np.searchsorted(rows, self.row).tolist(), self.first_shard, self.first_row, strict=True)
        for position, shard, row in members:
            names[position] = f"{self.shard_ids[shard]}:{row}"
        return pa.array(names, pa.string())
