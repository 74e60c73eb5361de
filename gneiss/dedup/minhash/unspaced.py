"""Scripts that write no spaces between words: their texts are cut into characters, two of which count as a word."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Int, UInt8Array, read_only

#: The code points of Balinese, Bopomofo, Han, Hiragana, Javanese, Katakana, Khmer, Lao, Myanmar, New Tai Lue, Tai Le,
#: Tai Tham, Tai Viet, Thai, Tibetan and Yi, whole blocks of them, so that marks, digits and signs of length are among
#: them, which stand between letters (hexadecimal, inclusive).
UNSPACED_RANGES = """
E00-109F 1780-17FF 1950-19FF 1A20-1AAF 1B00-1B7F 3005-3007 3021-302F 3031-312F 3190-31FF 3220-325F 3280-4DBF 4E00-A4CF
A980-A9FF AA60-AADF F900-FAFF FF66-FF9F 16FE3 1AFF0-1B16F 20000-3FFFF
"""
_CODE_POINTS = 0x40000


@cache
def unspaced() -> BoolArray:
    """Whether each code point is one of `UNSPACED_RANGES`, bool (0x40000,), read-only.

    >>> [bool(unspaced()[ord(character)]) for character in "a中カก한"]
    [False, True, True, True, False]
    """
    table = np.zeros(_CODE_POINTS, np.bool_)
    for item in UNSPACED_RANGES.split():
        first, _, last = item.partition("-")
        table[int(first, 16) : int(last or first, 16) + 1] = True
    return read_only(table)


@njit(cache=True, nogil=True)
def may_be_unspaced(data: UInt8Array, start: Int, end: Int) -> bool:
    """Whether there are bytes with which such a character begins: 0xE0 and above, but for 0xE2, typography's."""
    count = 0
    for position in range(start, end):
        count += (data[position] >= 0xE0) & (data[position] != 0xE2)
    return count > 0


@njit(cache=True, nogil=True)
def unspaced_bytes(data: UInt8Array, position: Int, end: Int, table: BoolArray) -> Int:
    """The bytes of the character at a position before `end`, if it is one of `unspaced`, or 0."""
    first = data[position]
    width = 4 if first >= 0xF0 else 3
    if first < 0xE0 or position + width > end:
        return 0
    code_point = np.int64(first) & (0x7F >> width)
    for i in range(1, width):
        code_point = code_point << 6 | np.int64(data[position + i]) & 0x3F
    return width if code_point < _CODE_POINTS and table[code_point] else 0
