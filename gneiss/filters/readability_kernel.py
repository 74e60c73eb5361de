"""The counts behind readability scores, in one pass over the bytes of a text batch."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numba import njit

from gneiss.arrays import Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.characters import SPACE, TERMINATOR, WORD, character_classes

#: Columns of `readability_counts`, and 16-bit fields of the automaton's increments.
WORDS, LONG_WORDS, SENTENCES, CHARACTERS = range(4)
#: Bytes after which the 16-bit fields are emptied, before any can overflow.
_FLUSH_BYTES = 1 << 15


def readability_counts(batch: TextBatch) -> Int64Array:
    r"""Words, long words, sentences and characters as textstat 0.7.5 counts them, int64 (documents, 4).

    A word is what `str.split` leaves of the text without the characters that match neither `\w` nor `\s`; a long word
    has more than 3 code points. A sentence is a match of `\b[^.!?]+[.!?]*` with more than 2 words; there may be none.
    Characters are code points that are not white space.

    >>> readability_counts(TextBatch.of(["Don't stop. It is a well-known fact, isn't it?"])).tolist()
    [[9, 5, 1, 38]]
    """
    counts = np.zeros((len(batch), 4), np.int64)
    _count(batch.data, batch.offsets, character_classes(), *_automaton(), counts)
    return counts


def _step(length: int, joined: bool, sentence_words: int, kind: int) -> tuple[tuple[int, bool, int], int]:
    """What one character does: the next state, and the increments it causes.

    length: code points of the text's open word (at most 4 matter); joined: the next word character continues the
    sentence's last word; sentence_words: at most 3 matter. Each match of the sentence pattern begins at the first word
    character after the terminators of the match before, so a terminator ends a sentence and a word character begins
    one; what lies between changes nothing. Words of the text are counted apart: the "." in "e.g" ends a sentence, but
    is deleted from the word.
    """
    increments = 0 if kind == SPACE else 1 << 16 * CHARACTERS
    if kind == WORD:
        increments |= (length == 0) << 16 * WORDS | (length == 3) << 16 * LONG_WORDS
        if not joined:
            increments |= (sentence_words == 2) << 16 * SENTENCES
            sentence_words = min(sentence_words + 1, 3)
        return (min(length + 1, 4), True, sentence_words), increments
    if kind == SPACE:
        return (0, False, sentence_words), increments
    if kind == TERMINATOR:
        return (length, False, 0), increments
    return (length, joined, sentence_words), increments


@cache
def _automaton() -> tuple[UInt64Array, UInt64Array]:
    """`_step` as tables over `4 * state + kind`: the next state (times 4) and the increments; the start is 0."""
    states = list(product(range(5), (False, True), range(4)))
    steps = [_step(*state, kind) for state in states for kind in range(4)]
    following = [4 * states.index(state) for state, _ in steps]
    return np.array(following, np.uint64), np.array([increments for _, increments in steps], np.uint64)


@njit(cache=True, nogil=True)
def _count(
    data: UInt8Array,
    offsets: Int64Array,
    classes: UInt8Array,
    following: UInt64Array,
    increments: UInt64Array,
    counts: Int64Array,
) -> None:
    for document in range(len(offsets) - 1):
        position, end = offsets[document], offsets[document + 1]
        state = np.uint64(0)
        while position < end:
            flush = min(end, position + _FLUSH_BYTES)
            fields = np.uint64(0)
            while position < flush:
                code_point = np.int64(data[position])
                position += 1
                if code_point >= 0x80:
                    tail = 3 if code_point >= 0xF0 else 2 if code_point >= 0xE0 else 1
                    code_point &= 0x3F >> tail
                    for _ in range(min(tail, end - position)):
                        code_point = code_point << 6 | data[position] & 0x3F
                        position += 1
                    if code_point > 0x10FFFF:  # only in what is not UTF-8
                        code_point = np.int64(0)
                entry = state | np.uint64(classes[code_point])
                fields += increments[entry]
                state = following[entry]
            for column in range(4):
                counts[document, column] += np.int64(fields >> np.uint64(16 * column) & np.uint64(0xFFFF))
