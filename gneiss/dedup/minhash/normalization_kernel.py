"""Normalization as a kernel: characters by table, plain ones eight bytes at a time."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types, uint64
from numba.extending import intrinsic

from gneiss.arrays import BoolArray, Int, Int64Array, UInt8Array, read_only
from gneiss.batch import SPACE_RANGES
from gneiss.dedup.words import load_word

#: What `words` removes: control characters, ASCII and Latin-1 punctuation and signs, and the blocks of punctuation,
#: invisible and full-width characters that extraction and typography put in the place of ASCII's.
REMOVED_RANGES = """
0-8 E-1B 21-2F 3A-40 5B-60 7B-84 86-9F A1-A9 AB-B1 B4 B6-B8 BB BF 200B-2027 202A-202E 2030-205E 2060-206F 3001-3003
3008-3011 3014-301F 3030 FE30-FE6F FEFF FF01-FF0F FF1A-FF20 FF3B-FF40 FF5B-FF65 FFFD
"""
_COPIED, _SPACE, _REMOVED, _DIGIT, _NOT_PLAIN = 0, 1, 2, 3, 4
_BLANK, _ZERO = ord(" "), ord("0")
_ONES, _HIGH_BITS = 0x0101010101010101, 0x8080808080808080
#: Which bytes are plain, written as they are but for some bits set: those bits, and what carries each byte from the
#: first plain one on into its high bit, and each byte beyond the last; eight times each.
Plain: TypeAlias = tuple[np.uint64, np.uint64, np.uint64]
_intrinsic: Any = intrinsic  # its published type keeps the typing context among the arguments


@cache
def tables(*, words: bool) -> tuple[UInt8Array, UInt8Array, Plain]:
    """What happens to characters below U+10000, the byte written for an ASCII one, and which bytes are plain."""
    kinds, lower = np.full(0x10000, _COPIED, np.uint8), np.arange(128, dtype=np.uint8)
    if words:
        _fill(kinds, REMOVED_RANGES, _REMOVED)
        _fill(kinds, "30-39", _DIGIT)
        lower[ord("A") : ord("Z") + 1] += ord("a") - ord("A")
        lower[ord("0") : ord("9") + 1] = _ZERO
    _fill(kinds, SPACE_RANGES, _SPACE)
    lower[kinds[:128] == _SPACE] = _BLANK
    fold, first, last = (0x20, "a", "z") if words else (0, " ", "\x7f")
    plain = (np.uint64(fold * _ONES), np.uint64((0x80 - ord(first)) * _ONES), np.uint64((0x7F - ord(last)) * _ONES))
    return read_only(kinds), read_only(lower), plain


def _fill(kinds: UInt8Array, ranges: str, kind: int) -> None:
    for item in ranges.split():
        first, _, last = item.partition("-")
        kinds[int(first, 16) : int(last or first, 16) + 1] = kind


@_intrinsic  # type: ignore[untyped-decorator]
def _store_word(typingctx: Any, octets: Any, position: Any, word: Any) -> Any:
    """Write a uint64 as eight bytes of a contiguous uint8 array from a position on, unaligned and unchecked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(octets, types.int64, types.uint64), generate


@njit(cache=True, nogil=True)
def normalize_texts(
    data: UInt8Array,
    offsets: Int64Array,
    present: BoolArray,
    kinds: UInt8Array,
    lower: UInt8Array,
    plain: Plain,
    out: UInt8Array,
    out_offsets: Int64Array,
) -> None:
    written: Int = 0
    for document in range(len(present)):
        position: Int = offsets[document]
        end = offsets[document + 1]
        if not present[document]:
            position = end
        begin = written
        last: Int = _SPACE  # the kind of the last character written: a run of blanks or digits is written once
        slow_until = position
        while position < end:
            if position >= slow_until:
                if position + 8 <= end:
                    word, last_after = _plain_word(load_word(data, position), last, plain)
                    if last_after != _NOT_PLAIN:
                        _store_word(out, written, word)
                        written += 8
                        position += 8
                        last = last_after
                        continue
                slow_until = position + 8
            first = data[position]
            if first < 0x80:
                kind: Int = np.int64(kinds[first])
                out[written] = lower[first]
                written += (kind != _REMOVED) & ((kind == _COPIED) | (kind != last))
                last = last if kind == _REMOVED else kind
                position += 1
                continue
            width = min(4 if first >= 0xF0 else 3 if first >= 0xE0 else 2, end - position)
            code_point = np.int64(first) & (0x7F >> width)
            for i in range(1, width):
                code_point = code_point << 6 | np.int64(data[position + i]) & 0x3F
            kind = np.int64(kinds[code_point]) if code_point < 0x10000 else _COPIED
            if kind == _COPIED:
                for i in range(width):
                    out[written + i] = data[position + i]
                written += width
                last = kind
            elif kind == _SPACE:
                out[written] = _BLANK
                written += last != _SPACE
                last = kind
            position += width
        if written > begin and last == _SPACE:
            written -= 1
        out_offsets[document + 1] = written


@njit(cache=True, nogil=True)
def _plain_word(word: np.uint64, last: Int, plain: Plain) -> tuple[np.uint64, Int]:
    """Eight bytes as they are written and the kind of the last, if all are ASCII, plain or single blanks."""
    fold, low, high = plain
    high_bits, blank = uint64(_HIGH_BITS), uint64(_BLANK * _ONES)
    differ = word ^ blank
    blanks = ~(((differ & ~high_bits) + ~high_bits) | differ) & high_bits  # the high bit of each byte that is a blank
    seven_bits = (word | fold) & ~high_bits
    inside = (seven_bits + low) & ~(seven_bits + high) & ~word & high_bits
    before = blanks << uint64(8) | (uint64(0x80) if last == _SPACE else uint64(0))
    if (inside | blanks) != high_bits or blanks & before:
        return word, _NOT_PLAIN
    return word | fold, _SPACE if blanks >> uint64(63) else _COPIED
