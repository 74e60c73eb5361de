"""What is known of documents before anything is computed: annotations that an earlier run stored of the same texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.curate.phase_result import Annotations


@dataclass(frozen=True, eq=False)
class KnownValues:
    """An annotator's values for some documents. there: bool (documents,); values: by column, (documents,)."""

    there: BoolArray
    values: Annotations = field(default_factory=dict)

    def completed(self, computed: Annotations) -> Annotations:
        """All values, with those that were computed for the other documents, in order."""
        if not self.there.any():
            return computed
        if self.there.all():
            return self.values
        missing = pa.array(~self.there)
        return {name: pc.replace_with_mask(array, missing, computed[name]) for name, array in self.values.items()}


class Known(Protocol):
    """What is known of the documents of a shard."""

    def layers(self, rows: Int64Array) -> Annotations:
        """The columns of layers that rules may read, for the documents in these rows."""

    def values(self, phase: str, annotator: int, rows: Int64Array, batch: TextBatch) -> KnownValues:
        """Of an annotator of a phase, by its number, for the documents in these rows with these texts."""


class Nothing:
    """Nothing is known."""

    def layers(self, rows: Int64Array) -> Annotations:
        """See Known."""
        return {}

    def values(self, phase: str, annotator: int, rows: Int64Array, batch: TextBatch) -> KnownValues:
        """See Known."""
        return KnownValues(np.zeros(len(rows), np.bool_))


def content_hashes(batch: TextBatch, positions: Int64Array) -> list[bytes]:
    """The xxh3-128 of some texts of a batch."""
    data = batch.data.data
    starts, ends = batch.offsets[positions].tolist(), batch.offsets[positions + 1].tolist()
    return [xxhash.xxh3_128_digest(data[start:end]) for start, end in zip(starts, ends, strict=True)]
