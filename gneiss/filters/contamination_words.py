"""Words for the comparison with evaluation sets: by UAX 29, in the form that equal words of any spelling share.

Words end where Unicode's text segmentation (UAX 29) ends them, with the colon as in CLDR: at white space, dashes,
slashes and symbols, but not at an apostrophe or a full stop between letters, nor at a comma between digits. A letter of
a script without spaces between words is a unit by itself, with its marks. Compared is the compatibility decomposition
(NFKD) of the folded case, so NFC, NFD, ligatures and full-width forms are one; marks stay. Tables are of Unicode 14.0.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit, uint64

from gneiss.arrays import Int, Int32Array, Int64Array, UInt8Array, UInt32Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.characters import MARK_RANGES, NUMBER_RANGES, WORD_RANGES
from gneiss.filters.scripts import WITHOUT_SPACES_RANGES
from gneiss.filters.segmentation_characters import code_points

#: What a character does. Marks and ignored characters belong to what is before them; the middles join what is on both
#: their sides: letters, digits or both; a joiner joins anything.
_BREAK, _IGNORED, _LETTER, _DIGIT, _MARK, _UNIT, _MIDDLE, _MIDDLE_OF_LETTERS, _MIDDLE_OF_DIGITS, _JOINER = range(10)
#: Of UAX 29: Format but for white space, and the marks that only choose a glyph; MidNumLet and Single_Quote; MidLetter;
#: MidNum; ExtendNumLet (hexadecimal, inclusive).
_KINDS = {
    _IGNORED: "AD 34F 61C 180B-180F 200C-200F 202A-202E 2060-2064 2066-206F FE00-FE0F FEFF FFF9-FFFB E0001-E01EF",
    _MIDDLE: "27 2E 2018-2019 2024 FE52 FF07 FF0E",
    _MIDDLE_OF_LETTERS: "B7 387 55F 5F4 2027",
    _MIDDLE_OF_DIGITS: "2C 3B 37E 589 60C-60D 66C 7F8 2044 FE10 FE14 FE50 FE54 FF0C FF1B",
    _JOINER: "5F 203F-2040 2054 FE33-FE34 FE4D-FE4F FF3F",
}
#: Letters of scripts without spaces that Unicode calls common or numbers: closing marks, length marks, the Han zero.
_UNIT_RANGES = f"{WITHOUT_SPACES_RANGES} 3006-3007 30FC FF70"
#: How much of a word a unit is: two characters of Han, kana and Yi are about a word, four of Thai or Khmer.
WORD_WEIGHT, EAST_ASIAN_WEIGHT, OTHER_WEIGHT = 4, 2, 1


class Folding(NamedTuple):
    """For each code point its kind, uint8 (0x110000,), its weight as a unit, uint8 (0x110000,), and what is compared:
    `codes[firsts[point]:firsts[point + 1]]`, uint32; firsts: int32 (0x110001,). A code with the highest bit is a mark
    whose place among other marks means nothing.
    """

    kinds: UInt8Array
    weights: UInt8Array
    firsts: Int32Array
    codes: UInt32Array


class FoldedWords(NamedTuple):
    """The words of a batch as sums of hashes: words a to b have the hash `sums[b] - sums[a] * BASE ** (b - a)`.

    sums: uint64 (words + 1,); weights: int64 (words + 1,), of all words before, where a whole word weighs WORD_WEIGHT;
    documents: int64 (documents + 1,), document i has the words documents[i] to documents[i + 1].
    """

    sums: UInt64Array
    weights: Int64Array
    documents: Int64Array


#: Of no meaning, odd.
BASE = 0xD1B5_4A32_D192_ED03
_START, _STEP, _MARKED = 0xCBF29CE484222325, 0x100000001B3, 1 << 31


def folded_words(batch: TextBatch) -> FoldedWords:
    r"""The words of a batch, and the units of scripts without spaces.

    >>> folded_words(TextBatch.of(["It's – “over”, 1,000 times.\n再见", ""])).documents.tolist()
    [0, 6, 6]
    """
    most = batch.size_bytes // 2 + len(batch)  # a word has two bytes, but for the last of a document
    sums, weights = np.empty(most + 1, np.uint64), np.empty(most + 1, np.int64)
    documents = np.zeros(len(batch) + 1, np.int64)
    _fold(batch.data, batch.offsets, folding(), sums, weights, documents)
    return FoldedWords(sums[: documents[-1] + 1], weights[: documents[-1] + 1], documents)


@cache
def folding() -> Folding:
    """The tables, made from Python's `unicodedata`, for characters of Unicode 14.0 only."""
    kinds, weights = np.zeros(0x110000, np.uint8), np.full(0x110000, WORD_WEIGHT, np.uint8)
    for ranges, kind in ((WORD_RANGES, _LETTER), (NUMBER_RANGES, _DIGIT), (MARK_RANGES, _MARK), (_UNIT_RANGES, _UNIT)):
        for part in code_points(ranges):
            kinds[part] = kind
    kinds[0xFF9E:0xFFA0] = _MARK  # the half-width voiced sound marks
    for kind, ranges in _KINDS.items():
        for part in code_points(ranges):
            kinds[part] = kind
    is_unit = kinds == _UNIT
    weights[is_unit] = OTHER_WEIGHT
    for part in (slice(0x2E80, 0xA4D0), slice(0xF900, 0x110000)):
        weights[part] = np.where(is_unit[part], EAST_ASIAN_WEIGHT, weights[part])
    sizes, codes = np.zeros(0x110000, np.int32), []
    for point in np.flatnonzero((kinds >= _LETTER) & (kinds <= _UNIT)).tolist():
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(point)).casefold())
        kept = [c for c in folded if _LETTER <= kinds[ord(c)] <= _UNIT]
        compared = [ord(c) | _MARKED * bool(unicodedata.combining(c)) for c in kept]
        sizes[point] = len(compared)
        codes += compared
    firsts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return Folding(kinds, weights, firsts, np.array(codes, np.uint32))


@njit(cache=True, nogil=True)
def mixed(value: Int) -> Int:
    """Every bit of the outcome depends on every bit of the value (the finalizer of splitmix64)."""
    value = (value ^ (value >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> uint64(27))) * uint64(0x94D049BB133111EB)
    return value ^ (value >> uint64(31))


@njit(cache=True, nogil=True)
def _fold(
    data: UInt8Array,
    offsets: Int64Array,
    folding: Folding,
    sums: UInt64Array,
    weights: Int64Array,
    documents: Int64Array,
) -> None:
    kinds, unit_weights, firsts, codes = folding
    word, total, weight = 0, uint64(0), 0
    sums[0], weights[0] = total, 0
    for document in range(len(offsets) - 1):
        position, end = offsets[document], offsets[document + 1]
        value, marks = uint64(_START), uint64(0)
        # The kind of the open word's last character, _BREAK where none is open; and of a middle after it.
        last: Int = _BREAK
        middle: Int = _BREAK
        open_weight: Int = WORD_WEIGHT
        while True:
            kind: Int = _BREAK
            point: Int = 0
            width: Int = 1
            if position < end:
                byte = data[position]
                if byte < 0x80:
                    kind, point = kinds[byte], byte
                    if _LETTER <= kind <= _DIGIT and last == _BREAK:  # so are most words: of ASCII only
                        while _LETTER <= kind <= _DIGIT:
                            value, last = (value ^ uint64(byte | 0x20)) * uint64(_STEP), kind
                            position += 1
                            byte = data[position] if position < end else 0x20
                            kind = kinds[byte] if byte < 0x80 else _JOINER
                        open_weight = WORD_WEIGHT
                        if kind == _BREAK:
                            total = total * uint64(BASE) + mixed(value)
                            word, weight = word + 1, weight + WORD_WEIGHT
                            sums[word], weights[word] = total, weight
                            value, last = uint64(_START), _BREAK
                            position += position < end
                        continue
                else:
                    point, width = _code_point(data, position, end)
                    kind = kinds[point]
                if kind == _IGNORED or (last == _BREAK and kind in (_MARK, _BREAK)):
                    position += width
                    continue
                if kind >= _MIDDLE:
                    position += width
                    if last != _BREAK and middle == _BREAK and last != _UNIT:
                        middle = kind
                        continue
                    if kind == _JOINER and middle == _JOINER:
                        continue
                    kind = _BREAK
                elif kind != _BREAK or position < end:
                    position += width
            if last != _BREAK and kind != _MARK:
                if not _joined(last, middle, kind):
                    if marks:
                        value = (value ^ mixed(marks)) * uint64(_STEP)
                    total = total * uint64(BASE) + mixed(value)
                    word, weight = word + 1, weight + open_weight
                    sums[word], weights[word] = total, weight
                    value, marks, last = uint64(_START), uint64(0), _BREAK
                middle = _BREAK
            if kind == _BREAK:
                if position >= end:
                    break
                continue
            if kind != _MARK:
                if last == _BREAK:
                    open_weight = unit_weights[point]
                last = kind
            elif middle != _BREAK:  # a mark on a middle belongs to it
                continue
            for i in range(firsts[point], firsts[point + 1]):
                code = codes[i]
                if code >= _MARKED:
                    marks += mixed(uint64(code))
                    continue
                if marks:
                    value, marks = (value ^ mixed(marks)) * uint64(_STEP), uint64(0)
                value = (value ^ uint64(code)) * uint64(_STEP)
        documents[document + 1] = word


@njit(cache=True, nogil=True)
def _joined(last: Int, middle: Int, kind: Int) -> bool:
    """Whether no word ends between characters of two kinds, with a middle or without one (_BREAK)."""
    if not (_LETTER <= last <= _DIGIT and _LETTER <= kind <= _DIGIT):
        return False
    if middle in (_BREAK, _JOINER):
        return True
    of_kind = _MIDDLE_OF_LETTERS if kind == _LETTER else _MIDDLE_OF_DIGITS
    return bool(kind == last and middle in (_MIDDLE, of_kind))


@njit(cache=True, nogil=True)
def _code_point(data: UInt8Array, position: Int, end: Int) -> tuple[Int, Int]:
    """A code point beyond ASCII, and its bytes; safe in what is not UTF-8."""
    first = data[position]
    tail = 3 if first >= 0xF0 else 2 if first >= 0xE0 else 1
    tail = min(tail, end - position - 1)
    point = np.int64(first) & (0x3F >> tail)
    for i in range(tail):
        point = point << 6 | np.int64(data[position + 1 + i]) & 0x3F
    return point if point < 0x110000 else 0, 1 + tail
