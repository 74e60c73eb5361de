"""Where e-mail addresses stand in a text batch."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.address_rows import (
    ALNUM,
    AT,
    BITS,
    BRACKET,
    DIGIT,
    DOT,
    EMAIL,
    EUROPEAN,
    HYPHEN,
    LETTER,
    LOCAL,
    OTHER,
    PARENTHESIS,
    UNDERSCORE,
    Rows,
    hash_lower,
    hashes,
    is_among,
    room,
)
from gneiss.filters.characters import MARK_RANGES, NUMBER_RANGES, WORD_RANGES
from gneiss.filters.segmentation import class_at
from gneiss.filters.segmentation_characters import code_points
from gneiss.filters.top_level_domains import TOP_LEVEL_DOMAINS

#: Names at which nobody has an address: reserved (RFC 2606, 6761, 6762), and systemd's targets (getty@tty1.target).
NO_DOMAINS = (
    "example.com", "example.net", "example.org", "example", "invalid", "local", "localdomain", "localhost", "test",
    "target",
)  # fmt: skip
#: Top-level domains that are also names of methods: before a parenthesis they are taken for these.
METHODS = ("bit", "call", "cat", "dot", "fit", "int", "is", "map", "now", "run", "save", "show", "to", "zip")
#: Letters beyond ASCII are of Latin, Greek and Cyrillic, which mix with ASCII in a name, or of other scripts, which do
#: not: where an address in ASCII stands in Chinese, the text around it is no part of it.
_LETTERS = LETTER | EUROPEAN | OTHER
_NAME = LOCAL | EUROPEAN | OTHER
#: Latin, Greek and Cyrillic beyond ASCII, with their combining marks (hexadecimal, inclusive).
_EUROPEAN_RANGES = (
    "AA B5 BA C0-D6 D8-F6 F8-24F 250-2AF 300-36F 370-52F 1C80-1C8F 1D00-1FFF 2C60-2C7F A640-A69F A720-A7FF"
)


def find_emails(batch: TextBatch) -> Rows:
    """All e-mail addresses, in order."""
    at_signs = int(np.count_nonzero(batch.data[batch.offsets[0] : batch.offsets[-1]] == AT))
    rows = room(at_signs)
    return rows[: _find_emails(batch.data, batch.offsets, _characters(), _names(), rows) if at_signs else 0]


class Names(NamedTuple):
    """Hashes of names, each uint64 (names,), sorted."""

    no_domains: UInt64Array
    top_level: UInt64Array
    methods: UInt64Array


@cache
def _names() -> Names:
    reserved = (name for name in NO_DOMAINS if "." not in name)
    return Names(hashes(NO_DOMAINS), hashes([*TOP_LEVEL_DOMAINS.split(), *reserved]), hashes(METHODS))


@cache
def _characters() -> UInt8Array:
    """The bits of letters and marks beyond ASCII, uint8 (0x110000,)."""
    bits = np.zeros(0x110000, np.uint8)
    for ranges in (WORD_RANGES, MARK_RANGES):
        for part in code_points(ranges):
            bits[part] = OTHER
    for ranges in (NUMBER_RANGES, "0-7F"):
        for part in code_points(ranges):
            bits[part] = 0
    for part in code_points(_EUROPEAN_RANGES):
        bits[part] = np.where(bits[part], EUROPEAN, 0)
    return bits


@njit(cache=True, nogil=True)
def _kind_at(data: UInt8Array, position: Int, end: Int, characters: UInt8Array) -> tuple[Int, Int]:
    """Bits of the character at a position before `end`, and its bytes."""
    if data[position] < 0x80:
        return BITS[data[position]], 1
    return class_at(data, position, end, characters)


@njit(cache=True, nogil=True)
def _kind_before(data: UInt8Array, begin: Int, position: Int, characters: UInt8Array) -> tuple[Int, Int]:
    """Bits of the character that ends at a position, and its bytes."""
    start = position - 1
    while start > begin and position - start < 4 and data[start] & 0xC0 == 0x80:
        start -= 1
    kind, width = _kind_at(data, start, position, characters)
    return (kind if start + width == position else 0), position - start


@njit(cache=True, nogil=True)
def _mixes(kind: Int, others: Int) -> bool:
    """Whether a name may have a character besides those of the kinds that it has."""
    if kind & OTHER:
        return bool(others & (LETTER | EUROPEAN) == 0)
    return bool(kind & (LETTER | EUROPEAN) == 0 or others & OTHER == 0)


@njit(cache=True, nogil=True)
def _find_emails(data: UInt8Array, offsets: Int64Array, characters: UInt8Array, names: Names, rows: Rows) -> Int:
    count = 0
    for document in range(len(offsets) - 1):
        begin, end = offsets[document], offsets[document + 1]
        for position in range(begin, end):
            if data[position] != AT:
                continue
            start, first, kinds = position, position, 0  # of the address; of what may be a local part
            while first > begin:
                kind, width = _kind_before(data, begin, first, characters)
                if not kind & _NAME or not _mixes(kind, kinds):
                    break
                first, kinds = first - width, kinds | kind
                if kind & (_LETTERS | DIGIT):
                    start = first
            if start == position or data[position - 1] == DOT:
                continue
            stop = _domain_end(data, position + 1, end, characters, names.top_level)
            after = max(stop, position)
            while after < end:
                kind, width = _kind_at(data, after, end, characters)
                if not kind & _NAME:
                    break
                after += width
            if stop < 0 or (after < end and data[after] == AT) or _is_code(data, start, position, stop, end, names):
                continue
            row = rows[count]
            row["document"], row["start"], row["end"] = document, start - begin, stop - begin
            row["kind"], row["key"] = EMAIL, hash_lower(data, start, stop)
            row["personal"] = not (
                _is_git(data, start, position) or _is_no_domain(data, position + 1, stop, names.no_domains)
            )
            count += 1
    return count


@njit(cache=True, nogil=True)
def _domain_end(data: UInt8Array, position: Int, end: Int, characters: UInt8Array, top_level: UInt64Array) -> Int:
    """Where the longest domain name from a position on ends; -1 if there is none."""
    stop, labels = -1, 0
    while position < end:
        after, last, kinds = position, position, 0  # of the label: the end, that of its last letter or digit
        while after < end:
            kind, width = _kind_at(data, after, end, characters)
            if kind & (_LETTERS | DIGIT) and _mixes(kind, kinds):
                after, kinds = after + width, kinds | kind
                last = after
            elif data[after] == HYPHEN and after > position:
                after += 1
            else:
                break
        if last == position:
            break
        if labels:
            top = _top_level_end(data, position, last, end, characters, top_level)
            stop = top if top > 0 else stop
        if last < after or after >= end or data[after] != DOT:
            break
        position, labels = after + 1, labels + 1
    return stop


@njit(cache=True, nogil=True)
def _top_level_end(
    data: UInt8Array, start: Int, end: Int, document_end: Int, characters: UInt8Array, top_level: UInt64Array
) -> Int:
    """Where the top-level domain ends with which a label begins; -1 if there is none."""
    if end - start > 4 and _is_encoded(data, start):
        return end
    stop, letters, change = start, 0, -1
    if data[start] >= 0x80:
        while stop < end:
            kind, width = class_at(data, stop, end, characters)
            if data[stop] < 0x80 or not kind:
                break
            stop, letters = stop + width, letters + 1
        follows = _kind_at(data, stop, document_end, characters)[0] if stop < document_end else 0
        return stop if letters >= 2 and not follows & _LETTERS else -1
    while stop < end and BITS[data[stop]] & LETTER:
        if stop > start and change < 0 and data[stop] < 0x61 <= data[stop - 1]:
            change = stop  # from small letters to capitals
        stop += 1
    if stop - start >= 2 and change < 0 and is_among(hash_lower(data, start, stop), top_level):
        return stop
    if change - start >= 3 and is_among(hash_lower(data, start, change), top_level):
        return change  # where the next sentence follows without a space
    return -1


@njit(cache=True, nogil=True)
def _is_code(data: UInt8Array, start: Int, at: Int, stop: Int, end: Int, names: Names) -> bool:
    """Whether what looks like an address is code or a version: `X@W.to(d)`, `x@w.is_leaf`, `a@2x.zip`, `it@v2.dev`."""
    if stop + 1 < end and data[stop] == UNDERSCORE and BITS[data[stop + 1]] & ALNUM:
        return True
    last, dots, numeric = stop, 0, True
    for position in range(stop - 1, at, -1):
        if data[position] == DOT:
            dots += 1
            last = position + 1 if dots == 1 else last
        elif dots:
            numeric &= BITS[data[position]] & DIGIT != 0
    if numeric and dots > 1:
        return True
    label = at + 1  # is the first of v2 or 2x?
    digits = label + (data[label] | 0x20 == 0x76)
    after = digits
    while after < stop and BITS[data[after]] & DIGIT:
        after += 1
    if after > digits and (digits > label or data[after] | 0x20 == 0x78) and data[after + (digits == label)] == DOT:
        return True
    if stop < end and (data[stop] == PARENTHESIS or data[stop] == BRACKET):
        is_short = at - start <= 2 or (dots == 1 and last - 1 - label <= 2)
        return bool(is_short or is_among(hash_lower(data, last, stop), names.methods))
    return False


@njit(cache=True, nogil=True)
def _is_encoded(data: UInt8Array, position: Int) -> bool:
    """Whether a label begins with xn--."""
    return bool(
        data[position] | 0x20 == 0x78
        and data[position + 1] | 0x20 == 0x6E
        and data[position + 2] == HYPHEN
        and data[position + 3] == HYPHEN
    )


@njit(cache=True, nogil=True)
def _is_git(data: UInt8Array, start: Int, end: Int) -> bool:
    """Whether a local part is `git`, the account of an address to clone from."""
    return bool(
        end - start == 3
        and data[start] | 0x20 == 0x67
        and data[start + 1] | 0x20 == 0x69
        and data[start + 2] | 0x20 == 0x74
    )


@njit(cache=True, nogil=True)
def _is_no_domain(data: UInt8Array, start: Int, end: Int, no_domains: UInt64Array) -> bool:
    """Whether the last label of a domain, or its last two, are one of these names."""
    dots, position = 0, end
    while position > start and dots < 2:
        position -= 1
        if data[position] == DOT or position == start:
            dots += 1
            value = hash_lower(data, position + (data[position] == DOT), end)
            if is_among(value, no_domains):
                return True
    return False
