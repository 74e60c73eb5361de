"""Bands: which documents share enough of their signatures to be compared, and how often that happens.

A signature of `bands * rows` values is cut into bands; two documents are taken for near-duplicates where all rows of at
least one band are equal. Source: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from gneiss.arrays import BoolArray, Int, Int64Array, UInt8Array, UInt32Array, UInt64Array, read_only
from gneiss.batch import TextBatch
from gneiss.dedup.words import hash_range
from gneiss.errors import InputError


def match_probability(jaccard: float, bands: int, rows: int) -> float:
    """How likely two documents whose shingles have this Jaccard similarity share a band: 1 - (1 - s^rows)^bands.

    >>> [round(match_probability(s, bands=14, rows=8), 3) for s in (0.6, 0.7, 0.8, 0.9)]
    [0.211, 0.565, 0.924, 1.0]
    """
    return float(1 - (1 - jaccard**rows) ** bands)


def bands_for(threshold: float, permutations: int = 112, false_negative_weight: float = 0.5) -> tuple[int, int]:
    """The bands and rows, within `permutations`, with the least error around a similarity threshold.

    Parameters: `threshold`: minimum Jaccard similarity of matching documents, 0 to 1; `false_negative_weight`: weight
    of a missed pair; a false match weighs 1 minus that. Raises InputError for values out of range. Source: the
    optimization of datasketch's MinHashLSH.

    >>> bands_for(0.75)
    (11, 10)
    """
    from datasketch import MinHashLSH

    try:
        index = MinHashLSH(threshold, permutations, weights=(1 - false_negative_weight, false_negative_weight))
    except ValueError as error:
        found = f"threshold {threshold}, permutations {permutations}, false_negative_weight {false_negative_weight}"
        raise InputError(f"{found}: {error}") from error
    return int(index.b), int(index.r)


def band_keys(signatures: UInt32Array, bands: int, has_words: BoolArray) -> tuple[UInt64Array, UInt64Array]:
    """A key of 128 bits for each band of each document that has words: upper and lower halves, (documents * bands,)."""
    high = np.empty(np.count_nonzero(has_words) * bands, np.uint64)
    low = np.empty_like(high)
    rows = signatures.shape[1] // bands
    _hash_bands(signatures.view(np.uint8).reshape(-1), signatures.shape[1] * 4, bands, rows * 4, has_words, high, low)
    return high, low


def hashes_of(batch: TextBatch) -> UInt64Array:
    """A hash of 64 bits of each text, uint64 (documents,)."""
    hashes = np.empty(len(batch), np.uint64)
    _hash_texts(read_only(batch.data), read_only(batch.offsets), hashes)
    return hashes


@njit(cache=True, nogil=True)
def _hash_texts(data: UInt8Array, offsets: Int64Array, hashes: UInt64Array) -> None:
    for document in range(len(hashes)):
        hashes[document] = hash_range(data, offsets[document], offsets[document + 1], uint64(0))


@njit(cache=True, nogil=True)
def _hash_bands(
    octets: UInt8Array,
    signature_bytes: Int,
    bands: Int,
    band_bytes: Int,
    has_words: BoolArray,
    high: UInt64Array,
    low: UInt64Array,
) -> None:
    written = 0
    for document in range(len(has_words)):
        if not has_words[document]:
            continue
        for band in range(bands):
            start = document * signature_bytes + band * band_bytes
            high[written] = hash_range(octets, start, start + band_bytes, uint64(2 * band))
            low[written] = hash_range(octets, start, start + band_bytes, uint64(2 * band + 1))
            written += 1
