"""Verified pairs: candidate pairs with the similarity of their shingle sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray, Int64Array, UInt64Array, distinct_values
from gneiss.dedup.corpus_scope.records import column, expect
from gneiss.dedup.minhash import candidates
from gneiss.dedup.minhash.criteria import Verification
from gneiss.dedup.minhash.keys import places
from gneiss.dedup.minhash.shingle_sets import ShingleSets, similarities

#: similarity: null where it is not enough; the others: see there.
SCHEMA = candidates.SCHEMA.append(pa.field("similarity", pa.float64()))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of documents by their places, each once, in order of `later`: arrays (pairs,); orders: of preference."""

    later: Int64Array
    later_order: UInt64Array
    earlier: Int64Array
    earlier_order: UInt64Array
    is_copy: BoolArray

    @classmethod
    def of(cls, sent: Iterable[pa.RecordBatch]) -> Pairs:
        """From batches of `candidates`, in which a pair may come more than once."""
        table = pa.Table.from_batches(sent, candidates.SCHEMA)
        shard, row, later_order, first_shard, first_row, earlier_order, is_copy = (
            column(table, name) for name in table.column_names
        )
        later, earlier = places(shard, row), places(first_shard, first_row)
        order = np.lexsort((earlier, later))
        fresh = np.append(True, (np.diff(later[order]) != 0) | (np.diff(earlier[order]) != 0))[: len(order)]
        chosen = order[fresh]
        return cls(later[chosen], later_order[chosen], earlier[chosen], earlier_order[chosen], is_copy[chosen])

    def __len__(self) -> int:
        return len(self.later)

    def where(self, chosen: BoolArray) -> Pairs:
        """Only those for which `chosen` is true."""
        return Pairs(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def compared(self) -> Int64Array:
        """The places of the documents whose shingle sets are compared, rising."""
        found: Int64Array = distinct_values(np.concatenate([self.later[~self.is_copy], self.earlier[~self.is_copy]]))
        return found


def verified(pairs: Pairs, place: Int64Array, sets: ShingleSets, verification: Verification) -> pa.RecordBatch:
    """The pairs with their similarities (`SCHEMA`), in order of the later documents.

    Parameters: `place`: of the documents whose shingle sets are given, int64 (documents,), rising. Raises InputError
    where one is missing.
    """
    similarity = np.ones(len(pairs))
    one, other = (_positions(documents[~pairs.is_copy], place) for documents in (pairs.later, pairs.earlier))
    similarity[~pairs.is_copy] = similarities(sets, one, other, verification.similarity == "containment")
    columns = [
        values
        for place, order in ((pairs.later, pairs.later_order), (pairs.earlier, pairs.earlier_order))
        for values in ((place >> 32).astype(np.uint32), place.astype(np.uint32), order)
    ]
    accepted = pa.array(similarity, mask=similarity < verification.at_least)
    return pa.record_batch([*columns, pairs.is_copy, accepted], schema=SCHEMA)


def _positions(wanted: Int64Array, place: Int64Array) -> Int64Array:
    found = np.searchsorted(place, wanted)
    expect(bool((np.append(place, -1)[found] == wanted).all()), "a document without its shingle set")
    return found
