"""The inner loops of the collapsed fastText ensemble: words, their n-grams, and the sums of their rows.

Source: A. Joulin et al., Bag of Tricks for Efficient Text Classification (EACL 2017), as fastText's dictionary reads
a line. A supervised model is linear up to its last function, so the mean of (row · output) stands for the output of
the mean row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, uint32, uint64

LANES = 8  # a row is padded to a multiple of this many float32, so that no row of 8 straddles two cache lines
HEADER = 2  # uint32 before the values of a word's record: the models that know the word, and its length in bytes

_BASIS = 2166136261
_PRIME = 16777619
_NGRAM = uint64(116049371)
_SPACES = uint64(1 << 0 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 32)  # NUL \t \n \v \f \r and space
_BLOCK = 256  # words whose loads from memory are in flight together
_LABEL = np.frombuffer(b"__label__", np.uint8)
_EOS = np.frombuffer(b"</s>", np.uint8)


@njit(cache=True, nogil=True)
def hash_bytes(data: npt.NDArray[np.uint8], start: int, end: int) -> int:
    """FNV-1a over signed bytes, 32 bits."""
    value = uint64(_BASIS)
    for at in range(start, end):
        value = (value ^ _signed(data[at])) * uint64(_PRIME)
    return uint32(value)


EOS_HASH = 0xD79C9359  # of "</s>", the word that ends every text


@njit(cache=True, nogil=True)
def sum_rows(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    slots: npt.NDArray[np.uint64],
    records: npt.NDArray[np.uint32],
    rows: npt.NDArray[np.float32],
    eos: int,
    word_ngrams: int,
    columns_of: npt.NDArray[np.int64],
    sums: npt.NDArray[np.float64],
    features: npt.NDArray[np.int64],
) -> None:
    """Add up the rows of every document's words and n-grams, for all models of a group.

    offsets: (documents + 1,) into data; slots, records, rows: see fasttext_table; eos: record of `</s>` or 0;
    columns_of: (models + 1,) model m has columns columns_of[m] to columns_of[m + 1]; sums: (documents, lanes), out;
    features: (documents, models), out: how many rows each model has added up.
    """
    models = len(columns_of) - 1
    lanes = sums.shape[1]
    buckets = uint64(len(rows) // lanes)
    values = records.view(np.float32)
    letters = records.view(np.uint8)
    mask = uint64(len(slots) - 1)
    everyone = uint32((1 << models) - 1)
    orders = word_ngrams if buckets > 0 else 1

    starts = np.empty(_BLOCK, np.uint64)
    lengths = np.empty(_BLOCK, np.uint64)
    hashes = np.empty(_BLOCK, np.uint64)
    entries = np.empty(_BLOCK, np.uint64)
    known = np.empty(_BLOCK, np.uint64)
    grams = np.empty(_BLOCK * max(orders - 1, 1), np.uint64)
    tails = np.zeros(orders, np.uint64)  # tails[k]: hash of the k + 1 words before the next

    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        total = sums[document]
        total[:] = 0.0
        seen = 0
        everywhere = 0
        ngrams = 0
        ended = False
        while not ended:
            words = 0
            found = 0
            while words < _BLOCK:
                while at < end and is_space(data[uint64(at)]):
                    at += 1
                if at == end:
                    ended = True
                    break
                start = at
                value = uint64(_BASIS)
                while at < end:
                    byte = data[uint64(at)]
                    if is_space(byte):
                        break
                    value = (value ^ _signed(byte)) * uint64(_PRIME)
                    at += 1
                value &= uint64(0xFFFFFFFF)
                if value == uint64(EOS_HASH) and _equal(data, start, at, _EOS, 4):
                    ended = True
                    break
                if data[uint64(start)] == 0x5F and _equal(data, start, min(at, start + 9), _LABEL, 9):
                    continue
                starts[words], lengths[words], hashes[words] = start, at - start, value
                words += 1
                signed = uint64(np.int64(np.int32(uint32(value))))
                for order in range(orders - 1, 0, -1):
                    tails[order] = tails[order - 1] * _NGRAM + signed
                    if seen >= order:
                        grams[found] = tails[order] % buckets * uint64(lanes)
                        found += 1
                tails[0] = signed
                seen += 1

            for word in range(words):
                entries[word] = slots[slot_of(hashes[word], mask)]
            rows_known = 0
            for word in range(words):
                entry = entries[word]
                slot = slot_of(hashes[word], mask)
                while entry != 0:
                    record = entry & uint64(0xFFFFFFFF)
                    if entry >> uint64(32) == hashes[word] and records[record + uint64(1)] == lengths[word]:
                        who = records[record]
                        count = lanes if who == everyone else _columns(who, columns_of)
                        first = (record + uint64(HEADER + count)) * uint64(4)
                        if _same(data, starts[word], letters, first, lengths[word]):
                            if who == everyone:
                                known[rows_known] = record + uint64(HEADER)
                                rows_known += 1
                            else:
                                _add_some(who, values, record + uint64(HEADER), columns_of, total, features[document])
                            break
                    slot = (slot + uint64(1)) & mask
                    entry = slots[slot]
            _add_rows(values, known, rows_known, total)
            _add_rows(rows, grams, found, total)
            everywhere += rows_known
            ngrams += found

        found = 0
        signed = uint64(np.int64(np.int32(uint32(EOS_HASH))))
        for order in range(1, orders):
            if seen >= order:
                grams[found] = (tails[order - 1] * _NGRAM + signed) % buckets * uint64(lanes)
                found += 1
        _add_rows(rows, grams, found, total)
        ngrams += found
        if eos != 0:
            who = records[eos]
            if who == everyone:
                known[0] = eos + HEADER
                _add_rows(values, known, 1, total)
                everywhere += 1
            else:
                _add_some(who, values, uint64(eos + HEADER), columns_of, total, features[document])
        for model in range(models):
            features[document, model] += everywhere + ngrams


@njit(cache=True, nogil=True)
def is_space(byte: int) -> bool:
    """Whether fastText takes a byte for white space."""
    return byte <= 32 and (_SPACES >> uint64(byte)) & uint64(1) != 0


@njit(cache=True, nogil=True)
def _signed(byte: int) -> int:
    return uint64(np.int64(np.int8(byte)))


@njit(cache=True, nogil=True)
def slot_of(value: int, mask: int) -> int:
    """Where a word with this hash is looked for first."""
    return (value ^ (value >> uint64(15))) & mask


@njit(cache=True, nogil=True)
def _equal(data: npt.NDArray[np.uint8], start: int, end: int, word: npt.NDArray[np.uint8], length: int) -> bool:
    if end - start != length:
        return False
    for index in range(length):
        if data[start + index] != word[index]:
            return False
    return True


@njit(cache=True, nogil=True)
def _same(data: npt.NDArray[np.uint8], start: int, letters: npt.NDArray[np.uint8], first: int, length: int) -> bool:
    """Whether a word in the text and one in the table are the same bytes."""
    for index in range(length):
        if data[start + uint64(index)] != letters[first + uint64(index)]:
            return False
    return True


@njit(cache=True, nogil=True)
def _columns(who: int, columns_of: npt.NDArray[np.int64]) -> int:
    columns = 0
    for model in range(len(columns_of) - 1):
        if who >> uint32(model) & 1:
            columns += columns_of[model + 1] - columns_of[model]
    return columns


@njit(cache=True, nogil=True)
def _add_some(
    who: int,
    values: npt.NDArray[np.float32],
    first: int,
    columns_of: npt.NDArray[np.int64],
    total: npt.NDArray[np.float64],
    features: npt.NDArray[np.int64],
) -> None:
    """Add the row of a word that some of the models know."""
    for model in range(len(columns_of) - 1):
        if who >> uint32(model) & 1:
            features[model] += 1
            for column in range(columns_of[model], columns_of[model + 1]):
                total[column] += values[first]
                first += uint64(1)


@njit(cache=True, nogil=True)
def _add_rows(
    values: npt.NDArray[np.float32], firsts: npt.NDArray[np.uint64], count: int, total: npt.NDArray[np.float64]
) -> None:
    """Add up full rows, each from values[firsts[i]]; float32 within a block of words, float64 across blocks."""
    for lane in range(0, len(total), LANES):
        zero = np.float32(0)
        a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
        for index in range(count):
            at = firsts[index] + uint64(lane)
            a += values[at]
            b += values[at + uint64(1)]
            c += values[at + uint64(2)]
            d += values[at + uint64(3)]
            e += values[at + uint64(4)]
            f += values[at + uint64(5)]
            g += values[at + uint64(6)]
            h += values[at + uint64(7)]
        total[lane] += a
        total[lane + 1] += b
        total[lane + 2] += c
        total[lane + 3] += d
        total[lane + 4] += e
        total[lane + 5] += f
        total[lane + 6] += g
        total[lane + 7] += h
