"""Boundaries: where a cut may begin and end."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array, UInt8Array

_CHAR, _WORD, _LINE, _SENTENCE = 0, 1, 2, 3
#: What may end a sentence: with white space after it, and without.
_ENDS = np.array(sorted(map(ord, ".!?…؟۔।॥።။։")), np.int64)
_WIDE_ENDS = np.array(sorted(map(ord, "。！？｡")), np.int64)
_CLOSERS = np.array(sorted(map(ord, "\"')]}»’”›」』】）〕》")), np.int64)
#: How many white-space characters, and then how many closing quotes and brackets, may follow the end of a sentence.
_MOST_AFTER = 4


@njit(cache=True, nogil=True)
def shrink_cuts(
    data: UInt8Array, offsets: Int64Array, document: Int64Array, start: Int64Array, end: Int64Array, boundary: Int
) -> tuple[Int64Array, Int64Array]:
    """New starts and ends of cuts, after each group of cuts that touch has moved inwards to a boundary.

    Parameters: `data`, `offsets` of a text batch; `document`, `start`, `end`: int64 (cuts,), sorted, disjoint, bytes
    in their documents; `boundary`: 0 char, 1 word, 2 line, 3 sentence. A cut with nothing left has start equal to end.
    """
    new_start = np.empty_like(start)
    new_end = np.empty_like(end)
    first = 0
    while first < len(start):
        after = first + 1
        while after < len(start) and document[after] == document[first] and start[after] == end[after - 1]:
            after += 1
        low, high = offsets[document[first]], offsets[document[first] + 1]
        group_start, group_end = low + start[first], low + end[after - 1]
        while group_start < group_end and not _is_boundary(data, low, high, group_start, boundary):
            group_start += 1
        while group_end > group_start and not _is_boundary(data, low, high, group_end, boundary):
            group_end -= 1
        for member in range(first, after):
            new_start[member] = min(max(start[member], group_start - low), group_end - low)
            new_end[member] = max(min(end[member], group_end - low), new_start[member])
        first = after
    return new_start, new_end


@njit(cache=True, nogil=True)
def _is_boundary(data: UInt8Array, low: Int, high: Int, position: Int, boundary: Int) -> bool:
    """Whether a document (bytes low to high) may be cut at a position."""
    if position in (low, high):
        return True
    if data[position] & 0xC0 == 0x80:
        return False
    if boundary == _LINE:
        return bool(data[position - 1] == ord("\n"))
    if boundary == _SENTENCE:
        return bool(data[position - 1] == ord("\n")) or _opens_sentence(data, low, high, position)
    if boundary == _WORD:
        return _is_space(data, _before(data, low, position), high) or _is_space(data, position, high)
    return True


@njit(cache=True, nogil=True)
def _opens_sentence(data: UInt8Array, low: Int, high: Int, position: Int) -> bool:
    """Whether the end of a sentence, and what may follow it, lies right before a character that is none of these."""
    here = _code_point(data, position)
    if _is_space(data, position, high) or _among(here, _CLOSERS) or _among(here, _WIDE_ENDS):
        return False
    spaces = 0
    while position > low and spaces < _MOST_AFTER:
        before = _before(data, low, position)
        if not _is_space(data, before, high):
            break
        position, spaces = before, spaces + 1
    for _ in range(_MOST_AFTER + 1):
        if position == low:
            return False
        position = _before(data, low, position)
        end = _code_point(data, position)
        if not _among(end, _CLOSERS):
            return _among(end, _WIDE_ENDS) or (spaces > 0 and _among(end, _ENDS))
    return False


@njit(cache=True, nogil=True)
def _before(data: UInt8Array, low: Int, position: Int) -> Int:
    """Where the character before a position starts."""
    position -= 1
    while position > low and data[position] & 0xC0 == 0x80:
        position -= 1
    return position


@njit(cache=True, nogil=True)
def _code_point(data: UInt8Array, position: Int) -> Int:
    """The code point of the UTF-8 character that starts here."""
    first: Int = np.int64(data[position])
    if first < 0x80:
        return first
    more = 1 if first < 0xE0 else 2 if first < 0xF0 else 3
    point: Int = first & (0x3F >> more)
    for at in range(position + 1, position + 1 + more):
        point = (point << 6) | np.int64(data[at] & 0x3F)
    return point


@njit(cache=True, nogil=True)
def _among(point: Int, points: Int64Array) -> bool:
    for other in points:  # noqa: SIM110 - numba takes no generator
        if other == point:
            return True
    return False


@njit(cache=True, nogil=True)
def _is_space(data: UInt8Array, position: Int, high: Int) -> bool:
    """Whether the UTF-8 character that starts here is white space to `str.split`."""
    first = data[position]
    second = data[position + 1] if position + 1 < high else np.uint8(0)
    third = data[position + 2] if position + 2 < high else np.uint8(0)
    space = first == 0x20 or 0x09 <= first <= 0x0D or 0x1C <= first <= 0x1F
    if first == 0xC2:
        space = second == 0x85 or second == 0xA0
    elif first == 0xE1:
        space = second == 0x9A and third == 0x80
    elif first == 0xE2 and second == 0x80:
        space = 0x80 <= third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF
    elif first == 0xE2:
        space = second == 0x81 and third == 0x9F
    elif first == 0xE3:
        space = second == 0x80 and third == 0x80
    return bool(space)
