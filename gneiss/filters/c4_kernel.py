"""C4's judgement of each line, over the shared words of a text batch, and the cuts that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import product

import numpy as np
from numba import njit

from gneiss.arrays import Int64Array, UInt8Array
from gneiss.batch import TextBatch
from gneiss.edit import Edits
from gneiss.filters.segmentation import FIRST_OF_LINE, class_at, whitespace_words
from gneiss.filters.segmentation_characters import DECIMAL, LETTER, LINE_BREAK, SPACE, segmentation_classes

#: What a line is judged to be, by the first test that it fails; columns of `line_counts`, followed by SENTENCES.
KEPT, LONG_WORD, UNPUNCTUATED, SHORT, LOREM_IPSUM, JAVASCRIPT, CURLY_BRACKET, POLICY = range(8)
SENTENCES = 8

#: Phrases in lower case that condemn a line, or with it the document.
PHRASES: Mapping[str, int] = {
    "lorem ipsum": LOREM_IPSUM,
    "javascript": JAVASCRIPT,
    "terms of use": POLICY,
    "privacy policy": POLICY,
    "cookie policy": POLICY,
    "uses cookies": POLICY,
    "use of cookies": POLICY,
    "use cookies": POLICY,
}
_KELVIN = "\N{KELVIN SIGN}"  # the one character besides the capitals that is an ASCII letter in lower case


def line_counts(batch: TextBatch, terminal_punctuation: bool, min_line_words: int, max_word_chars: int) -> Int64Array:
    """How many lines of each document are judged what, and the sentences in the kept ones, int64 (documents, 9).

    Lines are those of `str.splitlines` that are not blank. Sentences of a line: one, and one more for each place where
    `.`, `!` or `?`, then any of `"')]”’»`, then white space is followed by something other than a letter from a to z.
    """
    words = batch.view(whitespace_words)
    counts = np.zeros((len(batch), 9), np.int64)
    _count(
        batch.data, words.starts, words.ends, words.lengths, words.kinds, words.documents,
        segmentation_classes(), *_automaton(), terminal_punctuation, min_line_words, max_word_chars, counts,
    )  # fmt: skip
    return counts


def line_edits(batch: TextBatch, terminal_punctuation: bool, min_line_words: int, max_word_chars: int) -> Edits:
    """Cuts that leave the stripped kept lines without citations, each with the end of line that it had.

    A carriage return before a line feed is cut. Lines for which the whole document is to be dropped stay.
    """
    words = batch.view(whitespace_words)
    brackets = int(np.count_nonzero(batch.data[batch.offsets[0] : batch.offsets[-1]] == ord("[")))
    most = 2 * int(np.count_nonzero(words.kinds & FIRST_OF_LINE)) + brackets + len(batch)
    document, start, end = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    pieces = np.empty((most, 2), np.int64)
    cuts = _cut(
        batch.data, batch.offsets, words.starts, words.ends, words.lengths, words.kinds, words.documents,
        segmentation_classes(), *_automaton(), terminal_punctuation, min_line_words, max_word_chars,
        pieces, document, start, end,
    )  # fmt: skip
    return Edits(document[:cuts].copy(), start[:cuts].copy(), end[:cuts].copy())


@cache
def _automaton() -> tuple[UInt8Array, UInt8Array]:
    """The phrases, case aside, as a table (states, 256) of the next state, and the bits 1 << judgement of each state.

    States are the beginnings of phrases; the next state is the longest of them that the bytes so far end with.
    """
    spellings: dict[bytes, int] = {}
    for phrase, judgement in PHRASES.items():
        letters = (("k", _KELVIN) if letter == "k" else (letter,) for letter in phrase)
        for spelling in product(*letters):
            spellings["".join(spelling).encode()] = judgement
    states = sorted({word[:end] for word in spellings for end in range(len(word) + 1)}, key=len)
    number = {state: index for index, state in enumerate(states)}
    following = np.zeros((len(states), 256), np.uint8)
    bits = np.zeros(len(states), np.uint8)
    for state, index in number.items():
        for byte in range(256):
            read = state + bytes([byte]).lower()
            following[index, byte] = next(number[read[cut:]] for cut in range(len(read) + 1) if read[cut:] in number)
        for word, judgement in spellings.items():
            bits[index] |= state.endswith(word) << judgement
    return following, bits


@njit(cache=True, nogil=True)
def _count(  # type: ignore[no-untyped-def]
    data, starts, ends, lengths, kinds, documents, classes, following, bits, punctuation, min_words, max_chars, counts
):  # fmt: skip
    for document in range(len(documents) - 1):
        word, end = documents[document], documents[document + 1]
        while word < end:
            next_line = _next_line(kinds, word, end)
            judgement, sentences = _judge(
                data, starts, ends, lengths, word, next_line,
                classes, following, bits, punctuation, min_words, max_chars,
            )  # fmt: skip
            counts[document, judgement] += 1
            if judgement == KEPT:
                counts[document, SENTENCES] += sentences
            word = next_line


@njit(cache=True, nogil=True)
def _next_line(kinds, word, end):  # type: ignore[no-untyped-def]
    word += 1
    while word < end and not kinds[word] & FIRST_OF_LINE:
        word += 1
    return word


@njit(cache=True, nogil=True)
def _judge(  # type: ignore[no-untyped-def]
    data, starts, stops, lengths, first, end, classes, following, bits, punctuation, min_words, max_chars
):  # fmt: skip
    """The judgement of the line of words first to end, and its sentences, both without citations."""
    for word in range(first, end):
        if lengths[word] > max_chars:
            return LONG_WORD, 0
    if punctuation:  # unless the line ends with a citation, its last byte is already known
        if not _is_end_mark(data[stops[end - 1] - 1]) and data[stops[end - 1] - 1] != 0x5D:
            return UNPUNCTUATED, 0
    elif end - first < min_words:
        return SHORT, 0
    if _is_plain(data[starts[first] : stops[end - 1]]):
        return _judge_plain(data[starts[first] : stops[end - 1]], end - first, classes, punctuation, min_words)
    position, stop = starts[first], stops[end - 1]
    state, found, curly, sentences = 0, 0, False, 1
    after_end, after_space = False, False  # of a sentence, and of the white space after it
    last = np.zeros(3, np.uint8)[0]
    before_last = third_last = last
    while position < stop:
        byte = data[position]
        if byte == 0x5B:
            skipped = _citation(data, position, stop, classes)
            if skipped:
                position += skipped
                continue
        if byte < 0x80:
            kind, width = classes[byte], 1
        else:
            kind, width = class_at(data, position, stop, classes)
        if kind & SPACE:
            after_space = after_end
        elif kind & LETTER and not after_end:
            pass
        else:
            if after_space and not 0x61 <= byte <= 0x7A:
                sentences += 1
            ends = byte == 0x2E or byte == 0x21 or byte == 0x3F
            closes = after_end and not after_space and _closes(data, position, width)
            after_end, after_space = ends or closes, False
        curly = curly or byte == 0x7B
        for i in range(width):
            state = following[state, data[position + i]]
            found |= bits[state]
            third_last, before_last, last = before_last, last, data[position + i]
        position += width
    ellipsis = last == 0x2E and before_last == 0x2E and third_last == 0x2E
    if punctuation and (ellipsis or not _is_end_mark(last)):
        return UNPUNCTUATED, 0
    if end - first < min_words:
        return SHORT, 0
    if found >> LOREM_IPSUM & 1:
        return LOREM_IPSUM, 0
    if found >> JAVASCRIPT & 1:
        return JAVASCRIPT, 0
    if curly:
        return CURLY_BRACKET, 0
    if found >> POLICY & 1:
        return POLICY, 0
    return KEPT, sentences


@njit(cache=True, nogil=True)
def _is_plain(line):  # type: ignore[no-untyped-def]
    """Whether a line has no bracket, and none of these, of which each phrase has one: m i, vas, f u, y p, kie.

    Without a branch, so that the compiler looks at many bytes at once. The Kelvin sign, a k, ends in AA.
    """
    found = False
    for position in range(len(line)):
        found = found | (line[position] == 0x5B) | (line[position] == 0x7B)
    for position in range(len(line) - 2):
        first, second, third = line[position], line[position + 1] & 0xDF, line[position + 2] & 0xDF
        lorem = ((first & 0xDF) == 0x4D) & (second == 0x00) & (third == 0x49)
        script = ((first & 0xDF) == 0x56) & (second == 0x41) & (third == 0x53)
        use = ((first & 0xDF) == 0x46) & (second == 0x00) & (third == 0x55)
        policy = ((first & 0xDF) == 0x59) & (second == 0x00) & (third == 0x50)
        cookie = (((first & 0xDF) == 0x4B) | (first == 0xAA)) & (second == 0x49) & (third == 0x45)
        found = found | lorem | script | use | policy | cookie
    return not found


@njit(cache=True, nogil=True)
def _judge_plain(line, words, classes, punctuation, min_words):  # type: ignore[no-untyped-def]
    """The judgement of a line that `_is_plain`, and its sentences, of which only the ends are looked at."""
    size = len(line)
    ellipsis = size >= 3 and line[size - 1] == 0x2E and line[size - 2] == 0x2E and line[size - 3] == 0x2E
    if punctuation and (ellipsis or not _is_end_mark(line[size - 1])):
        return UNPUNCTUATED, 0
    if words < min_words:
        return SHORT, 0
    sentences, position = 1, 0
    while position < size:
        byte = line[position]
        position += 1
        if byte != 0x2E and byte != 0x21 and byte != 0x3F:
            continue
        spaces = 0
        while position < size:
            kind, width = class_at(line, position, size, classes)
            if kind & SPACE:
                spaces += 1
            elif spaces or not _closes(line, position, width):
                break
            position += width
        sentences += spaces > 0 and position < size and not 0x61 <= line[position] <= 0x7A
    return KEPT, sentences


@njit(cache=True, nogil=True)
def _is_end_mark(byte):  # type: ignore[no-untyped-def]
    return byte == 0x2E or byte == 0x3F or byte == 0x21 or byte == 0x22 or byte == 0x27


@njit(cache=True, nogil=True)
def _closes(data, position, width):  # type: ignore[no-untyped-def]
    byte = data[position]
    if width == 1:
        return byte == 0x22 or byte == 0x27 or byte == 0x29 or byte == 0x5D
    if width == 2:
        return byte == 0xC2 and data[position + 1] == 0xBB  # "»"
    return (  # "’" and "”"
        width == 3
        and byte == 0xE2
        and data[position + 1] == 0x80
        and (data[position + 2] == 0x99 or data[position + 2] == 0x9D)
    )


@njit(cache=True, nogil=True)
def _citation(data, position, end, classes):  # type: ignore[no-untyped-def]
    """Bytes of the citation that begins at a "[": [12], [], [edit] or [citation needed]; 0 if it is none."""
    at = position + 1
    while at < end:
        kind, width = class_at(data, at, end, classes)
        if not kind & DECIMAL:
            break
        at += width
    if at < end and data[at] == 0x5D:
        return at + 1 - position
    for literal in (b"[edit]", b"[citation needed]"):
        if end - position >= len(literal):
            equal = True
            for i in range(len(literal)):
                equal = equal and data[position + i] == literal[i]
            if equal:
                return len(literal)
    return 0


@njit(cache=True, nogil=True)
def _cut(  # type: ignore[no-untyped-def]
    data, offsets, starts, ends, lengths, kinds, documents,
    classes, following, bits, punctuation, min_words, max_chars, pieces, cut_document, cut_start, cut_end,
):  # fmt: skip
    cuts = 0
    for document in range(len(documents) - 1):
        left = 0  # pieces of the document that stay
        separator, separator_end = np.int64(0), np.int64(0)  # the end of the last line that stays
        word, end = documents[document], documents[document + 1]
        while word < end:
            next_line = _next_line(kinds, word, end)
            judgement, _ = _judge(
                data, starts, ends, lengths, word, next_line,
                classes, following, bits, punctuation, min_words, max_chars,
            )  # fmt: skip
            if judgement in (KEPT, LOREM_IPSUM, CURLY_BRACKET):
                if separator < separator_end:
                    pieces[left, 0], pieces[left, 1] = separator, separator_end
                    left += 1
                left = _without_citations(data, starts[word], ends[next_line - 1], classes, pieces, left)
                separator, separator_end = _end_of_line(data, ends[next_line - 1], offsets[document + 1], classes)
            word = next_line
        first, left = _strip(data, classes, pieces, left)
        position = offsets[document]
        for piece in range(first, left + 1):
            following_start = pieces[piece, 0] if piece < left else offsets[document + 1]
            if position < following_start:
                cut_document[cuts] = document
                cut_start[cuts], cut_end[cuts] = position - offsets[document], following_start - offsets[document]
                cuts += 1
            if piece < left:
                position = pieces[piece, 1]
    return cuts


@njit(cache=True, nogil=True)
def _without_citations(data, start, end, classes, pieces, left):  # type: ignore[no-untyped-def]
    position = start
    while position < end:
        skipped = _citation(data, position, end, classes) if data[position] == 0x5B else 0
        if skipped:
            if start < position:
                pieces[left, 0], pieces[left, 1] = start, position
                left += 1
            start = position + skipped
            position = start
        else:
            position += 1
    if start < end:
        pieces[left, 0], pieces[left, 1] = start, end
        left += 1
    return left


@njit(cache=True, nogil=True)
def _end_of_line(data, position, end, classes):  # type: ignore[no-untyped-def]
    while position < end:
        kind, width = class_at(data, position, end, classes)
        if kind & LINE_BREAK:
            if data[position] == 0x0D and position + 1 < end and data[position + 1] == 0x0A:
                position += 1
            return position, position + width
        position += width
    return end, end


@njit(cache=True, nogil=True)
def _strip(data, classes, pieces, left):  # type: ignore[no-untyped-def]
    """Take white space off both ends of the pieces; the first that is left, and one more than the last."""
    first = 0
    while first < left:
        kind, width = class_at(data, pieces[first, 0], pieces[first, 1], classes)
        if not kind & SPACE:
            break
        pieces[first, 0] += width
        first += pieces[first, 0] >= pieces[first, 1]
    while first < left:
        at = pieces[left - 1, 1] - 1
        while at > pieces[left - 1, 0] and data[at] & 0xC0 == 0x80:
            at -= 1
        kind, _ = class_at(data, at, pieces[left - 1, 1], classes)
        if not kind & SPACE:
            break
        pieces[left - 1, 1] = at
        left -= pieces[left - 1, 0] >= at
    return first, left
