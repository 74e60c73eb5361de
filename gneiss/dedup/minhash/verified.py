"""Verified pairs: candidate pairs with the similarity of their shingle sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.arrays import AnyArray, BoolArray, Int64Array
from gneiss.dedup.corpus_scope.records import column, expect
from gneiss.dedup.minhash.criteria import Verification
from gneiss.dedup.minhash.shingle_sets import ShingleSets, similarities

#: similarity: null where it is not enough; is_copy: of documents with the same words.
SCHEMA = pa.schema(
    [
        ("shard", pa.uint32()),
        ("row", pa.uint32()),
        ("first_shard", pa.uint32()),
        ("first_row", pa.uint32()),
        ("similarity", pa.float64()),
        ("is_copy", pa.bool_()),
    ]
)


def places(shard: AnyArray | int, row: AnyArray) -> Int64Array:
    """Documents by one number each, which rises with shards and rows."""
    return np.asarray(shard, np.int64) << 32 | row.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of documents by their places, each once, in order of `later`: int64 (pairs,); is_copy: bool (pairs,)."""

    later: Int64Array
    earlier: Int64Array
    is_copy: BoolArray

    @classmethod
    def of(cls, sent: Iterable[pa.RecordBatch]) -> Pairs:
        """From batches of `candidates`, in which a pair may come more than once."""
        parts = [
            (
                places(column(batch, "shard"), column(batch, "row")),
                places(column(batch, "first_shard"), column(batch, "first_row")),
                np.asarray(batch.column("is_copy").to_numpy(zero_copy_only=False), np.bool_),
            )
            for batch in sent
        ]
        nothing = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
        later, earlier, is_copy = (np.concatenate(arrays) for arrays in zip(nothing, *parts, strict=True))
        order = np.lexsort((earlier, later))
        later, earlier = later[order], earlier[order]
        fresh = np.ones(len(order), np.bool_)
        fresh[1:] = (later[1:] != later[:-1]) | (earlier[1:] != earlier[:-1])
        return cls(later[fresh], earlier[fresh], is_copy[order][fresh])

    def __len__(self) -> int:
        return len(self.later)

    def where(self, chosen: BoolArray) -> Pairs:
        """Only those for which `chosen` is true."""
        return Pairs(self.later[chosen], self.earlier[chosen], self.is_copy[chosen])

    def compared(self) -> Int64Array:
        """The places of the documents whose shingle sets are compared, rising."""
        return np.unique(np.concatenate([self.later[~self.is_copy], self.earlier[~self.is_copy]]))


def verified(pairs: Pairs, place: Int64Array, sets: ShingleSets, verification: Verification) -> pa.RecordBatch:
    """The pairs with their similarities (`SCHEMA`), in order of the later documents.

    Parameters: `place`: of the documents whose shingle sets are given, int64 (documents,), rising. Raises InputError
    where one is missing.
    """
    similarity = np.ones(len(pairs))
    one, other = (_positions(documents[~pairs.is_copy], place) for documents in (pairs.later, pairs.earlier))
    similarity[~pairs.is_copy] = similarities(sets, one, other, verification.similarity == "containment")
    columns = [
        half.astype(np.uint32)
        for documents in (pairs.later, pairs.earlier)
        for half in (documents >> 32, documents & 0xFFFFFFFF)
    ]
    accepted = pa.array(similarity, mask=similarity < verification.at_least)
    return pa.record_batch([*columns, accepted, pairs.is_copy], schema=SCHEMA)


def _positions(wanted: Int64Array, place: Int64Array) -> Int64Array:
    found = np.searchsorted(place, wanted)
    expect(bool((np.append(place, -1)[found] == wanted).all()), "a document without its shingle set")
    return found
