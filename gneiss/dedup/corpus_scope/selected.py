"""Selected anchors, as a task leaves them for later stages: to select them again takes ten times as long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.arrays import AnyArray, UInt64Array
from gneiss.dedup.anchors.selection import Anchors, keys_of
from gneiss.dedup.corpus_scope.records import column, expect
from gneiss.dedup.corpus_scope.scheme import Scheme
from gneiss.dedup.units import Units


def schema_of(min_length: int) -> pa.Schema:
    """A record for each anchor, in text order; gap: units between its windows and those of the one before."""
    short = pa.uint16() if min_length < 2**16 else pa.uint32()
    return pa.schema([("gap", pa.int64()), ("left", short), ("count", short)])


@dataclass(frozen=True, eq=False)
class Selected:
    """The anchors of a shard, in text order: see `Anchors`; begin: int64. All (anchors,)."""

    begin: AnyArray
    left: AnyArray
    count: AnyArray
    key: UInt64Array

    @classmethod
    def of(cls, units: Units, scheme: Scheme) -> Selected:
        """Select them. Raises InputError for a document of 2^31 units or more."""
        anchors: Anchors = scheme.anchors(units)
        return cls(anchors.begin.astype(np.int64), anchors.left, anchors.count, anchors.key)

    @classmethod
    def read(cls, batch: pa.RecordBatch, units: Units, scheme: Scheme) -> Selected:
        """From `to_batch`, and the units of the shard, which have the keys."""
        gap, left, count = (column(batch, name) for name in batch.schema.names)
        ends = np.cumsum(gap + count)
        begin = ends - count
        inside = len(gap) == 0 or (gap.min() >= 0 and ends[-1] - 1 + scheme.min_length <= len(units.values))
        expect(bool(inside and (left <= scheme.min_length - scheme.kmer_length).all()), "anchors beyond a shard's text")
        return cls(begin, left, count, keys_of(units.values, begin, left, scheme.kmer_length, scheme.hash_seed(0)))

    def to_batch(self, scheme: Scheme) -> pa.RecordBatch:
        """Where they are (`schema_of`)."""
        ends = self.begin + self.count
        gap = self.begin - np.append(0, ends[:-1])[: len(ends)]
        return pa.record_batch([gap, self.left, self.count], schema=schema_of(scheme.min_length))
