"""Words, lines and paragraphs of a text batch: computed once, shared by all heuristics.

There is one definition of a line. Lines are those of `str.splitlines`: they end at LF, CRLF or CR, and at the rarer
breaks of Unicode. A line of nothing but white space is blank, and counts as empty. So the heuristics measure the same
of a text whatever its line ends are.

Hashes are polynomials over the bytes modulo 2**64, so that of joined pieces follows from those of the pieces; equal
hashes are taken for equal text. They are for tables inside one process: mix them first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, uint64

from gneiss.arrays import AnyArray, Int, Int32Array, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.segmentation_characters import LETTER, LINE_BREAK, ORDINARY, SPACE, TERMINAL, segmentation_classes

#: Bits of `Words.kinds`: it contains a letter; a character that is no symbol; it is the first word of its text line.
HAS_LETTER, HAS_ORDINARY, FIRST_OF_LINE = LETTER, ORDINARY, 128
_KINDS = HAS_LETTER | HAS_ORDINARY | FIRST_OF_LINE
#: Bits of `Lines.kinds`: it has a character other than white space; its last character ends a sentence.
NOT_BLANK, ENDS_SENTENCE = 1, TERMINAL
#: The base of the polynomial, of no meaning, odd; and its inverse modulo 2**64.
HASH_BASE = 0x9E6D_62D0_6F6A_9A9B
HASH_BASE_INVERSE = pow(HASH_BASE, -1, 1 << 64)


class Words(NamedTuple):
    """The words of a batch: document i has the words `documents[i]` to `documents[i + 1]`.

    starts, ends: int64 (words,), positions in the batch's data; lengths: int32 (words,) code points; kinds: uint8
    (words,) bits; hashes: uint64 (words,); documents: int64 (documents + 1,), starting at 0; text_lines: int64
    (documents,), how many lines `str.splitlines` finds.
    """

    starts: Int64Array
    ends: Int64Array
    lengths: Int32Array
    kinds: UInt8Array
    hashes: UInt64Array
    documents: Int64Array
    text_lines: Int64Array


class Lines(NamedTuple):
    """The lines of a batch: document i has the lines `documents[i]` to `documents[i + 1]`, at least one.

    starts, ends: int64 (lines,), positions in the batch's data without the line's end, equal for a blank line;
    lengths: int64 (lines,) code points; kinds: uint8 (lines,) bits; hashes: uint64 (lines,); documents: int64
    (documents + 1,), starting at 0.
    """

    starts: Int64Array
    ends: Int64Array
    lengths: Int64Array
    kinds: UInt8Array
    hashes: UInt64Array
    documents: Int64Array

    def code_points(self) -> Int64Array:
        """Code points of each document, one for each end of a line and none in blank lines, int64 (documents,)."""
        total = np.concatenate([[0], np.cumsum(self.lengths + 1)])
        return np.asarray(np.diff(total[self.documents]) - 1)


class Paragraphs(NamedTuple):
    """The paragraphs of a batch: document i has the paragraphs `documents[i]` to `documents[i + 1]`, at least one.

    lengths: int64 (paragraphs,) code points; hashes: uint64 (paragraphs,); documents: int64 (documents + 1,).
    """

    lengths: Int64Array
    hashes: UInt64Array
    documents: Int64Array


def whitespace_words(batch: TextBatch) -> Words:
    r"""The maximal runs of characters that are not white space: what `str.split()` gives.

    >>> words = TextBatch.of(["Two words,\nand 3 more"]).view(whitespace_words)
    >>> words.starts.tolist(), words.lengths.tolist(), words.text_lines.tolist()
    ([0, 4, 11, 15, 17], [3, 6, 3, 1, 4], [2])
    """
    size = _most_words(batch.data, batch.offsets)
    room = Words(
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int32),
        np.empty(size, np.uint8),
        np.empty(size, np.uint64),
        np.zeros(len(batch) + 1, np.int64),
        np.zeros(len(batch), np.int64),
    )
    _find_words(batch.data, batch.offsets, segmentation_classes(), room)
    found = room.documents[-1]
    return Words(
        room.starts[:found],
        room.ends[:found],
        room.lengths[:found],
        room.kinds[:found],
        room.hashes[:found],
        room.documents,
        room.text_lines,
    )


def lines(batch: TextBatch) -> Lines:
    r"""What `str.splitlines` gives, blank lines too, as empty ones; and the empty line after a last line's end.

    >>> found = TextBatch.of(["One.\r\n \r\n two\n"]).view(lines)
    >>> found.lengths.tolist(), found.kinds.tolist()
    ([4, 0, 4, 0], [9, 0, 1, 0])
    """
    size = _most_line_ends(batch.data[batch.offsets[0] : batch.offsets[-1]]) + len(batch)
    room = Lines(
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.uint8),
        np.empty(size, np.uint64),
        np.zeros(len(batch) + 1, np.int64),
    )
    _find_lines(batch.data, batch.offsets, segmentation_classes(), room)
    found = room.documents[-1]
    return Lines(
        room.starts[:found],
        room.ends[:found],
        room.lengths[:found],
        room.kinds[:found],
        room.hashes[:found],
        room.documents,
    )


def paragraphs(batch: TextBatch) -> Paragraphs:
    r"""What splitting the stripped text at every run of blank lines gives; an empty text is one paragraph.

    >>> TextBatch.of(["\nOne\ntwo\n\n\nthree "]).view(paragraphs).lengths.tolist()
    [7, 5]
    """
    of_lines, words = batch.view(lines), batch.view(whitespace_words)
    size = len(of_lines.starts)
    room = Paragraphs(np.empty(size, np.int64), np.empty(size, np.uint64), np.zeros(len(batch) + 1, np.int64))
    _find_paragraphs(batch.data, words, of_lines, room)
    found = room.documents[-1]
    return Paragraphs(room.lengths[:found], room.hashes[:found], room.documents)


@njit(cache=True, nogil=True)
def class_at(data: UInt8Array, position: Int, end: Int, classes: AnyArray) -> tuple[Int, Int]:
    """Class bits of the character at a position before `end`, and its bytes; safe in what is not UTF-8."""
    first = data[position]
    if first < 0x80:
        return classes[first], 1
    tail = 3 if first >= 0xF0 else 2 if first >= 0xE0 else 1
    tail = min(tail, end - position - 1)
    code_point = np.int64(first) & (0x3F >> tail)
    for i in range(tail):
        code_point = code_point << 6 | np.int64(data[position + 1 + i]) & 0x3F
    return classes[code_point if code_point < 0x110000 else 0], 1 + tail


@njit(cache=True, nogil=True)
def hash_bytes(data: UInt8Array, start: Int, end: Int) -> np.uint64:
    """The hash of data[start:end]."""
    value = uint64(0)
    for position in range(start, end):
        value = value * uint64(HASH_BASE) + uint64(data[position]) + uint64(1)
    return value


@njit(cache=True, nogil=True)
def hash_power(exponent: Int) -> np.uint64:
    """HASH_BASE to a power: the hash of "ab" is hash(a) * hash_power(bytes of b) + hash(b)."""
    value, square = uint64(1), uint64(HASH_BASE)
    while exponent > 0:
        if exponent & 1:
            value *= square
        square *= square
        exponent >>= 1
    return value


@njit(cache=True, nogil=True)
def count_code_points(data: UInt8Array, start: Int, end: Int) -> Int:
    """Code points in data[start:end]."""
    count = 0
    for position in range(start, end):
        count += (data[position] & 0xC0) != 0x80
    return count


@njit(cache=True, nogil=True)
def _most_words(data: UInt8Array, offsets: Int64Array) -> Int:
    """A bound of the number of words: one more per document than there are bytes that may begin white space."""
    count = 0
    for position in range(offsets[0], offsets[-1]):
        byte = data[position]
        count += (byte <= 0x20) | (byte == 0xC2) | ((byte >= 0xE1) & (byte <= 0xE3)) | (byte >= 0xF4)
    return count + len(offsets) - 1


@njit(cache=True, nogil=True)
def _find_words(data: UInt8Array, offsets: Int64Array, classes: UInt8Array, found: Words) -> None:
    starts, ends, lengths, kinds, hashes, documents, text_lines = found
    word = 0
    for document in range(len(offsets) - 1):
        begin, end = offsets[document], offsets[document + 1]
        position, line_start, breaks = begin, begin, 0
        first = np.uint8(FIRST_OF_LINE)
        while True:
            while position < end:
                kind, width = class_at(data, position, end, classes)
                if not kind & SPACE:
                    break
                if kind & LINE_BREAK:
                    # A line feed right after a carriage return ends no line of its own.
                    breaks += not (data[position] == 0x0A and position > begin and data[position - 1] == 0x0D)
                    first, line_start = np.uint8(FIRST_OF_LINE), position + width
                position += width
            if position >= end or word >= len(starts):
                break
            start, length, kinds_of_word, value = position, 0, first, uint64(0)
            while position < end:
                byte = data[position]
                if byte < 0x80:
                    kind, width = classes[byte], 1
                else:
                    kind, width = class_at(data, position, end, classes)
                if kind & SPACE:
                    break
                kinds_of_word |= kind
                length += 1
                value = value * uint64(HASH_BASE) + uint64(byte) + uint64(1)
                for i in range(1, width):
                    value = value * uint64(HASH_BASE) + uint64(data[position + i]) + uint64(1)
                position += width
            starts[word], ends[word], lengths[word] = start, position, length
            kinds[word], hashes[word] = kinds_of_word & _KINDS, value
            first = np.uint8(0)
            word += 1
        documents[document + 1] = word
        text_lines[document] = breaks + (line_start < end)


@njit(cache=True, nogil=True)
def _most_line_ends(data: UInt8Array) -> Int:
    """A bound of the number of line ends: that of bytes that end the characters which end lines."""
    count = 0
    for position in range(len(data)):
        byte = data[position]
        count += ((byte >= 0x0A) & (byte <= 0x0D)) | ((byte >= 0x1C) & (byte <= 0x1E))
    for position in range(1, len(data)):  # U+0085, U+2028 and U+2029
        before, byte = data[position - 1], data[position]
        count += ((before == 0xC2) & (byte == 0x85)) | ((before == 0x80) & ((byte == 0xA8) | (byte == 0xA9)))
    return count


@njit(cache=True, nogil=True)
def end_of_line(data: UInt8Array, position: Int, end: Int) -> Int:
    """Bytes of the line end at a position before `end`, 0 if there is none; CRLF is one line end."""
    byte = data[position]
    if byte <= 0x1E:
        if byte == 0x0D and position + 1 < end and data[position + 1] == 0x0A:
            return 2
        return 1 if 0x0A <= byte <= 0x0D or byte >= 0x1C else 0
    if byte == 0xC2:
        return 2 if position + 1 < end and data[position + 1] == 0x85 else 0
    if byte == 0xE2 and position + 2 < end and data[position + 1] == 0x80:
        return 3 if data[position + 2] == 0xA8 or data[position + 2] == 0xA9 else 0
    return 0


@njit(cache=True, nogil=True)
def _find_lines(data: UInt8Array, offsets: Int64Array, classes: UInt8Array, found: Lines) -> None:
    starts, ends, lengths, kinds, hashes, documents = found
    line = 0
    for document in range(len(offsets) - 1):
        end = offsets[document + 1]
        position = offsets[document]
        while True:
            start, length, value, width = position, 0, uint64(0), 0
            while position < end:
                byte = data[position]
                if byte <= 0x1E or byte == 0xC2 or byte == 0xE2:
                    width = end_of_line(data, position, end)
                    if width:
                        break
                length += (byte & 0xC0) != 0x80
                value = value * uint64(HASH_BASE) + uint64(byte) + uint64(1)
                position += 1
            kind = _kind_of_line(data, start, position, classes)
            starts[line], ends[line], lengths[line], hashes[line], kinds[line] = start, position, length, value, kind
            if not kind & NOT_BLANK:
                ends[line], lengths[line], hashes[line] = start, 0, uint64(0)
            line += 1
            if position == end:
                break
            position += width
        documents[document + 1] = line


@njit(cache=True, nogil=True)
def _kind_of_line(data: UInt8Array, start: Int, end: Int, classes: UInt8Array) -> np.uint8:
    position = start
    while position < end:
        kind, width = class_at(data, position, end, classes)
        if not kind & SPACE:
            break
        position += width
    if position >= end:
        return np.uint8(0)
    last = end - 1
    while last > start and end - last < 4 and data[last] & 0xC0 == 0x80:
        last -= 1
    kind, _ = class_at(data, last, end, classes)
    return np.uint8(NOT_BLANK | kind & ENDS_SENTENCE)


@njit(cache=True, nogil=True)
def _find_paragraphs(data: UInt8Array, words: Words, of_lines: Lines, found: Paragraphs) -> None:
    line_starts, line_ends, line_lengths, _, line_hashes, line_documents = of_lines
    lengths, hashes, documents = found
    paragraph = 0
    line_feed = uint64(ord("\n") + 1)
    for document in range(len(documents) - 1):
        first_word, last_word = words.documents[document], words.documents[document + 1] - 1
        begin = end = np.int64(-1)
        if first_word <= last_word:  # the stripped text
            begin, end = words.starts[first_word], words.ends[last_word]
        length, value, is_open = 0, uint64(0), bool(begin < 0)
        for line in range(line_documents[document], line_documents[document + 1]):
            if line_ends[line] <= begin and not (line_starts[line] <= begin < line_ends[line]):
                continue
            if begin < 0 or line_starts[line] >= end:
                break
            if line_starts[line] == line_ends[line]:
                if is_open:
                    lengths[paragraph], hashes[paragraph] = length, value
                    paragraph += 1
                length, value, is_open = 0, uint64(0), False
                continue
            start, stop = max(line_starts[line], begin), min(line_ends[line], end)
            of_line, points = line_hashes[line], line_lengths[line]
            if start > line_starts[line] or stop < line_ends[line]:
                of_line, points = hash_bytes(data, start, stop), count_code_points(data, start, stop)
            if is_open:
                value, length = value * uint64(HASH_BASE) + line_feed, length + 1
            value, length, is_open = value * hash_power(stop - start) + of_line, length + points, True
        if is_open:
            lengths[paragraph], hashes[paragraph] = length, value
            paragraph += 1
        documents[document + 1] = paragraph
