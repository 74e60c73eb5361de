"""MinHash signatures: of all shingles of a document, the least under each of many permutations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit, uint32

from gneiss.arrays import BoolArray, Int, Int64Array, UInt8Array, UInt32Array, read_only
from gneiss.batch import TextBatch
from gneiss.dedup.minhash.shingles import window_of, write_shingles
from gneiss.dedup.minhash.unspaced import unspaced

_BLOCK = 1024


@dataclass(frozen=True)
class Permutations:
    """Permutations of the hashes of shingles: `h -> factors * h + summands` modulo 2**32, every factor being odd.

    Those of datasketch's scheme `affine32`, which mixes h first; more of the same seed begin with the same.

    >>> Permutations(3, seed=1).factors.tolist()
    [2198257139, 619160823, 1339305889]
    """

    count: int
    seed: int = 1

    @cached_property
    def factors(self) -> UInt32Array:
        """uint32 (count,)."""
        return read_only(self._random[0::2] | np.uint32(1))

    @cached_property
    def summands(self) -> UInt32Array:
        """uint32 (count,)."""
        return read_only(self._random[1::2])

    @cached_property
    def _random(self) -> UInt32Array:
        # what a bit generator gives never changes; what `Generator` makes of it may
        return np.asarray(np.random.PCG64(self.seed).random_raw(2 * self.count) >> np.uint64(32), np.uint32)


def signatures(batch: TextBatch, shingle_words: int, permutations: Permutations) -> tuple[UInt32Array, BoolArray]:
    """The signatures of normalized texts, uint32 (documents, permutations), and which documents have words.

    Parameters: `batch`: words between single blanks, as `normalized` leaves them; `shingle_words`: words of a shingle;
    a document with fewer words has one shingle of them all. Where there are no words, a signature has no meaning.
    Source: Broder 1997, On the resemblance and containment of documents.

    >>> from gneiss.batch import TextBatch
    >>> found, has_words = signatures(TextBatch.of(["one two three", "two one three", "three", ""]), 1, Permutations(4))
    >>> bool((found[0] == found[1]).all()), bool((found[0] == found[2]).all()), has_words.tolist()
    (True, False, [True, True, True, False])
    """
    found = np.full((len(batch), permutations.count), 2**32 - 1, np.uint32)
    has_words = np.zeros(len(batch), np.bool_)
    _sign(
        batch.data, batch.offsets, shingle_words, unspaced(), permutations.factors, permutations.summands,
        found, has_words,
    )  # fmt: skip
    return found, has_words


@njit(cache=True, nogil=True)
def _sign(
    data: UInt8Array,
    offsets: Int64Array,
    shingle_words: Int,
    table: BoolArray,
    factors: UInt32Array,
    summands: UInt32Array,
    found: UInt32Array,
    has_words: BoolArray,
) -> None:
    window = window_of(shingle_words)
    longest = 0
    for document in range(len(has_words)):
        longest = max(longest, offsets[document + 1] - offsets[document])
    hashes = np.empty(longest // 2 + 1, np.uint32)
    for document in range(len(has_words)):
        count = write_shingles(data, offsets[document], offsets[document + 1], shingle_words, table, window, hashes, 0)
        for i in range(count):
            hashes[i] = _mixed(hashes[i])
        for start in range(0, count, _BLOCK):
            _lower(found[document], hashes[start : min(start + _BLOCK, count)], factors, summands)
        has_words[document] = count > 0


@njit(cache=True, nogil=True)
def _mixed(value: np.uint32) -> np.uint32:
    """The finalizer of MurmurHash3 (Appleby), with which the scheme begins."""
    value = uint32(uint32(value ^ value >> uint32(16)) * uint32(0x85EBCA6B))
    value = uint32(uint32(value ^ value >> uint32(13)) * uint32(0xC2B2AE35))
    return uint32(value ^ value >> uint32(16))


@njit(cache=True, nogil=True)
def _lower(signature: UInt32Array, block: UInt32Array, factors: UInt32Array, summands: UInt32Array) -> None:
    """Take more shingles into a signature. The loop over shingles is inside: it becomes vector instructions."""
    for k in range(len(factors)):
        factor, summand, least = factors[k], summands[k], signature[k]
        for i in range(len(block)):
            least = min(least, uint32(factor * block[i] + summand))
        signature[k] = least
