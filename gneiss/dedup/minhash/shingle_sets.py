"""Shingle sets: all shingles of documents, and how much the sets of two documents share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float64Array, Int, Int64Array, UInt8Array, UInt32Array, read_only
from gneiss.batch import TextBatch
from gneiss.dedup.corpus_scope.records import firsts_of
from gneiss.dedup.minhash.shingles import window_of, write_shingles
from gneiss.dedup.minhash.unspaced import unspaced

_BITS_MORE, _FEWEST_BITS = 9, 20
#: Of the digits by which hashes are sorted; an even number of them makes up a hash.
_DIGIT_BITS = 8


@dataclass(frozen=True, eq=False)
class ShingleSets:
    """The distinct shingles of documents: document i has `hashes[bounds[i]:bounds[i + 1]]`, rising.

    hashes: uint32 (shingles,); bounds: int64 (documents + 1,).
    """

    hashes: UInt32Array
    bounds: Int64Array

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def steps(self) -> UInt32Array:
        """The hashes as steps from one to the next, from 0 for the first of a document: these are smaller numbers."""
        steps = np.diff(self.hashes, prepend=np.uint32(0))
        firsts = firsts_of(self.bounds)
        steps[firsts] = self.hashes[firsts]
        return steps

    @classmethod
    def of_steps(cls, steps: UInt32Array, sizes: Int64Array) -> ShingleSets:
        """From `steps`, and the number of shingles of each document, (documents,)."""
        bounds = np.append(0, np.cumsum(sizes, dtype=np.int64))
        summed = np.append(np.uint32(0), np.cumsum(steps, dtype=np.uint32))  # modulo 2**32, as are the differences
        return cls(summed[1:] - np.repeat(summed[bounds[:-1]], sizes), bounds)

    def rounded(self) -> ShingleSets:
        """With zeros for the bits of hashes that do not count for Jaccard similarity (`hash_bits`)."""
        sizes = np.diff(self.bounds)
        mask = np.uint32(2**32 - 1) << (32 - hash_bits(sizes)).astype(np.uint32)
        return ShingleSets(self.hashes & np.repeat(mask, sizes), self.bounds)

    def of(self, documents: Int64Array) -> ShingleSets:
        """Those of some documents, rising, without which all others are empty."""
        return ShingleSets(self.hashes, self.bounds[np.append(documents, len(self))])


def hash_bits(sizes: Int64Array) -> Int64Array:
    """How many upper bits of hashes count, for documents with so many shingles: 9 more than it takes to count these.

    At least 20, at most 32. Of two documents of the same size that share nothing, one in 512 shingles or fewer is taken
    for shared, on average; where the similarity is 0.8, that adds 0.00004 to it at most, on average.

    >>> hash_bits(np.array([1, 1000, 3000, 10**7])).tolist()
    [20, 20, 21, 32]
    """
    digits = np.asarray(np.frexp(sizes)[1], np.int64)
    return np.clip(digits + _BITS_MORE, _FEWEST_BITS, 32)


def shingle_sets(batch: TextBatch, shingle_words: int) -> ShingleSets:
    """The shingle sets of normalized texts; empty for a document without words.

    >>> from gneiss.batch import TextBatch
    >>> shingle_sets(TextBatch.of(["a b a b a", "a", ""]), 2).bounds.tolist()
    [0, 2, 3, 3]
    """
    hashes = np.empty(batch.size_bytes // 2 + len(batch), np.uint32)
    bounds = np.zeros(len(batch) + 1, np.int64)
    _write_sets(read_only(batch.data), read_only(batch.offsets), shingle_words, unspaced(), hashes, bounds)
    return ShingleSets(hashes[: bounds[-1]], bounds)


def similarities(sets: ShingleSets, one: Int64Array, other: Int64Array, containment: bool = False) -> Float64Array:
    """How similar pairs of documents are, 0 to 1, float64 (pairs,).

    Parameters: `one`, `other`: the documents of each pair, int64 (pairs,); `containment`: the shared shingles over
    those of the smaller set, instead of over those of both together (Jaccard). For Jaccard as many bits of hashes count
    as for the smaller set (`hash_bits`), for containment all 32.

    >>> from gneiss.batch import TextBatch
    >>> found = shingle_sets(TextBatch.of(["a b c", "b c d e"]), 1)
    >>> similarities(found, np.array([0]), np.array([1])).tolist()
    [0.4]
    """
    shared = np.empty(len(one), np.int64)
    sizes = np.diff(sets.bounds)
    bits = np.full(len(sizes), 32) if containment else hash_bits(sizes)
    unused = (32 - np.minimum(bits[one], bits[other])).astype(np.uint32)
    _share(sets.hashes, sets.bounds, one, other, unused, shared)
    smaller, both = np.minimum(sizes[one], sizes[other]), sizes[one] + sizes[other] - shared
    return shared / np.maximum(smaller if containment else both, 1)


@njit(cache=True, nogil=True)
def _write_sets(
    data: UInt8Array,
    offsets: Int64Array,
    shingle_words: Int,
    table: BoolArray,
    hashes: UInt32Array,
    bounds: Int64Array,
) -> None:
    window, counts = window_of(shingle_words), np.empty(1 << _DIGIT_BITS, np.int64)
    longest = 0
    for document in range(len(bounds) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    spare = np.empty(longest // 2 + 1, np.uint32)
    end: Int = 0
    for document in range(len(bounds) - 1):
        start, stop = offsets[document], offsets[document + 1]
        last = write_shingles(data, start, stop, shingle_words, table, window, hashes, end)
        end += _sort_distinct(hashes[end:last], spare, counts)
        bounds[document + 1] = end


@njit(cache=True, nogil=True)
def _sort_distinct(values: UInt32Array, spare: UInt32Array, counts: Int64Array) -> Int:
    """Sort values and leave out repeats; returns how many are left. By digits: repeats in any number cost no more."""
    source, target = values, spare
    for digit in range(32 // _DIGIT_BITS):
        shift, mask = np.uint32(digit * _DIGIT_BITS), np.uint32((1 << _DIGIT_BITS) - 1)
        counts[:] = 0
        for value in source[: len(values)]:
            counts[(value >> shift) & mask] += 1
        place: Int = 0
        for number in range(len(counts)):
            count = counts[number]
            counts[number] = place
            place += count
        for value in source[: len(values)]:
            number = (value >> shift) & mask
            target[counts[number]] = value
            counts[number] += 1
        source, target = target, source
    left: Int = 0
    for at in range(len(values)):  # an even number of digits: they are in `values` again
        value = values[at]
        if at == 0 or value != values[left - 1]:
            values[left] = value
            left += 1
    return left


@njit(cache=True, nogil=True)
def _share(
    hashes: UInt32Array, bounds: Int64Array, one: Int64Array, other: Int64Array, unused: UInt32Array, shared: Int64Array
) -> None:
    """How many hashes pairs of documents share, without the lower bits that are unused."""
    for pair in range(len(one)):
        lower = unused[pair]
        a, a_end = bounds[one[pair]], bounds[one[pair] + 1]
        b, b_end = bounds[other[pair]], bounds[other[pair] + 1]
        count = 0
        while a < a_end and b < b_end:  # without branches that could be mispredicted
            x, y = hashes[a] >> lower, hashes[b] >> lower
            count += x == y
            a += x <= y
            b += y <= x
        shared[pair] = count
