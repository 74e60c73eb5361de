"""fastText's features of a text, as rows of a sparse matrix: words of an agreed list, and hashed n-grams of all words.

Source: A. Joulin et al., Bag of Tricks for Efficient Text Classification (EACL 2017), as fastText's dictionary reads a
line, line feeds as spaces.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Int, Int32Array, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.errors import InputError, printable
from gneiss.filters.fasttext_models.file import PREFIX
from gneiss.filters.fasttext_models.kernel import (
    LABEL,
    NGRAM,
    equals,
    hash_bytes,
    is_space,
    sign_extended,
    slot_of,
)

#: The word that ends every text. It is in every vocabulary, as word 0, and serves a linear model as its bias.
END = "</s>"
#: White space of fastText, and what UTF-8 has no bytes for.
_NOT_IN_WORDS = frozenset(map(chr, (0, *range(9, 14), 32, *range(0xD800, 0xE000))))
_MOST_WORDS, _MOST_BUCKETS, _LONGEST_NGRAM = 10_000_000, 100_000_000, 16
_U = np.uint64


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse matrix by rows: row i has `values[starts[i]:starts[i + 1]]` in the columns of the same place.

    starts: int64 (rows + 1,); columns: int32 (entries,), ascending in a row; values: float32 (entries,).
    """

    starts: Int64Array
    columns: Int32Array
    values: Float32Array

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class FeatureSpace:
    """What the features of a text are: the words of a list, then buckets of n-grams.

    words: those that count by themselves, `</s>` first; word_ngrams: the most words of an n-gram, 1 for none; buckets:
    how many n-grams are hashed into. Raises InputError for what is no word to fastText, or is there twice.

    >>> space = FeatureSpace.of(["red", "green"], word_ngrams=2, buckets=5)
    >>> space.size, space.words
    (8, ('</s>', 'red', 'green'))
    >>> rows = space.rows(TextBatch.of(["red green red"]))
    >>> rows.columns, 7 * rows.values
    (array([0, 1, 2, 3, 5], dtype=int32), array([1., 2., 1., 2., 1.], dtype=float32))
    """

    words: tuple[str, ...]
    word_ngrams: int = 2
    buckets: int = 262_144

    def __post_init__(self) -> None:
        if not 1 <= self.word_ngrams <= _LONGEST_NGRAM:
            raise InputError(f"word_ngrams: expected 1 to {_LONGEST_NGRAM}, found {self.word_ngrams}")
        if not 0 <= self.buckets <= _MOST_BUCKETS:
            raise InputError(f"buckets: expected 0 to {_MOST_BUCKETS:,}, found {self.buckets:,}")
        if self.word_ngrams > 1 and not self.buckets:
            raise InputError("buckets: n-grams of several words need some, found 0; give word_ngrams of 1, or buckets")
        _check_words(self.words)

    @classmethod
    def of(cls, words: Sequence[str], word_ngrams: int = 2, buckets: int = 262_144) -> FeatureSpace:
        """That of a list of words, which need not have `</s>`."""
        return cls((END, *(word for word in words if word != END)), word_ngrams, buckets)

    @property
    def size(self) -> int:
        """How many features there are."""
        return len(self.words) + self.buckets

    @property
    def sha256(self) -> str:
        """What sites compare, so that all mean the same features."""
        said = "\n".join((*self.words, str(self.word_ngrams), str(self.buckets)))
        return hashlib.sha256(said.encode()).hexdigest()

    def rows(self, batch: TextBatch) -> SparseRows:
        """x of each text: how often it has a feature, by the number of features it has; a row without any is empty."""
        vocabulary = self._vocabulary
        starts, columns, values = _rows(
            batch.data, batch.offsets, vocabulary.letters, vocabulary.starts, vocabulary.slots, self.word_ngrams,
            self.buckets,
        )  # fmt: skip
        return SparseRows(starts, columns, values)

    @cached_property
    def _vocabulary(self) -> _Vocabulary:
        return _Vocabulary.of(self.words)


@dataclass(frozen=True, eq=False)
class _Vocabulary:
    """Words as bytes, word i `letters[starts[i]:starts[i + 1]]`, and open addressing: hash << 32 | i + 1, 0 if free."""

    letters: UInt8Array
    starts: Int64Array
    slots: UInt64Array

    @classmethod
    def of(cls, words: Sequence[str]) -> _Vocabulary:
        encoded = [word.encode() for word in words]
        letters = np.frombuffer(b"".join(encoded), np.uint8)
        starts: Int64Array = np.cumsum([0, *map(len, encoded)])
        slots = np.zeros(1 << (2 * len(words)).bit_length(), np.uint64)
        _fill(letters, starts, slots)
        return cls(letters, starts, slots)


def _check_words(words: Sequence[str]) -> None:
    if not words or words[0] != END:
        raise InputError(f"words: expected {END} first, found {printable(words[0]) if words else 'none'}")
    if len(words) > _MOST_WORDS:
        raise InputError(f"words: expected at most {_MOST_WORDS:,}, found {len(words):,}")
    if repeated := [word for word, times in Counter(words).items() if times > 1]:
        raise InputError(f"words: '{printable(repeated[0])}' is there twice; list each word once")
    for word in words:
        if not word or word.startswith(PREFIX) or not _NOT_IN_WORDS.isdisjoint(word):
            raise InputError(
                f"words: '{printable(word)}' is no word to fastText: expected a character at least, no white space, no"
                f" lone surrogate, and not {PREFIX} in front; leave it out"
            )


@njit(cache=True, nogil=True)
def _fill(letters: UInt8Array, starts: Int64Array, slots: UInt64Array) -> None:
    mask = _U(len(slots) - 1)
    for word in range(len(starts) - 1):
        value = hash_bytes(letters, starts[word], starts[word + 1])
        slot = slot_of(value, mask)
        while slots[slot] != 0:
            slot = (slot + _U(1)) & mask
        slots[slot] = value << _U(32) | _U(word + 1)


@njit(cache=True, nogil=True)
def _rows(
    data: UInt8Array,
    offsets: Int64Array,
    letters: UInt8Array,
    words: Int64Array,
    slots: UInt64Array,
    word_ngrams: Int,
    buckets: Int,
) -> tuple[Int64Array, Int32Array, Float32Array]:
    starts = np.zeros(len(offsets), np.int64)
    columns, values = np.empty(1024, np.int32), np.empty(1024, np.float32)
    filled = 0
    for document in range(len(offsets) - 1):
        features = _features(
            data, offsets[document], offsets[document + 1], letters, words, slots, word_ngrams, buckets
        )
        features = features[np.argsort(features, kind="mergesort")]  # numba's other sort can be made to take n² steps
        if filled + len(features) > len(columns):
            room = 2 * (filled + len(features))
            wider, heavier = np.empty(room, np.int32), np.empty(room, np.float32)
            wider[:filled], heavier[:filled] = columns[:filled], values[:filled]
            columns, values = wider, heavier
        at = 0
        while at < len(features):
            first = at
            while at < len(features) and features[at] == features[first]:
                at += 1
            columns[filled], values[filled] = features[first], (at - first) / len(features)
            filled += 1
        starts[document + 1] = filled
    return starts, columns[:filled].copy(), values[:filled].copy()


@njit(cache=True, nogil=True)
def _features(
    data: UInt8Array,
    at: Int,
    end: Int,
    letters: UInt8Array,
    words: Int64Array,
    slots: UInt64Array,
    word_ngrams: Int,
    buckets: Int,
) -> Int32Array:
    """Every feature of a text, as often as it has it."""
    known = len(words) - 1
    features = np.empty(((end - at) // 2 + 2) * word_ngrams, np.int32)  # every other byte a word, and `</s>`
    tails = np.zeros(word_ngrams, np.uint64)  # tails[k]: hash of the k + 1 words before the next
    found = seen = 0
    word = -1
    while word != 0:  # 0 is `</s>`
        while at < end and is_space(data[at]):
            at += 1
        start = at
        while at < end and not is_space(data[at]):
            at += 1
        if start == at:
            word, value = 0, hash_bytes(letters, words[0], words[1])
        elif equals(data, start, min(at, start + len(LABEL)), LABEL):
            continue
        else:
            value = hash_bytes(data, start, at)
            word = _word(data, start, at, value, letters, words, slots)
        if word >= 0:
            features[found] = word
            found += 1
        for order in range(word_ngrams - 1, 0, -1):
            tails[order] = tails[order - 1] * NGRAM + sign_extended(value)
            if seen >= order:
                features[found] = known + np.int64(tails[order] % _U(buckets))
                found += 1
        tails[0] = sign_extended(value)
        seen += 1
    return features[:found]


@njit(cache=True, nogil=True)
def _word(
    data: UInt8Array, start: Int, end: Int, value: Int, letters: UInt8Array, words: Int64Array, slots: UInt64Array
) -> Int:
    """Which word of the vocabulary some bytes are, -1 for none."""
    mask = _U(len(slots) - 1)
    slot = slot_of(value, mask)
    while slots[slot] != 0:
        if slots[slot] >> _U(32) == value:
            word = np.int64(slots[slot] & _U(0xFFFFFFFF)) - 1
            if equals(data, start, end, letters[words[word] : words[word + 1]]):
                return word
        slot = (slot + _U(1)) & mask
    return np.int64(-1)
