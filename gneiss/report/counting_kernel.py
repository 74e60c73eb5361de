"""Kernels that count documents by code."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Int8Array, Int64Array


@njit(cache=True, nogil=True)
def coded(code: Int64Array, base: int, digits: Int8Array) -> Int64Array:
    """Codes with more digits, which are (digits, rows)."""
    result = np.empty(len(code), np.int64)
    for row in range(len(code)):
        packed = code[row]
        for digit in range(len(digits)):
            packed = packed * base + digits[digit, row]
        result[row] = packed
    return result


@njit(cache=True, nogil=True)
def numbered(code: Int64Array, size: int) -> tuple[Int64Array, Int64Array]:
    """Codes below `size` as consecutive numbers, in order of appearance, and the first row of each."""
    numbers, first, found = np.full(size, -1, np.int64), np.empty(size, np.int64), 0
    kind = np.empty(len(code), np.int64)
    for row, value in enumerate(code):
        if numbers[value] < 0:
            numbers[value] = found
            first[found] = row
            found += 1
        kind[row] = numbers[value]
    return kind, first[:found].copy()


@njit(cache=True, nogil=True)
def add_amounts(counts: Int64Array, kind: Int64Array, text_bytes: Int64Array, tokens: Int64Array) -> None:
    """Add documents, their bytes and tokens to `counts`, (kinds, 3), by their kind."""
    for row, of in enumerate(kind):
        counts[of, 0] += 1
        counts[of, 1] += text_bytes[row]
        counts[of, 2] += tokens[row]
