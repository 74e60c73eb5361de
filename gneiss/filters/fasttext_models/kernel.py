"""The inner loops of the collapsed fastText ensemble: words, their n-grams, and the sums of their rows.

Source: A. Joulin et al., Bag of Tricks for Efficient Text Classification (EACL 2017), as fastText's dictionary reads
a line. A supervised model is linear up to its last function: the output of the mean of some rows is the mean of the
outputs of each, so every row can be stored as its output.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Float64Array, Int, Int64Array, UInt8Array, UInt32Array, UInt64Array

LANES = 8  # a row is padded to a multiple of this many float32, so that no row of 8 straddles two cache lines
HEADER = 2  # uint32 before the values of a word's record: the models that know the word, and its length in bytes
PADDING_BYTES = 8  # past the last record, since words are compared eight bytes at a time
EOS_HASH = 0xD79C9359  # of "</s>", the word that ends every text


_U = np.uint64
_BASIS = _U(2166136261)
_PRIME = _U(16777619)
NGRAM = _U(116049371)
_LOW = _U(0xFFFFFFFF)
_SPACES = _U(1 << 0 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 32)  # NUL \t \n \v \f \r and space
_BLOCK = 256  # words whose loads from memory are in flight together
LABEL = np.frombuffer(b"__label__", np.uint8)
_EOS = np.frombuffer(b"</s>", np.uint8)


@njit(cache=True, nogil=True)
def sum_rows(
    data: UInt8Array,
    offsets: Int64Array,
    slots: UInt64Array,
    records: UInt32Array,
    rows: Float32Array,
    eos: Int,
    word_ngrams: Int,
    columns_of: Int64Array,
    sums: Float64Array,
    features: Int64Array,
) -> None:
    """Add up the rows of every document's words and n-grams, for all models of a group.

    offsets: (documents + 1,) into data; slots, records, rows: see fasttext_table, rows flat; eos: record of `</s>` or
    0; columns_of: (models + 1,) model m has columns columns_of[m] to columns_of[m + 1]; sums: (documents, lanes), out;
    features: (documents, models), zeros, out: how many rows each model has added up.
    """
    models = len(columns_of) - 1
    lanes = sums.shape[1]
    row_size = _U(lanes)
    buckets = _U(len(rows) // lanes)
    values = records.view(np.float32)
    letters = records.view(np.uint8)
    mask = _U(len(slots) - 1)
    everyone = np.uint32((1 << models) - 1)
    orders = word_ngrams if buckets > 0 else 1

    starts, lengths, hashes = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64)
    entries, known = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64)
    grams = np.empty(_BLOCK * max(orders - 1, 1), np.uint64)
    tails = np.zeros(orders, np.uint64)  # tails[k]: hash of the k + 1 words before the next

    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        total = sums[document]
        total[:] = 0.0
        seen = shared = 0  # words so far; rows so far that belong to all models
        ended = False
        while not ended:
            # Three loops over a block of words, so that the loads of one word do not wait for those of another.
            words = found = 0
            while words < _BLOCK:
                while at < end and is_space(data[_U(at)]):
                    at += 1
                if at == end:
                    ended = True
                    break
                start = at
                value = _BASIS
                while at < end:
                    byte = data[_U(at)]  # an unsigned index, since numba asks of a signed one whether it is negative
                    if is_space(byte):
                        break
                    value = (value ^ _signed(byte)) * _PRIME
                    at += 1
                value &= _LOW
                if value == _U(EOS_HASH) and equals(data, start, at, _EOS):
                    ended = True
                    break
                if data[start] == LABEL[0] and equals(data, start, min(at, start + len(LABEL)), LABEL):
                    continue
                starts[words], lengths[words], hashes[words] = start, at - start, value
                words += 1
                for order in range(orders - 1, 0, -1):
                    tails[order] = tails[order - 1] * NGRAM + sign_extended(value)
                    if seen >= order:
                        grams[found] = tails[order] % buckets * row_size
                        found += 1
                tails[0] = sign_extended(value)
                seen += 1
            for word in range(words):
                entries[word] = slots[slot_of(hashes[word], mask)]
            known_words = 0
            for word in range(words):
                entry, slot = entries[word], slot_of(hashes[word], mask)
                while entry != 0:
                    record = entry & _LOW
                    if entry >> _U(32) == hashes[word] and records[record + _U(1)] == lengths[word]:
                        who = records[record]
                        width = lanes if who == everyone else _columns(who, columns_of)
                        first = (record + _U(HEADER + width)) * _U(4)
                        if (
                            _same(data, starts[word], letters, first, lengths[word])
                            if starts[word] + lengths[word] + PADDING_BYTES <= len(data)
                            else _same_at_end(data, starts[word], letters, first, lengths[word])
                        ):
                            if who == everyone:
                                known[known_words] = record + _U(HEADER)
                                known_words += 1
                            else:
                                _add_some(who, values, record + _U(HEADER), columns_of, total, features[document])
                            break
                    slot = (slot + _U(1)) & mask
                    entry = slots[slot]
            _add_rows(values, known, known_words, total)
            _add_rows(rows, grams, found, total)
            shared += known_words + found

        found = 0
        for order in range(1, orders):
            if seen >= order:
                gram = tails[order - 1] * NGRAM + sign_extended(_U(EOS_HASH))
                grams[found] = gram % buckets * row_size
                found += 1
        _add_rows(rows, grams, found, total)
        shared += found
        if eos != 0 and records[eos] == everyone:
            known[0] = eos + HEADER
            _add_rows(values, known, 1, total)
            shared += 1
        elif eos != 0:
            _add_some(records[eos], values, _U(eos + HEADER), columns_of, total, features[document])
        for model in range(models):
            features[document, model] += shared


@njit(cache=True, nogil=True)
def is_space(byte: Int) -> bool:
    """Whether fastText takes a byte for white space."""
    return bool(byte <= 32 and _SPACES >> _U(byte) & _U(1) != 0)


@njit(cache=True, nogil=True)
def hash_bytes(data: UInt8Array, start: Int, end: Int) -> np.uint64:
    """FNV-1a over signed bytes, 32 bits."""
    value = _BASIS
    for at in range(start, end):
        value = (value ^ _signed(data[at])) * _PRIME
    return value & _LOW


@njit(cache=True, nogil=True)
def slot_of(value: np.uint64, mask: np.uint64) -> np.uint64:
    """Where a word with this hash is looked for first."""
    return (value ^ (value >> _U(15))) & mask


@njit(cache=True, nogil=True)
def _signed(byte: np.uint8) -> np.uint64:
    return np.uint64(np.int64(np.int8(byte)))


@njit(cache=True, nogil=True)
def sign_extended(value: np.uint64) -> np.uint64:
    return np.uint64(np.int64(np.int32(np.uint32(value))))


@njit(cache=True, nogil=True)
def equals(data: UInt8Array, start: Int, end: Int, word: UInt8Array) -> bool:
    if end - start != len(word):
        return False
    different = 0
    for index in range(len(word)):
        different += data[start + index] != word[index]
    return different == 0


@njit(cache=True, nogil=True)
def _same(data: UInt8Array, start: np.int64, letters: UInt8Array, first: np.uint64, length: np.uint64) -> bool:
    """Whether a word in the text and one in the table are the same bytes; reads up to 8 bytes past either."""
    at, size = _U(start), length
    while size >= _U(8):
        if _eight(data, at) != _eight(letters, first):
            return False
        at, first, size = at + _U(8), first + _U(8), size - _U(8)
    return bool(size == 0 or (_eight(data, at) ^ _eight(letters, first)) << (_U(64) - _U(8) * size) == 0)


@njit(cache=True, nogil=True)
def _same_at_end(data: UInt8Array, start: np.int64, letters: UInt8Array, first: np.uint64, length: np.uint64) -> bool:
    """The same where the text ends too soon for that."""
    different = 0
    for index in range(length):
        different += data[start + index] != letters[first + _U(index)]
    return different == 0


@njit(cache=True, nogil=True)
def _eight(data: UInt8Array, at: np.uint64) -> np.uint64:
    """Eight bytes as one number; compiles to one load."""
    value = _U(0)
    for index in range(8):
        value |= _U(data[at + _U(index)]) << _U(8 * index)
    return value


@njit(cache=True, nogil=True)
def _columns(who: np.uint32, columns_of: Int64Array) -> Int:
    columns = 0
    for model in range(len(columns_of) - 1):
        if who >> np.uint32(model) & np.uint32(1):
            columns += columns_of[model + 1] - columns_of[model]
    return columns


@njit(cache=True, nogil=True)
def _add_some(
    who: Int,
    values: Float32Array,
    first: np.uint64,
    columns_of: Int64Array,
    total: Float64Array,
    features: Int64Array,
) -> None:
    """Add the row of a word that some of the models know."""
    for model in range(len(columns_of) - 1):
        if who >> np.uint32(model) & np.uint32(1):
            features[model] += 1
            for column in range(columns_of[model], columns_of[model + 1]):
                total[column] += values[first]
                first += _U(1)


@njit(cache=True, nogil=True)
def _add_rows(values: Float32Array, firsts: UInt64Array, count: Int, total: Float64Array) -> None:
    """Add up whole rows, each from values[firsts[i]]; float32 within a block of words, float64 across blocks."""
    for lane in range(0, len(total), LANES):
        a = b = c = d = e = f = g = h = np.float32(0)
        for index in range(count):
            at = firsts[index] + _U(lane)
            a += values[at]
            b += values[at + _U(1)]
            c += values[at + _U(2)]
            d += values[at + _U(3)]
            e += values[at + _U(4)]
            f += values[at + _U(5)]
            g += values[at + _U(6)]
            h += values[at + _U(7)]
        total[lane] += a
        total[lane + 1] += b
        total[lane + 2] += c
        total[lane + 3] += d
        total[lane + 4] += e
        total[lane + 5] += f
        total[lane + 6] += g
        total[lane + 7] += h
