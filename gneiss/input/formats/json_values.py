"""Strings and numbers of JSON, from a place on in bytes that end in a newline: where they end, and what is wrong."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.input.formats.json_bytes import STRIDE, copy_to_escape, ends_or_escapes
from gneiss.input.formats.json_tree import FLOAT, HUGE, INT, NEGATIVE, UNSIGNED, WIDE

#: Bytes that must be readable after those that are read.
PADDING = 64
#: What is wrong with a line, by number, in words that hold nothing of the line.
FINE, NO_OBJECT, SYNTAX, CONTROL, ESCAPE, SURROGATE, TWICE, DEEP, MORE, CUT, LONG_KEY, NOT_UTF8, LONG, NO_STRING = (
    range(14)
)
WRONG = (
    "",
    "expected a JSON object",
    "not JSON",
    "not JSON: a control character in a string",
    "not JSON: an escape that JSON does not have",
    "half a surrogate pair, which is no character",
    "a key occurs twice in an object",
    "nested more than 100 levels deep",
    "more than one value on a line",
    "not JSON: the line ends too early",
    "a key of more than 1,000 bytes",
    "invalid UTF-8",
    "longer than 128 MiB",
    "its text is not a string",
)


@njit(cache=True, nogil=True)
def string_end(data, at):  # type: ignore[no-untyped-def]
    """From behind the opening quote to the closing one: where that is, whether there are escapes, what is wrong."""
    is_escaped = False
    while True:
        skipped = ends_or_escapes(data, at)
        at += skipped
        if skipped == STRIDE:
            continue
        if data[at] == 34:
            return at, is_escaped, FINE
        if data[at] != 92:
            return at, is_escaped, CUT if data[at] == 10 else CONTROL
        is_escaped = True
        byte = data[at + 1]
        if byte == 117:
            unit = _unit(data, at + 2)
            if unit < 0:
                return at, is_escaped, ESCAPE
            if 0xD800 <= unit < 0xE000:
                low = -1
                if unit < 0xDC00 and data[at + 6] == 92 and data[at + 7] == 117:
                    low = _unit(data, at + 8)
                if low < 0xDC00 or low >= 0xE000:
                    return at, is_escaped, SURROGATE
                at += 6
            at += 6
        elif (
            byte == 34
            or byte == 92
            or byte == 47
            or byte == 98
            or byte == 102
            or byte == 110
            or byte == 114
            or byte == 116
        ):
            at += 2
        else:
            return at, is_escaped, CUT if byte == 10 else ESCAPE


@njit(cache=True, nogil=True)
def unescape(data, at, end, out, to):  # type: ignore[no-untyped-def]
    """Copy a checked string and put characters in the place of escapes; where it ends in `out`.

    Both can be read and written PADDING bytes further.
    """
    while at < end:
        copied = copy_to_escape(data, at, out, to)
        if copied >= end - at:
            return to + end - at
        at, to = at + copied, to + copied
        if copied == STRIDE:
            continue
        byte = data[at + 1]
        if byte == 117:
            point = _unit(data, at + 2)
            at += 6
            if 0xD800 <= point < 0xDC00:
                point = 0x10000 + (point - 0xD800) * 1024 + _unit(data, at + 2) - 0xDC00
                at += 6
            if point < 0x80:
                out[to] = point
                to += 1
            elif point < 0x800:
                out[to], out[to + 1] = 0xC0 | point >> 6, 0x80 | point & 63
                to += 2
            elif point < 0x10000:
                out[to], out[to + 1], out[to + 2] = 0xE0 | point >> 12, 0x80 | point >> 6 & 63, 0x80 | point & 63
                to += 3
            else:
                out[to], out[to + 1] = 0xF0 | point >> 18, 0x80 | point >> 12 & 63
                out[to + 2], out[to + 3] = 0x80 | point >> 6 & 63, 0x80 | point & 63
                to += 4
            continue
        if byte == 98:
            byte = 8
        elif byte == 102:
            byte = 12
        elif byte == 110:
            byte = 10
        elif byte == 114:
            byte = 13
        elif byte == 116:
            byte = 9
        out[to] = byte
        at, to = at + 2, to + 1
    return to


@njit(cache=True, nogil=True)
def number_end(data, at):  # type: ignore[no-untyped-def]
    """A number, or a word that Python writes for one: its end and kinds; no kinds where there is none."""
    is_negative = data[at] == 45
    if is_negative:
        at += 1
    if data[at] == 73:
        for byte in (73, 110, 102, 105, 110, 105, 116, 121):
            if data[at] != byte:
                return at, 0
            at += 1
        return at, FLOAT
    if data[at] == 78 and not is_negative:
        if data[at + 1] == 97 and data[at + 2] == 78:
            return at + 3, FLOAT
        return at, 0
    digits, value, is_over, is_float, power = 0, np.uint64(0), False, False, 0
    if data[at] == 48:
        at += 1
    elif 49 <= data[at] <= 57:
        while 48 <= data[at] <= 57:
            digit = np.uint64(data[at] - 48)
            if value > np.uint64(1844674407370955161) or (
                value == np.uint64(1844674407370955161) and digit > np.uint64(5)
            ):
                is_over = True
            value = value * np.uint64(10) + digit
            at, digits = at + 1, digits + 1
    else:
        return at, 0
    if data[at] == 46:
        at, is_float = at + 1, True
        if not 48 <= data[at] <= 57:
            return at, 0
        while 48 <= data[at] <= 57:
            at += 1
    if data[at] == 101 or data[at] == 69:
        at, is_float = at + 1, True
        is_small = data[at] == 45
        if is_small or data[at] == 43:
            at += 1
        if not 48 <= data[at] <= 57:
            return at, 0
        while 48 <= data[at] <= 57:
            power = min(power * 10 + data[at] - 48, 1_000_000_000)
            at += 1
        if is_small:
            power = -power
    if is_float:
        return at, HUGE if digits + power > 308 else FLOAT
    if is_over or (is_negative and value > np.uint64(1 << 63)):
        return at, HUGE
    kind = INT
    if value > np.uint64(1 << 53):
        kind = WIDE if value < np.uint64(1 << 63) or is_negative else UNSIGNED
    return at, kind | NEGATIVE if is_negative else kind


@njit(cache=True, nogil=True)
def _unit(data, at):  # type: ignore[no-untyped-def]
    """Four hexadecimal digits; -1 where there are none."""
    unit = 0
    for digit in data[at : at + 4]:
        if 48 <= digit <= 57:
            unit = unit * 16 + digit - 48
        elif 65 <= digit <= 70 or 97 <= digit <= 102:
            unit = unit * 16 + (digit & 15) + 9
        else:
            return -1
    return unit
