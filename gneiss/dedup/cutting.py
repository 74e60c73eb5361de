"""Cutting: texts without some of their bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from gneiss.dedup.units import Int, IntArray

Bytes = npt.NDArray[np.uint8]


@njit(cache=True, nogil=True)
def copy_without(
    data: Bytes, offsets: IntArray, document: IntArray, start: IntArray, end: IntArray
) -> tuple[IntArray, Bytes]:
    """Offsets from 0 and bytes of the documents of a batch without the pieces (sorted, disjoint, inside them)."""
    removed = np.int64(0)
    for piece in range(len(start)):
        removed += end[piece] - start[piece]
    out = np.empty(offsets[-1] - offsets[0] - removed, np.uint8)
    out_offsets = np.zeros(len(offsets), np.int64)
    written = 0
    piece = 0
    for row in range(len(offsets) - 1):
        position = offsets[row]
        while piece < len(start) and document[piece] == row:
            stop = offsets[row] + start[piece]
            written = _copy(data, position, stop, out, written)
            position = offsets[row] + end[piece]
            piece += 1
        stop = offsets[row + 1]
        written = _copy(data, position, stop, out, written)
        out_offsets[row + 1] = written
    return out_offsets, out


@njit(cache=True, nogil=True)
def _copy(data: Bytes, start: Int, stop: Int, out: Bytes, written: Int) -> Int:
    for i in range(stop - start):
        out[written + i] = data[start + i]
    return written + stop - start
