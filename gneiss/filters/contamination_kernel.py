"""The n-grams of texts as 64-bit hashes, and which of them are those of evaluation sets.

Words are those of `contamination_words`. An n-gram of n words is the shortest run of words and units from a place on
that weighs as much as n words. Its hash is a polynomial over the hashes of its words modulo 2**64; equal hashes are
taken for equal n-grams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit, uint64

from gneiss.arrays import BoolArray, Int, Int32Array, Int64Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.contamination_words import BASE, WORD_WEIGHT, FoldedWords, folded_words, mixed

_BITS_PER_NGRAM = 16


class NgramTable(NamedTuple):
    """The n-grams of evaluation sets.

    hashes: uint64 (ngrams,), sorted, distinct; sets: int32 (pairs,), where firsts: int64 (ngrams + 1,) says that n-gram
    i is in `sets[firsts[i]:firsts[i + 1]]`; bits: uint64, in which the hashes of all n-grams, and of the first
    `begin_weight` of each, have their bit; weight: that of an n-gram; lengths: int64, in words and units, of the texts
    that are n-grams though they are shorter, sorted; powers: uint64, of the base of the polynomial; sizes: int64
    (sets,), n-grams of each set.
    """

    hashes: UInt64Array
    firsts: Int64Array
    sets: Int32Array
    bits: UInt64Array
    begin_weight: Int
    weight: Int
    lengths: Int64Array
    powers: UInt64Array
    sizes: Int64Array


@dataclass(frozen=True, eq=False)
class Overlap:
    """What each document of a batch shares with evaluation sets, int64 (documents,).

    words: its words; covered: those inside an n-gram that is in a set; ngrams: distinct n-grams that are in a set;
    nearest_set: the set that has most of these, the first of several; -1 where there are none.
    """

    words: Int64Array
    covered: Int64Array
    ngrams: Int64Array
    nearest_set: Int64Array


def ngram_table(sets: Iterable[TextBatch], ngram_words: int, min_words: int) -> NgramTable:
    """The n-grams of evaluation sets, one batch of texts each.

    A text that weighs less than `ngram_words` words is one n-gram if it weighs at least `min_words`, and else none.
    """
    weight, begin_weight = ngram_words * WORD_WEIGHT, min_words * WORD_WEIGHT
    powers = np.array([pow(BASE, exponent, 1 << 64) for exponent in range(weight + 1)], np.uint64)
    parts, begins = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    lengths = np.zeros(weight + 1, np.bool_)
    for batch in sets:
        words = folded_words(batch)
        part, begin = np.empty(len(words.sums), np.uint64), np.empty(len(words.sums), np.uint64)
        count = _ngrams(words, weight, begin_weight, powers, lengths, part, begin)
        for hashes, values in ((parts, part[:count]), (begins, begin[:count])):
            values.sort()
            hashes.append(values[_firsts(values)])
    sizes = np.array([len(part) for part in parts[1:]], np.int64)
    pairs = np.concatenate(parts)
    order = np.argsort(pairs, kind="stable")  # the sets of an n-gram stay in order
    pairs = pairs[order]
    firsts = _firsts(pairs)
    found = pairs[firsts]
    bits = _new_bits(len(found))
    for part in (found, *begins):
        _set_bits(bits, part)
    return NgramTable(
        found,
        np.append(firsts, len(pairs)),
        np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order],
        bits,
        begin_weight,
        weight,
        np.flatnonzero(lengths),
        powers,
        sizes,
    )


def table_of(hashes: UInt64Array, sets: Int32Array, count: int, weight: int, powers: UInt64Array) -> NgramTable:
    """A table of whole n-grams: sorted hashes, with each of the `count` sets that has one."""
    firsts = _firsts(hashes)
    bits = _new_bits(len(firsts))
    _set_bits(bits, hashes[firsts])
    lengths, sizes = np.empty(0, np.int64), np.bincount(sets, minlength=count)
    return NgramTable(
        hashes[firsts], np.append(firsts, len(hashes)), sets, bits, weight, weight, lengths, powers, sizes
    )


def overlap(batch: TextBatch, table: NgramTable) -> Overlap:
    """The n-grams that the documents of a batch share with evaluation sets."""
    words = folded_words(batch)
    covered, document, ngram = _matches(words, len(batch), table)
    ngrams = np.bincount(document, minlength=len(batch))
    return Overlap(np.diff(words.documents), covered, ngrams, _nearest_set(document, ngram, table, len(batch)))


def matches(batch: TextBatch, table: NgramTable) -> tuple[Int64Array, Int64Array]:
    """The document and the place in the table of every distinct n-gram of a document that is in it."""
    _, document, ngram = _matches(folded_words(batch), len(batch), table)
    return document, ngram


def _matches(words: FoldedWords, documents: int, table: NgramTable) -> tuple[Int64Array, Int64Array, Int64Array]:
    found = room = 1 << 12
    while found >= room:  # more than once only where much is shared
        room = found + 1
        covered, matches = np.zeros(documents, np.int64), np.empty((2, room), np.int64)
        seen_in = np.zeros(len(table.hashes), np.int64)  # memory only for what is written
        found = _match(words, table, seen_in, covered, matches)
    document, ngram = matches[:, :found]
    return covered, document, ngram


def _new_bits(ngrams: int) -> UInt64Array:
    return np.zeros(1 << max(4, (ngrams * _BITS_PER_NGRAM).bit_length() - 6), np.uint64)


def _nearest_set(document: Int64Array, ngram: Int64Array, table: NgramTable, documents: int) -> Int64Array:
    """The set that has most of the n-grams of each document."""
    first, count = table.firsts[ngram], table.firsts[ngram + 1] - table.firsts[ngram]
    pair = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    sets = max(len(table.sizes), 1)
    keys, shared = np.unique(np.repeat(document, count) * sets + table.sets[pair], return_counts=True)
    order = np.lexsort((keys, -shared))  # the most n-grams first, then the first set
    nearest = np.full(documents, -1)
    with_any, places = np.unique(keys[order] // sets, return_index=True)
    nearest[with_any] = keys[order][places] % sets
    return nearest


def _firsts(ordered: UInt64Array) -> Int64Array:
    """Where each value stands first; np.unique hashes, and took thirty times as long."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])


@njit(cache=True, nogil=True)
def _ngrams(
    words: FoldedWords,
    weight: Int,
    begin_weight: Int,
    powers: UInt64Array,
    lengths: BoolArray,
    found: UInt64Array,
    begins: UInt64Array,
) -> Int:
    """Write all n-grams and the beginning of each; mark the lengths of shorter texts; how many n-grams there are."""
    sums, weights, documents = words
    count = 0
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1]
        end = begin_end = first
        for word in range(first, last):
            while end < last and weights[end] - weights[word] < weight:
                end += 1
            is_whole = weights[end] - weights[word] >= weight
            if not is_whole and (word > first or weights[end] - weights[word] < begin_weight):
                break
            while weights[begin_end] - weights[word] < begin_weight:
                begin_end += 1
            found[count] = sums[end] - sums[word] * powers[end - word]
            begins[count] = sums[begin_end] - sums[word] * powers[begin_end - word]
            count += 1
            if not is_whole:
                lengths[end - word] = True
    return count


@njit(cache=True, nogil=True)
def _set_bits(bits: UInt64Array, hashes: UInt64Array) -> None:
    for value in hashes:
        slot = mixed(value)
        bits[(slot >> uint64(6)) & uint64(len(bits) - 1)] |= uint64(1) << (slot & uint64(63))


@njit(cache=True, nogil=True)
def _has_bit(bits: UInt64Array, value: Int) -> bool:
    slot = mixed(value)
    word = bits[(slot >> uint64(6)) & uint64(len(bits) - 1)]
    return bool(word >> (slot & uint64(63)) & uint64(1) != 0)


@njit(cache=True, nogil=True)
def _match(words: FoldedWords, table: NgramTable, seen_in: Int64Array, covered: Int64Array, matches: Int64Array) -> Int:
    """Fill in the distinct n-grams that are in the table, as far as there is room; how many there are."""
    sums, weights, documents = words
    hashes, bits, lengths, powers = table.hashes, table.bits, table.lengths, table.powers
    found = 0
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1]
        covered_to = begin_end = first
        for word in range(first, last):
            while begin_end < last and weights[begin_end] - weights[word] < table.begin_weight:
                begin_end += 1
            if weights[begin_end] - weights[word] < table.begin_weight:
                break
            if not _has_bit(bits, sums[begin_end] - sums[word] * powers[begin_end - word]):
                continue
            whole = begin_end
            while whole < last and weights[whole] - weights[word] < table.weight:
                whole += 1
            for choice in range(len(lengths) + 1):
                end = whole if choice == len(lengths) else word + lengths[choice]
                if end > last or (choice == len(lengths) and weights[end] - weights[word] < table.weight):
                    continue
                value = sums[end] - sums[word] * powers[end - word]
                if not _has_bit(bits, value):
                    continue
                place = np.searchsorted(hashes, value)
                if place == len(hashes) or hashes[place] != value:
                    continue
                if seen_in[place] != document + 1:
                    seen_in[place] = document + 1
                    if found < matches.shape[1]:
                        matches[0, found], matches[1, found] = document, place
                    found += 1
                covered[document] += max(0, end - max(word, covered_to))
                covered_to = max(covered_to, end)
    return found
