"""The n-grams of texts as 64-bit hashes, and which of them are those of evaluation sets.

Words are compared in the form that `folded_characters` gives them. The hash of an n-gram is a polynomial over the
hashes of its words modulo 2**64; equal hashes are taken for equal n-grams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit, uint64

from gneiss.arrays import Int, Int32Array, Int64Array, UInt8Array, UInt32Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.characters import SPACE, WORD, character_classes
from gneiss.filters.segmentation import class_at

#: What `folded_characters` says of a character that is no part of a word, of one that ends a word, and of one that is
#: a word by itself; otherwise it is the code point to compare.
_NOTHING, _SPACE, _ALONE = 0, 1, 1 << 31
#: Scripts that put no spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han.
_ALONE_RANGES = ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF),
                 (0xF900, 0xFAFF), (0x20000, 0x3FFFF))  # fmt: skip
#: Of no meaning, odd.
_BASE = 0xD1B5_4A32_D192_ED03
_BITS_PER_NGRAM = 16


class FoldedWords(NamedTuple):
    """The words of a batch as sums of hashes: words a to b have the hash `sums[b] - sums[a] * BASE ** (b - a)`.

    sums: uint64 (words + 1,); documents: int64 (documents + 1,), document i has the words documents[i] to
    documents[i + 1].
    """

    sums: UInt64Array
    documents: Int64Array


class NgramTable(NamedTuple):
    """The n-grams of evaluation sets.

    hashes: uint64 (ngrams,), sorted, distinct; sets: int32 (pairs,), where firsts: int64 (ngrams + 1,) says that n-gram
    i is in `sets[firsts[i]:firsts[i + 1]]`; bits: uint64, in which the hashes of all n-grams, and of the first
    `begin_words` words of each, have their bit; lengths: int64, in words, of the n-grams that there are, sorted;
    powers: uint64, of the base of the polynomial; sizes: int64 (sets,), n-grams of each set.
    """

    hashes: UInt64Array
    firsts: Int64Array
    sets: Int32Array
    bits: UInt64Array
    begin_words: Int
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


@cache
def folded_characters() -> UInt32Array:
    """The lower case of each word character, uint32 (0x110000,), read-only; Unicode 14.0 whatever the interpreter's.

    Word characters are what `\\w` matches, without the underscore. Letters whose lower case is several characters stay.

    >>> [chr(character) for character in folded_characters()[[ord("Ä"), ord("ß"), ord("7")]]]
    ['ä', 'ß', '7']
    """
    classes = character_classes()
    folded = np.arange(0x110000, dtype=np.uint32)
    for character in map(chr, np.flatnonzero(classes == WORD)):
        lower = character.lower()
        if lower != character and len(lower) == 1:
            folded[ord(character)] = ord(lower)
    for first, last in _ALONE_RANGES:
        folded[first : last + 1] |= np.uint32(_ALONE)
    folded[classes != WORD] = _NOTHING
    folded[ord("_")] = _NOTHING
    folded[classes == SPACE] = _SPACE
    folded.flags.writeable = False
    return folded


def folded_words(batch: TextBatch) -> FoldedWords:
    r"""The words of a batch: what white space separates, in lower case, without what is no word character.

    What has no word character is no word; a character of a script without spaces is a word by itself.

    >>> folded_words(TextBatch.of(["It's – “over”, 1,000 times.\n再见", ""])).documents.tolist()
    [0, 6, 6]
    """
    most = batch.size_bytes // 2 + len(batch)  # a word has two bytes, but for the last of a document
    sums, documents = np.empty(most + 1, np.uint64), np.zeros(len(batch) + 1, np.int64)
    _fold(batch.data, batch.offsets, folded_characters(), sums, documents)
    return FoldedWords(sums[: documents[-1] + 1], documents)


def ngram_table(sets: Iterable[TextBatch], ngram_words: int, min_words: int) -> NgramTable:
    """The n-grams of evaluation sets, one batch of texts each.

    A text of fewer than `ngram_words` words is one n-gram if it has at least `min_words`, and none if it has fewer.
    """
    powers = np.array([pow(_BASE, exponent, 1 << 64) for exponent in range(ngram_words + 1)], np.uint64)
    parts, begins = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    lengths = np.zeros(ngram_words + 1, np.bool_)
    for batch in sets:
        words = folded_words(batch)
        size = np.diff(words.documents)
        count = np.where(size >= ngram_words, size - ngram_words + 1, size >= min_words)
        lengths[np.minimum(size[count > 0], ngram_words)] = True
        for hashes, words_of_each in ((parts, ngram_words), (begins, min_words)):
            part = np.empty(count.sum(), np.uint64)
            _ngrams(words, count, words_of_each, powers, part)
            part.sort()
            hashes.append(part[_firsts(part)])
    sizes = np.array([len(part) for part in parts[1:]], np.int64)
    pairs = np.concatenate(parts)
    order = np.argsort(pairs, kind="stable")  # the sets of an n-gram stay in order
    pairs = pairs[order]
    firsts = _firsts(pairs)
    found = pairs[firsts]
    bits = np.zeros(1 << max(4, (len(found) * _BITS_PER_NGRAM).bit_length() - 6), np.uint64)
    for part in (found, *begins):
        _set_bits(bits, part)
    return NgramTable(
        found,
        np.append(firsts, len(pairs)),
        np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order],
        bits,
        min_words,
        np.flatnonzero(lengths),
        powers,
        sizes,
    )


def overlap(batch: TextBatch, table: NgramTable) -> Overlap:
    """The n-grams that the documents of a batch share with evaluation sets."""
    words = folded_words(batch)
    found = room = 1 << 12
    while found >= room:  # more than once only where much is shared
        room = found + 1
        covered, matches = np.zeros(len(batch), np.int64), np.empty((2, room), np.int64)
        seen_in = np.zeros(len(table.hashes), np.int64)  # memory only for what is written
        found = _match(words, table, seen_in, covered, matches)
    document, ngram = matches[:, :found]
    ngrams = np.bincount(document, minlength=len(batch))
    return Overlap(np.diff(words.documents), covered, ngrams, _nearest_set(document, ngram, table, len(batch)))


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
def _mixed(value: Int) -> Int:
    """Every bit of the outcome depends on every bit of the value (the finalizer of splitmix64)."""
    value = (value ^ (value >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> uint64(27))) * uint64(0x94D049BB133111EB)
    return value ^ (value >> uint64(31))


@njit(cache=True, nogil=True)
def _fold(data: UInt8Array, offsets: Int64Array, folded: UInt32Array, sums: UInt64Array, documents: Int64Array) -> None:
    word, start_value = 0, uint64(0xCBF29CE484222325)
    total = uint64(0)
    sums[0] = total
    for document in range(len(offsets) - 1):
        position, end = offsets[document], offsets[document + 1]
        value, is_open = start_value, False
        while position < end:
            byte = data[position]
            if byte < 0x80:
                code, width = folded[byte], 1
            else:
                code, width = class_at(data, position, end, folded)
            position += width
            if code == _NOTHING:
                continue
            if _SPACE < code < _ALONE:
                value = (value ^ uint64(code)) * uint64(0x100000001B3)
                is_open = True
                continue
            if is_open:
                total = total * uint64(_BASE) + _mixed(value)
                word += 1
                sums[word] = total
                value, is_open = start_value, False
            if code >= _ALONE:
                total = total * uint64(_BASE) + _mixed((start_value ^ uint64(code)) * uint64(0x100000001B3))
                word += 1
                sums[word] = total
        if is_open:
            total = total * uint64(_BASE) + _mixed(value)
            word += 1
            sums[word] = total
        documents[document + 1] = word


@njit(cache=True, nogil=True)
def _ngrams(words: FoldedWords, count: Int64Array, ngram_words: Int, powers: UInt64Array, out: UInt64Array) -> None:
    sums, documents = words
    place = 0
    for document in range(len(documents) - 1):
        first = documents[document]
        length = min(ngram_words, documents[document + 1] - first)
        for word in range(first, first + count[document]):
            out[place] = sums[word + length] - sums[word] * powers[length]
            place += 1


@njit(cache=True, nogil=True)
def _set_bits(bits: UInt64Array, hashes: UInt64Array) -> None:
    for value in hashes:
        slot = _mixed(value)
        bits[(slot >> uint64(6)) & uint64(len(bits) - 1)] |= uint64(1) << (slot & uint64(63))


@njit(cache=True, nogil=True)
def _has_bit(bits: UInt64Array, value: Int) -> bool:
    slot = _mixed(value)
    word = bits[(slot >> uint64(6)) & uint64(len(bits) - 1)]
    return bool(word >> (slot & uint64(63)) & uint64(1) != 0)


@njit(cache=True, nogil=True)
def _match(words: FoldedWords, table: NgramTable, seen_in: Int64Array, covered: Int64Array, matches: Int64Array) -> Int:
    """Fill in the distinct n-grams that are in the table, as far as there is room; how many there are."""
    sums, documents = words
    hashes, bits, begin_words = table.hashes, table.bits, table.begin_words
    lengths, powers = table.lengths, table.powers
    found = 0
    for document in range(len(documents) - 1):
        end = documents[document + 1]
        covered_to = documents[document]
        for word in range(documents[document], end - begin_words + 1):
            if not _has_bit(bits, sums[word + begin_words] - sums[word] * powers[begin_words]):
                continue
            for length in lengths:
                if word + length > end:
                    break
                value = sums[word + length] - sums[word] * powers[length]
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
                covered[document] += max(0, word + length - max(word, covered_to))
                covered_to = max(covered_to, word + length)
    return found
