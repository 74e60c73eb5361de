"""Keys: what documents must share to be duplicates of each other. First round: each shard sends them to partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol, get_args

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray, Int64Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.dedup.corpus_scope.scheme import Scheme
from gneiss.dedup.minhash.bands import band_keys
from gneiss.dedup.minhash.normalization import NORMALIZATIONS, ExactNormalization, Normalization, normalized
from gneiss.dedup.minhash.signatures import Permutations, signatures
from gneiss.errors import InputError

SCHEMA = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("row_step", pa.uint32())])
_SLICE_BYTES = 16_000_000


@dataclass(frozen=True, eq=False)
class Keys:
    """Keys of documents, in order of documents: `row` int64, `high` and `low` uint64 (keys,)."""

    row: Int64Array
    high: UInt64Array
    low: UInt64Array


class Criterion(Protocol):
    """What counts as a duplicate: documents that share a key. A frozen value; all shards of a run use an equal one."""

    @property
    def keys_per_document(self) -> int:
        """How many keys a document has; one without text has none, and is no duplicate."""

    def keys(self, batch: TextBatch, present: BoolArray) -> Keys:
        """The keys of the documents that are present, bool (documents,)."""


@dataclass(frozen=True)
class ExactDuplicates:
    """Documents with the same text: xxh3-128 of it. Empty ones are no duplicates.

    Parameters: `normalize`: `none` for equal bytes; `spaces` where white space shall not count, `words` where neither
    case, punctuation nor digits shall (`normalized`). Raises InputError for another.
    """

    normalize: ExactNormalization = "spaces"

    def __post_init__(self) -> None:
        _one_of(self.normalize, get_args(ExactNormalization))

    @property
    def keys_per_document(self) -> int:
        """One."""
        return 1

    def keys(self, batch: TextBatch, present: BoolArray) -> Keys:
        """The hashes of the texts."""
        from xxhash import xxh3_128_digest

        texts = batch if self.normalize == "none" else normalized(batch, self.normalize, present)
        row = np.flatnonzero(present & (np.diff(texts.offsets) > 0))
        data = texts.data.data
        places = zip(texts.offsets[row].tolist(), texts.offsets[row + 1].tolist(), strict=True)
        digests = b"".join(xxh3_128_digest(data[start:stop]) for start, stop in places)
        halves = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
        return Keys(row, halves[:, 0], halves[:, 1])


@dataclass(frozen=True)
class NearDuplicates:
    """Documents that share many shingles of words, found by MinHash.

    Parameters: `bands`, `rows`: of the signature, which has `bands * rows` permutations; documents match where one band
    is equal (`match_probability`; `bands_for` chooses them for a similarity). `shingle_words`: words of a shingle; a
    shorter document has one shingle of all its words. `normalize`: what words are (`normalized`). `seed`: of the
    permutations. A document without words is no duplicate. Raises InputError for values out of range.
    Source: Penedo et al. 2024, The FineWeb Datasets, section 3.4, for the defaults.

    >>> NearDuplicates().keys_per_document, NearDuplicates().permutations.count
    (14, 112)
    """

    bands: int = 14
    rows: int = 8
    shingle_words: int = 5
    normalize: Normalization = "words"
    seed: int = 1

    def __post_init__(self) -> None:
        for name, limit in (("bands", 2**12), ("rows", 2**12), ("shingle_words", 2**12)):
            if not 1 <= getattr(self, name) < limit:
                raise InputError(f"{name}: expected 1 to {limit - 1}, found {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"seed: expected 0 or more, found {self.seed}")
        _one_of(self.normalize, NORMALIZATIONS)

    @property
    def keys_per_document(self) -> int:
        """One for each band."""
        return self.bands

    @cached_property
    def permutations(self) -> Permutations:
        """The permutations of the signature."""
        return Permutations(self.bands * self.rows, self.seed)

    def keys(self, batch: TextBatch, present: BoolArray) -> Keys:
        """The hashes of the bands."""
        texts = normalized(batch, self.normalize, present)
        found, has_words = signatures(texts, self.shingle_words, self.permutations)
        return Keys(np.repeat(np.flatnonzero(has_words), self.bands), *band_keys(found, self.bands, has_words))


def shard_keys(
    batch: TextBatch, criterion: Criterion, partitions: int = 1, present: BoolArray | None = None
) -> list[pa.RecordBatch]:
    """Map a shard: the keys of its documents, a batch for each partition (`SCHEMA`, a row being steps after the last).

    Parameters: `batch`: a text for each row of the shard; `present`: bool (documents,), those that take part, default
    all. Raises InputError for a number of partitions out of range, and flags that are not one for each document.
    """
    present = np.ones(len(batch), np.bool_) if present is None else present
    if len(present) != len(batch):
        raise InputError(f"present: expected a flag for each of {len(batch)} documents, found {len(present)}")
    parts = [Keys(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint64))]
    for start, stop in _slices(batch):
        keys = criterion.keys(batch.slice(start, stop), present[start:stop])
        parts.append(Keys(keys.row + start, keys.high, keys.low))
    row, high, low = (np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "high", "low"))
    order, bounds = Scheme(min_length=1, partitions=partitions).by_partition(high)
    row, high, low = row[order], high[order], low[order]
    return [
        pa.record_batch([high[a:b], low[a:b], np.diff(row[a:b], prepend=0).astype(np.uint32)], schema=SCHEMA)
        for a, b in pairwise(bounds)
    ]


def _slices(batch: TextBatch) -> Iterator[tuple[int, int]]:
    """Runs of documents of at most `_SLICE_BYTES`, which bounds what their texts take; a longer one stands alone."""
    start = 0
    while start < len(batch):
        stop = int(np.searchsorted(batch.offsets, batch.offsets[start] + _SLICE_BYTES, "right")) - 1
        yield start, (stop := min(max(stop, start + 1), len(batch)))
        start = stop


def _one_of(normalize: str, allowed: tuple[str, ...]) -> None:
    if normalize not in allowed:
        raise InputError(f"normalize: expected one of {', '.join(allowed)}, found {normalize!r}")
