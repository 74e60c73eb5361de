"""Collapsing fastText models: the union of their vocabularies, and each row of their matrices times their outputs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Float64Array, Int, Int32Array, Int64Array, UInt8Array, UInt32Array, UInt64Array
from gneiss.errors import ModelError
from gneiss.filters.fasttext_models.file import PREFIX, ModelFile
from gneiss.filters.fasttext_models.kernel import EOS_HASH, HEADER, PADDING_BYTES, hash_bytes, slot_of

_CHUNK_BYTES = 16 << 20
_PREFIX = np.frombuffer(PREFIX.encode(), np.uint8)
_LARGEST_PRODUCT = 1e30  # the sum of all features of a text stays finite
_MOST_RECORDS = 1 << 32  # a slot has 32 bits for a record's position


def has_word_with_prefix(file: ModelFile) -> bool:
    """Whether a word of the model starts with `__label__`; only a model trained with another prefix has one."""
    return bool(_any_starts_with(file.data, file.word_starts, file.word_lengths, _PREFIX))


def collapse(file: ModelFile, of_words: Float32Array, of_buckets: Float32Array) -> None:
    """Multiply every row of a model's input matrix with its output matrix, streaming the file.

    of_words: (words, columns), of_buckets: (buckets or 0, columns), both out. Raises ModelError for unsound weights.
    """
    assert file.output is not None
    assert file.input_start is not None
    weights = file.output.astype(np.float64)
    if file.loss == "softmax":
        weights = weights[1:] - weights[:1]
    weights = np.ascontiguousarray(weights)
    row_bytes = 4 * file.dimensions
    with file.path.open("rb", buffering=0) as stream:
        stream.seek(file.input_start)
        for out in (of_words, of_buckets):
            chunk = np.empty((max(_CHUNK_BYTES // row_bytes, 1), file.dimensions), "<f4")
            for start in range(0, len(out), len(chunk)):
                part = chunk[: len(out) - start]
                if not _read_into(stream, part):
                    raise ModelError(f"{file.path}: the input matrix ends early; did the file change?")
                products = np.empty((len(part), len(weights)), np.float32)
                _multiply(part, weights, products)
                if not np.abs(products).max(initial=0) <= _LARGEST_PRODUCT:  # not true of NaN either
                    raise ModelError(f"{file.path}: damaged fastText model: NaN, infinite or absurdly large weights")
                out[start : start + len(part)] = products


@dataclass(frozen=True, eq=False)
class Union:
    """Every word of several models, once.

    For word i: its bytes letters[starts[i]:starts[i] + lengths[i]], its hash, its count in all models together, and
    who knows it (a bit for each model). ids[m]: for each word of model m, which word of the union it is.
    """

    letters: UInt8Array
    starts: Int64Array
    lengths: Int32Array
    hashes: UInt32Array
    counts: Int64Array
    who: UInt32Array
    ids: tuple[Int32Array, ...]

    @classmethod
    def of(cls, files: Sequence[ModelFile]) -> Union:
        """The union of the models' vocabularies, in order of first appearance.

        Raises ModelError for a model that lists a word twice.
        """
        most = sum(len(file.word_starts) for file in files)
        letters = np.empty(sum(int(file.word_lengths.sum(dtype=np.int64)) for file in files), np.uint8)
        known = _KnownWords(
            letters,
            np.zeros(most + 1, np.int64),
            np.empty(most, np.int32),
            np.empty(most, np.uint32),
            np.empty(most, np.int64),
            np.empty(most, np.uint32),
            np.zeros(_power_of_two(most + most // 3 + 1), np.uint64),
        )
        words = 0
        ids = []
        for model, file in enumerate(files):
            of_model = np.empty(len(file.word_starts), np.int32)
            of_file = _FileWords(file.data, file.word_starts, file.word_lengths, file.counts)
            words = int(_merge(of_file, model, of_model, known, words))
            if words < 0:
                raise ModelError(f"{file.path}: damaged fastText model: word {-1 - words:,} is there twice")
            ids.append(of_model)
        return cls(
            letters,
            known.starts[:words],
            known.lengths[:words],
            known.hashes[:words],
            known.counts[:words],
            known.who[:words],
            tuple(ids),
        )

    def tables(
        self, values: Sequence[Float32Array], columns_of: Int64Array, lanes: int
    ) -> tuple[UInt32Array, UInt64Array, int]:
        """Records and slots as fasttext_table describes them, and the record of `</s>` (0 if no model knows it).

        values: for each model float32 (words, columns).
        """
        by_frequency = np.argsort(-self.counts, kind="stable")
        everyone = (1 << len(values)) - 1
        sizes = np.zeros(len(self.who), np.int64)
        for model, width in enumerate(np.diff(columns_of)):
            sizes += width * (self.who >> np.uint32(model) & np.uint32(1))
        sizes[self.who == everyone] = lanes
        sizes += HEADER + (self.lengths + 3) // 4
        positions = np.empty(len(sizes), np.int64)
        ends = np.cumsum(sizes[by_frequency]) + 1  # position 0 stands for no record
        positions[by_frequency] = ends - sizes[by_frequency]
        size = int(ends[-1]) if len(ends) else 1
        if size > _MOST_RECORDS:
            raise ModelError(f"the vocabularies of {len(values)} models need {4 * size:,} bytes, at most 16 GiB fit")
        records = np.zeros(size + PADDING_BYTES // 4, np.uint32)
        _write_words(by_frequency, positions, sizes, self.who, self.letters, self.starts, self.lengths, records)
        for model, of_model in enumerate(values):
            _write_values(model, self.ids[model], of_model, self.who, columns_of, positions, records.view(np.float32))
        slots = np.zeros(_power_of_two(2 * len(self.who) + 1), np.uint64)
        _fill_slots(by_frequency, self.hashes, positions, slots)
        return records, slots, self._position_of(b"</s>", EOS_HASH, positions)

    def _position_of(self, word: bytes, hashed: int, positions: Int64Array) -> int:
        for index in np.flatnonzero((self.hashes == hashed) & (self.lengths == len(word))):
            if self.letters[self.starts[index] : self.starts[index] + len(word)].tobytes() == word:
                return int(positions[index])
        return 0


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 1).bit_length()


def _read_into(stream: io.RawIOBase, array: Float32Array) -> bool:
    """Fill an array from a file; False if the file ends before."""
    left = array.reshape(-1).view(np.uint8).data
    while len(left):
        count = stream.readinto(left)
        if not count:
            return False
        left = left[count:]
    return True


@njit(cache=True, nogil=True)
def _multiply(rows: Float32Array, weights: Float64Array, out: Float32Array) -> None:
    """out = rows x weights, transposed; float64 sums of every fourth product, always in this order."""
    dimensions = rows.shape[1]
    for row in range(len(rows)):
        for column in range(len(weights)):
            a = b = c = d = 0.0
            for index in range(0, dimensions - 3, 4):
                a += rows[row, index] * weights[column, index]
                b += rows[row, index + 1] * weights[column, index + 1]
                c += rows[row, index + 2] * weights[column, index + 2]
                d += rows[row, index + 3] * weights[column, index + 3]
            for index in range(dimensions - dimensions % 4, dimensions):
                a += rows[row, index] * weights[column, index]
            out[row, column] = (a + b) + (c + d)


class _FileWords(NamedTuple):
    """The words of one model in its file's bytes, and their counts."""

    data: UInt8Array
    starts: Int64Array
    lengths: Int32Array
    counts: Int64Array


class _KnownWords(NamedTuple):
    """The columns of `Union` with room for all words, and a hash table of their numbers, each plus 1."""

    letters: UInt8Array
    starts: Int64Array
    lengths: Int32Array
    hashes: UInt32Array
    counts: Int64Array
    who: UInt32Array
    slots: UInt64Array


@njit(cache=True, nogil=True)
def _merge(file: _FileWords, model: Int, ids: Int32Array, union: _KnownWords, words: Int) -> Int:
    """Add one model's words to the union of `words`; returns how many there are then, or -1 - i if word i repeats."""
    data, word_starts, word_lengths, word_counts = file
    letters, starts, lengths, hashes, counts, who, slots = union
    mask = np.uint64(len(slots) - 1)
    bit = np.uint32(1 << model)
    for word in range(len(word_starts)):
        start, length = word_starts[word], word_lengths[word]
        hashed = hash_bytes(data, start, start + length)
        slot = slot_of(np.uint64(hashed), mask)
        while slots[slot] != 0:
            known = np.int64(slots[slot] & np.uint64(0xFFFFFFFF)) - 1
            if hashes[known] == hashed and _equal_words(data, start, length, letters, starts[known], lengths[known]):
                break
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] == 0:
            known = np.int64(words)
            slots[slot] = np.uint64(known + 1)
            letters[starts[known] : starts[known] + length] = data[start : start + length]
            starts[known + 1] = starts[known] + length
            lengths[known], hashes[known], counts[known], who[known] = length, hashed, 0, 0
            words += 1
        if who[known] & bit:
            return -1 - word
        who[known] |= bit
        counts[known] += word_counts[word]
        ids[word] = known
    return words


@njit(cache=True, nogil=True)
def _equal_words(a: UInt8Array, a_start: Int, a_length: Int, b: UInt8Array, b_start: Int, b_length: Int) -> bool:
    if a_length != b_length:
        return False
    different = 0
    for index in range(a_length):
        different += a[a_start + index] != b[b_start + index]
    return different == 0


@njit(cache=True, nogil=True)
def _any_starts_with(
    data: UInt8Array,
    starts: Int64Array,
    lengths: Int32Array,
    prefix: UInt8Array,
) -> bool:
    for word in range(len(starts)):
        if lengths[word] >= len(prefix) and _equal_words(data, starts[word], len(prefix), prefix, 0, len(prefix)):
            return True
    return False


@njit(cache=True, nogil=True)
def _write_words(
    order: Int64Array,
    positions: Int64Array,
    sizes: Int64Array,
    who: UInt32Array,
    letters: UInt8Array,
    starts: Int64Array,
    lengths: Int32Array,
    records: UInt32Array,
) -> None:
    """Write each record except its values."""
    as_bytes = records.view(np.uint8)
    for word in order:
        records[positions[word]] = who[word]
        records[positions[word] + 1] = lengths[word]
        first = (positions[word] + sizes[word] - (lengths[word] + 3) // 4) * 4
        as_bytes[first : first + lengths[word]] = letters[starts[word] : starts[word] + lengths[word]]


@njit(cache=True, nogil=True)
def _write_values(
    model: Int,
    ids: Int32Array,
    of_words: Float32Array,
    who: UInt32Array,
    columns_of: Int64Array,
    positions: Int64Array,
    records: Float32Array,
) -> None:
    """Write one model's values, behind those of the models before it that know the word."""
    for word in range(len(ids)):
        first = positions[ids[word]] + HEADER
        for other in range(model):
            if who[ids[word]] >> np.uint32(other) & np.uint32(1):
                first += columns_of[other + 1] - columns_of[other]
        for column in range(of_words.shape[1]):
            records[first + column] = of_words[word, column]


@njit(cache=True, nogil=True)
def _fill_slots(
    order: Int64Array,
    hashes: UInt32Array,
    positions: Int64Array,
    slots: UInt64Array,
) -> None:
    """Enter every record, those of frequent words first, so that they lie where they are looked for first."""
    mask = np.uint64(len(slots) - 1)
    for word in order:
        slot = slot_of(np.uint64(hashes[word]), mask)
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = np.uint64(hashes[word]) << np.uint64(32) | np.uint64(positions[word])
