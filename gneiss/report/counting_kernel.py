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
        its = code[row]
        for digit in range(len(digits)):
            its = its * base + digits[digit, row]
        result[row] = its
    return result


@njit(cache=True, nogil=True)
def numbered(code: Int64Array, size: int) -> tuple[Int64Array, Int64Array]:
    """Codes below `size` as consecutive numbers, in order of appearance, and the first row of each."""
    numbers, first, found = np.full(size, -1, np.int64), np.empty(size, np.int64), 0
    kind = np.empty(len(code), np.int64)
    for row, its in enumerate(code):
        if numbers[its] < 0:
            numbers[its] = found
            first[found] = row
            found += 1
        kind[row] = numbers[its]
    return kind, first[:found].copy()


@njit(cache=True, nogil=True)
def add_amounts(counts: Int64Array, kind: Int64Array, text_bytes: Int64Array, tokens: Int64Array) -> None:
    """Add documents, their bytes and tokens to `counts`, (kinds, 3), by their kind."""
    for row, its in enumerate(kind):
        counts[its, 0] += 1
        counts[its, 1] += text_bytes[row]
        counts[its, 2] += tokens[row]
