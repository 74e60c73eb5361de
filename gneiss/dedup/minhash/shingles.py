"""Shingles: hashes of the n-grams of words of a normalized text.

Words lie between blanks. A character of a script that writes no spaces between words (`unspaced`) is a word by itself,
of half the weight: a shingle is what is needed, up to each word, to weigh as much as n words. So mixed texts need no
decision, and those without such characters have n-grams of words.

A word is hashed with the blank that ends it, eight bytes at a time (little-endian, missing bytes being 0), from
`h = WORD_SEED` by `h = fold(h ^ bytes, WORD_FACTOR)`, where `fold` exclusive-ors the halves of the 128-bit product. An
n-gram is a polynomial over the hashes of its words, `s = s * BASE + h` modulo 2**64, so that the next follows from the
last; its hash is the upper half of `fold(s ^ SHINGLE_SEED, SHINGLE_FACTOR)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types, uint64
from numba.extending import intrinsic

from gneiss.arrays import BoolArray, Int, UInt8Array, UInt32Array, UInt64Array
from gneiss.dedup.minhash.unspaced import may_be_unspaced, unspaced_bytes
from gneiss.dedup.words import fold_product, load_word

# Odd numbers without meaning: bits of irrational numbers.
WORD_SEED = 0x9E3779B97F4A7C15
WORD_FACTOR = 0x6A09E667F3BCC909
BASE = 0xBB67AE8584CAA73B
BASE_INVERSE = pow(BASE, -1, 1 << 64)
SHINGLE_SEED = 0x3C6EF372FE94F82B
SHINGLE_FACTOR = 0xA54FF53A5F1D36F1
_BLANK = 0x20
_ONES, _HIGH_BITS, _BLANKS = 0x0101010101010101, 0x8080808080808080, 0x2020202020202020
_intrinsic: Any = intrinsic  # its published type keeps the typing context among the arguments


@_intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(typingctx: Any, word: Any) -> Any:
    """How many low bits of a uint64 are 0; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@njit(cache=True, nogil=True)
def hash_word(data: UInt8Array, start: Int, end: Int) -> tuple[np.uint64, Int]:
    """The hash of the word that begins at `start`, and where it ends: at a blank, or at `end`."""
    value = uint64(WORD_SEED)
    eight, length = uint64(0), 0
    for position in range(start, end):
        if data[position] == _BLANK:
            break
        eight |= uint64(data[position]) << uint64(8 * (length % 8))
        length += 1
        if length % 8 == 0:
            value, eight = uint64(fold_product(value ^ eight, uint64(WORD_FACTOR))), uint64(0)
    eight |= uint64(_BLANK) << uint64(8 * (length % 8))
    return uint64(fold_product(value ^ eight, uint64(WORD_FACTOR))), start + length


@njit(cache=True, nogil=True)
def hash_inner_word(data: UInt8Array, start: Int) -> tuple[np.uint64, Int]:
    """The same, three times as fast, for a word with a blank behind it that is not among the last 7 bytes of data."""
    value = uint64(WORD_SEED)
    position = start
    while True:
        eight = uint64(load_word(data, position))
        differ = eight ^ uint64(_BLANKS)
        blanks = (differ - uint64(_ONES)) & ~differ & uint64(_HIGH_BITS)  # the lowest bit that is set is right
        if blanks:
            # not `eight &= ...`: numba 0.68 would lose `eight` for the rest of the loop
            last = eight & (blanks ^ (blanks - uint64(1)))  # up to the first blank
            return uint64(fold_product(value ^ last, uint64(WORD_FACTOR))), position + (_trailing_zeros(blanks) >> 3)
        value = uint64(fold_product(value ^ eight, uint64(WORD_FACTOR)))
        position += 8


@njit(cache=True, nogil=True)
def last_blank(data: UInt8Array, start: Int, end: Int) -> Int:
    """The last blank between `start` and `end` that is not among the last 7 bytes of data; start - 1 without."""
    position = min(end, len(data) - 7) - 1
    while position >= start and data[position] != _BLANK:
        position -= 1
    return max(position, start - 1)


@njit(cache=True, nogil=True)
def hash_shingle(polynomial: np.uint64) -> np.uint32:
    """The hash of an n-gram of words, from the polynomial over their hashes."""
    return np.uint32(fold_product(polynomial ^ uint64(SHINGLE_SEED), uint64(SHINGLE_FACTOR)) >> uint64(32))


@njit(cache=True, nogil=True)
def base_power(exponent: Int) -> np.uint64:
    """BASE to a power."""
    power = uint64(1)
    for _ in range(exponent):
        power *= uint64(BASE)
    return power


@njit(cache=True, nogil=True)
def write_shingles(
    data: UInt8Array,
    start: Int,
    end: Int,
    shingle_words: Int,
    table: BoolArray,
    window: UInt64Array,
    out: UInt32Array,
    at: Int,
) -> Int:
    """Write the hashes of a document's shingles, repeats included, from `at` on; returns where they end.

    A document that weighs less than `shingle_words` has one shingle of all its words. `table`: `unspaced`; `window`:
    from `window_of`. There are at most half as many shingles as bytes, and one.
    """
    if may_be_unspaced(data, start, end):
        last, polynomial = _write_with_unspaced(data, start, end, shingle_words, table, window, out, at)
    else:
        last, polynomial = _write_of_words(data, start, end, shingle_words, window[0, :shingle_words], out, at)
    if last == at and start < end:
        out[at] = hash_shingle(polynomial)
        last += 1
    return last


@njit(cache=True, nogil=True)
def window_of(shingle_words: Int) -> UInt64Array:
    """Room for the hashes and the weights of the words of a shingle, uint64 (2, a power of two)."""
    room = 1
    while room < 2 * shingle_words + 1:
        room *= 2
    return np.zeros((2, room), np.uint64)


@njit(cache=True, nogil=True)
def _write_of_words(
    data: UInt8Array, start: Int, end: Int, shingle_words: Int, window: UInt64Array, out: UInt32Array, at: Int
) -> tuple[Int, np.uint64]:
    """Where the shingles end, and the polynomial over the last words."""
    position, inner = start, last_blank(data, start, end)
    leaving = base_power(shingle_words)
    polynomial, words, place = uint64(0), 0, 0
    window[:] = uint64(0)
    while position < end:
        if position <= inner:
            value, position = hash_inner_word(data, position)
        else:
            value, position = hash_word(data, position, end)
        position += 1
        polynomial = polynomial * uint64(BASE) + value - window[place] * leaving
        window[place] = value
        place = place + 1 if place + 1 < shingle_words else 0
        words += 1
        if words >= shingle_words:
            out[at] = hash_shingle(polynomial)
            at += 1
    return at, polynomial


@njit(cache=True, nogil=True)
def _write_with_unspaced(
    data: UInt8Array,
    start: Int,
    end: Int,
    shingle_words: Int,
    table: BoolArray,
    window: UInt64Array,
    out: UInt32Array,
    at: Int,
) -> tuple[Int, np.uint64]:
    """The same."""
    values, weights = window
    mask, full = len(values) - 1, uint64(2 * shingle_words)
    polynomial, power, weight = uint64(0), uint64(BASE_INVERSE), uint64(0)  # power: BASE to the words but one
    first = last = 0
    position, inner = start, last_blank(data, start, end)
    while position < end:
        if data[position] == _BLANK:
            position += 1
            continue
        width = unspaced_bytes(data, position, end, table)
        if not width and position <= inner and _is_spaced(data, position):
            value, position = hash_inner_word(data, position)
        elif width:
            value = _hash_character(data, position, width)
            position += width
        else:
            value, position = hash_word(data, position, _end_of_word(data, position, end, table))
        values[last & mask], weights[last & mask] = value, uint64(1 if width else 2)
        polynomial = polynomial * uint64(BASE) + value
        power *= uint64(BASE)
        weight += weights[last & mask]
        last += 1
        while weight - weights[first & mask] >= full:
            polynomial -= values[first & mask] * power
            power *= uint64(BASE_INVERSE)
            weight -= weights[first & mask]
            first += 1
        if weight >= full:
            out[at] = hash_shingle(polynomial)
            at += 1
    return at, polynomial


@njit(cache=True, nogil=True)
def _hash_character(data: UInt8Array, start: Int, width: Int) -> np.uint64:
    """The hash of a word of less than eight bytes."""
    eight = uint64(_BLANK) << uint64(8 * width)
    for i in range(width):
        eight |= uint64(data[start + i]) << uint64(8 * i)
    return np.uint64(fold_product(uint64(WORD_SEED) ^ eight, uint64(WORD_FACTOR)))


@njit(cache=True, nogil=True)
def _is_spaced(data: UInt8Array, start: Int) -> bool:
    """Whether no byte is above 0xDF up to the next blank, which is not among the last 7 bytes of data."""
    position = start
    while True:
        eight = uint64(load_word(data, position))
        differ = eight ^ uint64(_BLANKS)
        blanks = (differ - uint64(_ONES)) & ~differ & uint64(_HIGH_BITS)  # the lowest bit that is set is right
        above = eight & (eight << uint64(1)) & (eight << uint64(2)) & uint64(_HIGH_BITS)
        if blanks:
            return bool(above & (blanks ^ (blanks - uint64(1))) == uint64(0))
        if above:
            return False
        position += 8


@njit(cache=True, nogil=True)
def _end_of_word(data: UInt8Array, start: Int, end: Int, table: BoolArray) -> Int:
    """Where the word ends that begins at `start`: at a blank, a character that is a word by itself, or `end`."""
    position = start
    while position < end and data[position] != _BLANK and not unspaced_bytes(data, position, end, table):
        position += 1
    return position
