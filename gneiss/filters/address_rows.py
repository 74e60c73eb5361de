"""What kernels of e-mail and IP addresses share: bits of ASCII characters, hashes of names, rows of what is found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

from gneiss.arrays import Int, UInt8Array, UInt64Array

#: What a row's `kind` says.
EMAIL, IPV4, IPV6 = range(3)
#: Bits of characters; EUROPEAN and OTHER are letters beyond ASCII, see `email_kernel`.
LETTER, DIGIT, HEX, LOCAL, EUROPEAN, OTHER, BETWEEN = 1, 2, 4, 8, 16, 32, 64
ALNUM = LETTER | DIGIT
AT, DOT, HYPHEN, COLON, UNDERSCORE, PARENTHESIS, BRACKET = b"@.-:_(["


def _character_bits() -> UInt8Array:
    bits = np.zeros(256, np.uint8)
    for characters, bit in (
        (b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", LETTER | LOCAL),
        (b"0123456789", DIGIT | HEX | LOCAL),
        (b"abcdefABCDEF", HEX),
        (b"._%+-", LOCAL),
        (b" .:=#\"'", BETWEEN),
    ):
        bits[list(characters)] |= bit
    return bits


#: Of ASCII, uint8 (256,).
BITS = _character_bits()
#: An address that was found: its document, and bytes counted from the document's first.
ROW = np.dtype(
    [
        ("document", np.int64), ("start", np.int64), ("end", np.int64), ("kind", np.uint8), ("key", np.uint64),
        ("personal", np.bool_),
    ],
    align=True,
)  # fmt: skip
Rows: TypeAlias = npt.NDArray[np.void]


def room(rows: int) -> Rows:
    """Place for rows."""
    return np.empty(rows, ROW)


def hashes(names: Iterable[str]) -> UInt64Array:
    """Hashes of names of ASCII, case aside, sorted."""
    encoded = [np.frombuffer(name.encode(), np.uint8) for name in names]
    return np.sort(np.array([hash_lower(name, 0, len(name)) for name in encoded], np.uint64))


@njit(cache=True, nogil=True)
def hash_lower(data: UInt8Array, start: Int, end: Int) -> np.uint64:
    """FNV-1a of ASCII text, case aside."""
    value = uint64(0xCBF29CE484222325)
    for position in range(start, end):
        byte = data[position]
        value = (value ^ uint64(byte + 32 if 65 <= byte <= 90 else byte)) * uint64(0x100000001B3)
    return value


@njit(cache=True, nogil=True)
def is_among(value: Int, hashes: UInt64Array) -> bool:
    place = np.searchsorted(hashes, value)
    return bool(place < len(hashes) and hashes[place] == value)
