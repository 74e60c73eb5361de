"""What counts as a duplicate: criteria, frozen values that a recipe gives, and the keys that documents must share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

from gneiss.annotation import STRICT_KEYS
from gneiss.arrays import BoolArray, Int64Array, UInt64Array
from gneiss.dedup.minhash.normalization import NORMALIZATIONS, ExactNormalization, Normalization, normalized
from gneiss.errors import InputError

if TYPE_CHECKING:
    from gneiss.batch import TextBatch
    from gneiss.dedup.minhash.shingle_sets import ShingleSets
    from gneiss.dedup.minhash.signatures import Permutations

_MOST = 1024


@dataclass(frozen=True, eq=False)
class Keys:
    """Keys of documents, in order of documents: `row` int64, `high` and `low` uint64 (keys,).

    Where pairs are verified, `high` is the key, and `low` a hash of all words of the document.
    """

    row: Int64Array
    high: UInt64Array
    low: UInt64Array


@dataclass(frozen=True)
class Verification:
    """How near-duplicates are verified: by their real shingle sets.

    similarity: `jaccard`, the shared shingles over those of both documents, or `containment`, over those of the smaller
    one; at_least: how much, above 0 and up to 1; clusters: what a document must resemble to join one: its first
    document (`star`), or every document in it (`complete`). Raises InputError for values out of range.
    """

    __pydantic_config__ = STRICT_KEYS

    similarity: Literal["jaccard", "containment"] = "jaccard"
    at_least: float = 0.8
    clusters: Literal["star", "complete"] = "star"

    def __post_init__(self) -> None:
        _check_one_of("near_duplicates: verify: similarity", self.similarity, ("jaccard", "containment"))
        _check_one_of("near_duplicates: verify: clusters", self.clusters, ("star", "complete"))
        if not 0 < self.at_least <= 1:
            raise InputError(f"near_duplicates: verify: at_least: expected above 0 and up to 1, found {self.at_least}")


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

    normalize: `none` for equal bytes; `spaces` where white space shall not count, `words` where neither case,
    punctuation nor digits shall (`normalized`). Raises InputError for another.
    """

    __pydantic_config__ = STRICT_KEYS

    normalize: ExactNormalization = "spaces"

    def __post_init__(self) -> None:
        _check_one_of("exact_duplicates: normalize", self.normalize, get_args(ExactNormalization))

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
        digests = b"".join(xxh3_128_digest(data[start:end]) for start, end in places)
        halves = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
        return Keys(row, halves[:, 0], halves[:, 1])


@dataclass(frozen=True)
class NearDuplicates:
    """Documents that share many shingles of words, found by MinHash.

    bands, rows: of the signature, which has `bands * rows` permutations; documents match where one band is equal
    (`match_probability`; `bands_for` chooses them for a similarity); shingle_words: words of a shingle, two
    characters of a script without spaces counting as one; a shorter document has one shingle of all its words;
    normalize: what words are (`normalized`); seed: of the permutations; verify: how pairs that match are compared
    before they are joined, by default not at all.
    `bands`, `rows` and `shingle_words` are 1 to 1024, `seed` 0 or more. A document without words is no duplicate.
    Raises InputError for values out of range.
    Source: Penedo et al. 2024, The FineWeb Datasets, section 3.4, for the defaults.

    >>> NearDuplicates().keys_per_document, NearDuplicates().permutations.count
    (14, 112)
    """

    __pydantic_config__ = STRICT_KEYS

    bands: int = 14
    rows: int = 8
    shingle_words: int = 5
    normalize: Normalization = "words"
    seed: int = 1
    verify: Verification | None = None

    def __post_init__(self) -> None:
        for name in ("bands", "rows", "shingle_words"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise InputError(f"near_duplicates: {name}: expected 1 to {_MOST}, found {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"near_duplicates: seed: expected 0 or more, found {self.seed}")
        _check_one_of("near_duplicates: normalize", self.normalize, NORMALIZATIONS)

    @property
    def keys_per_document(self) -> int:
        """One for each band."""
        return self.bands

    @cached_property
    def permutations(self) -> Permutations:
        """The permutations of the signature."""
        from gneiss.dedup.minhash.signatures import Permutations

        return Permutations(self.bands * self.rows, self.seed)

    def keys(self, batch: TextBatch, present: BoolArray) -> Keys:
        """The hashes of the bands."""
        from gneiss.dedup.minhash.bands import band_keys, hashes_of
        from gneiss.dedup.minhash.signatures import signatures

        texts = normalized(batch, self.normalize, present)
        found, has_words = signatures(texts, self.shingle_words, self.permutations)
        high, low = band_keys(found, self.bands, has_words)
        if self.verify:
            low = np.repeat(hashes_of(texts)[has_words], self.bands)
        return Keys(np.repeat(np.flatnonzero(has_words), self.bands), high, low)

    def shingle_sets(self, batch: TextBatch, present: BoolArray) -> ShingleSets:
        """The shingle sets of the documents that are present, bool (documents,); those of others are empty."""
        from gneiss.dedup.minhash.shingle_sets import shingle_sets

        return shingle_sets(normalized(batch, self.normalize, present), self.shingle_words)


def _check_one_of(what: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise InputError(f"{what}: expected one of {', '.join(allowed)}, found {found!r}")
