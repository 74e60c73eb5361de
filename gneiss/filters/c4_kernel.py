"""C4's judgement of each line, over the shared words of a text batch, and the cuts that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Int, Int64Array, UInt8Array
from gneiss.batch import TextBatch
from gneiss.edit import Edits
from gneiss.filters.scripts import ORDINARY, writing
from gneiss.filters.segmentation import FIRST_OF_LINE, Words, class_at, end_of_line, whitespace_words
from gneiss.filters.segmentation_characters import DECIMAL, SPACE, segmentation_classes
from gneiss.filters.sentences import AroundEnds, around_ends, count_sentences

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


class Phrases(NamedTuple):
    """`PHRASES`, case aside, as an automaton: a table (states, 256) of the next state, and the bits 1 << judgement of
    each state.

    States are the beginnings of phrases; the next state is the longest of them that the bytes so far end with.
    """

    following: UInt8Array
    bits: UInt8Array


class Tables(NamedTuple):
    """What lines are searched for."""

    phrases: Phrases
    ends: AroundEnds


class LineRules(NamedTuple):
    """What a line must have: terminal punctuation or not, `min_words` words, none over `max_chars` code points."""

    punctuation: Int
    min_words: Int
    max_chars: Int


_KELVIN = "\N{KELVIN SIGN}"  # the one character besides the capitals that is an ASCII letter in lower case


def line_counts(batch: TextBatch, terminal_punctuation: bool, min_line_words: int, max_word_chars: int) -> Int64Array:
    """How many lines of each document are judged what, and the sentences in the kept ones, int64 (documents, 9).

    Lines are those of `str.splitlines` that are not blank; sentences are those of `gneiss.filters.sentences`.
    """
    rules = LineRules(terminal_punctuation, min_line_words, max_word_chars)
    tables = Tables(_automaton(), around_ends())
    counts = np.zeros((len(batch), 9), np.int64)
    _count(batch.data, batch.view(whitespace_words), segmentation_classes(), tables, rules, counts)
    return counts


def line_edits(batch: TextBatch, terminal_punctuation: bool, min_line_words: int, max_word_chars: int) -> Edits:
    """Cuts that leave the stripped kept lines without citations, each with the end of line that it had.

    A carriage return before a line feed is cut. Lines for which the whole document is to be dropped stay, and so does
    a document in a script that C4's rules cannot be meant for.
    """
    words = batch.view(whitespace_words)
    brackets = int(np.count_nonzero(batch.data[batch.offsets[0] : batch.offsets[-1]] == ord("[")))
    most = 2 * int(np.count_nonzero(words.kinds & FIRST_OF_LINE)) + brackets + len(batch)
    rules = LineRules(terminal_punctuation, min_line_words, max_word_chars)
    cuts = np.empty((3, most), np.int64)
    tables = Tables(_automaton(), around_ends())
    spared = batch.view(writing) != ORDINARY
    count = _cut(batch.data, batch.offsets, words, spared, segmentation_classes(), tables, rules, cuts)
    return Edits(*cuts[:, :count].copy())


@cache
def _automaton() -> Phrases:
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
    return Phrases(following, bits)


@njit(cache=True, nogil=True)
def _count(
    data: UInt8Array, words: Words, classes: UInt8Array, tables: Tables, rules: LineRules, counts: Int64Array
) -> None:
    kinds, documents = words.kinds, words.documents
    for document in range(len(documents) - 1):
        word, end = documents[document], documents[document + 1]
        while word < end:
            next_line = _next_line(kinds, word, end)
            judgement, sentences = _judge(data, words, word, next_line, classes, tables, rules)
            counts[document, judgement] += 1
            if judgement == KEPT:
                counts[document, SENTENCES] += sentences
            word = next_line


@njit(cache=True, nogil=True)
def _next_line(kinds: UInt8Array, word: Int, end: Int) -> Int:
    word += 1
    while word < end and not kinds[word] & FIRST_OF_LINE:
        word += 1
    return word


@njit(cache=True, nogil=True)
def _judge(
    data: UInt8Array, words: Words, first: Int, end: Int, classes: UInt8Array, tables: Tables, rules: LineRules
) -> tuple[Int, Int]:
    """The judgement of the line of words `first` to `end`, and its sentences, both without citations."""
    lengths, punctuation, min_words, max_chars = words.lengths, rules.punctuation, rules.min_words, rules.max_chars
    line_start, line_end = words.starts[first], words.ends[end - 1]
    for word in range(first, end):
        if lengths[word] > max_chars:
            return LONG_WORD, 0
    if punctuation:  # unless the line ends with a citation, its last byte is already known
        if not _is_end_mark(data[line_end - 1]) and data[line_end - 1] != 0x5D:
            return UNPUNCTUATED, 0
    elif end - first < min_words:
        return SHORT, 0
    line = data[line_start:line_end]
    found = 0
    if not _is_plain(line):
        line = _without_citations(line, classes)
        found = _phrases_and_brackets(line, tables.phrases)
    size = len(line)
    ellipsis = size >= 3 and line[size - 1] == 0x2E and line[size - 2] == 0x2E and line[size - 3] == 0x2E
    if punctuation and (ellipsis or size == 0 or not _is_end_mark(line[size - 1])):
        return UNPUNCTUATED, 0
    if end - first < min_words:
        return SHORT, 0
    for judgement in (LOREM_IPSUM, JAVASCRIPT, CURLY_BRACKET, POLICY):
        if found >> judgement & 1:
            return judgement, 0
    return KEPT, count_sentences(line, classes, tables.ends)


@njit(cache=True, nogil=True)
def _without_citations(line: UInt8Array, classes: UInt8Array) -> UInt8Array:
    left, size, position = line.copy(), 0, 0
    while position < len(line):
        skipped = _citation(line, position, len(line), classes) if line[position] == 0x5B else 0
        if skipped:
            position += skipped
            continue
        left[size] = line[position]
        size, position = size + 1, position + 1
    return left[:size]


@njit(cache=True, nogil=True)
def _phrases_and_brackets(line: UInt8Array, phrases: Phrases) -> Int:
    """Bits 1 << judgement of what a line contains."""
    state, found = 0, 0
    for byte in line:
        state = phrases.following[state, byte]
        found |= phrases.bits[state]
        if byte == 0x7B:
            found |= 1 << CURLY_BRACKET
    return found


@njit(cache=True, nogil=True)
def _is_plain(line: UInt8Array) -> bool:
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
def _is_end_mark(byte: Int) -> bool:
    return bool(byte == 0x2E or byte == 0x3F or byte == 0x21 or byte == 0x22 or byte == 0x27)


@njit(cache=True, nogil=True)
def _citation(data: UInt8Array, position: Int, end: Int, classes: UInt8Array) -> Int:
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
def _cut(
    data: UInt8Array,
    offsets: Int64Array,
    words: Words,
    spared: BoolArray,
    classes: UInt8Array,
    tables: Tables,
    rules: LineRules,
    cuts: Int64Array,
) -> Int:
    """Write document, start and end of each cut into the rows of `cuts`, int64 (3, enough); returns how many."""
    starts, ends, kinds, documents = words.starts, words.ends, words.kinds, words.documents
    kept = np.empty((cuts.shape[1], 2), np.int64)  # what stays of a document: from where to where
    count = 0
    for document in range(len(documents) - 1):
        left = 0  # how many there are
        separator, separator_end = np.int64(0), np.int64(0)  # the end of the last line that stays
        word, end = documents[document], documents[document + 1]
        if spared[document]:
            continue
        while word < end:
            next_line = _next_line(kinds, word, end)
            judgement, _ = _judge(data, words, word, next_line, classes, tables, rules)
            if judgement in (KEPT, LOREM_IPSUM, CURLY_BRACKET):
                if separator < separator_end:
                    kept[left, 0], kept[left, 1] = separator, separator_end
                    left += 1
                left = _keep_without_citations(data, starts[word], ends[next_line - 1], classes, kept, left)
                separator, separator_end = _end_of_line(data, ends[next_line - 1], offsets[document + 1])
            word = next_line
        first, left = _strip(data, classes, kept, left)
        position = offsets[document]
        for i in range(first, left + 1):
            next_kept = kept[i, 0] if i < left else offsets[document + 1]
            if position < next_kept:
                cuts[0, count] = document
                cuts[1, count], cuts[2, count] = position - offsets[document], next_kept - offsets[document]
                count += 1
            if i < left:
                position = kept[i, 1]
    return count


@njit(cache=True, nogil=True)
def _keep_without_citations(
    data: UInt8Array, start: Int, end: Int, classes: UInt8Array, kept: Int64Array, left: Int
) -> Int:
    position = start
    while position < end:
        skipped = _citation(data, position, end, classes) if data[position] == 0x5B else 0
        if skipped:
            if start < position:
                kept[left, 0], kept[left, 1] = start, position
                left += 1
            start = position + skipped
            position = start
        else:
            position += 1
    if start < end:
        kept[left, 0], kept[left, 1] = start, end
        left += 1
    return left


@njit(cache=True, nogil=True)
def _end_of_line(data: UInt8Array, position: Int, end: Int) -> tuple[Int, Int]:
    while position < end:
        width = end_of_line(data, position, end)
        if width:
            is_crlf = width == 2 and data[position] == 0x0D
            return position + is_crlf, position + width
        position += 1
    return end, end


@njit(cache=True, nogil=True)
def _strip(data: UInt8Array, classes: UInt8Array, kept: Int64Array, left: Int) -> tuple[Int, Int]:
    """Take white space off both ends of what stays; the first that is left, and one more than the last."""
    first = 0
    while first < left:
        kind, width = class_at(data, kept[first, 0], kept[first, 1], classes)
        if not kind & SPACE:
            break
        kept[first, 0] += width
        first += kept[first, 0] >= kept[first, 1]
    while first < left:
        at = kept[left - 1, 1] - 1
        while at > kept[left - 1, 0] and data[at] & 0xC0 == 0x80:
            at -= 1
        kind, _ = class_at(data, at, kept[left - 1, 1], classes)
        if not kind & SPACE:
            break
        kept[left - 1, 1] = at
        left -= kept[left - 1, 0] >= at
    return first, left
