"""Texts as a fastText model of languages can read them: what such models were not trained on, brought back to what is.

They split words at ASCII white space only, and have seen few texts in capitals, with soft hyphens or in full-width
letters. Like `gneiss.filters.ccnet_text` this asks Python's `unicodedata`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numpy as np
from numba import njit

from gneiss.arrays import AnyArray, Int64Array, UInt8Array
from gneiss.batch import TextBatch
from gneiss.filters.segmentation import class_at
from gneiss.filters.segmentation_characters import LETTER, segmentation_classes

#: White space at which fastText splits no words, and the line feed, at which it ends a text.
_SPACE = re.compile(r"[^\S\t\v\f\r ]")
#: Invisible inside words: soft hyphen, zero width space, word joiner, byte order mark; and full-width ASCII.
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff\uff01-\uff5e]")


def plain_texts(batch: TextBatch) -> list[str | None]:
    r"""Each text of a batch as one line; None without a letter.

    White space is a space (unless fastText splits words there), soft hyphens and other invisible breaks are removed,
    full-width characters of ASCII are those of ASCII, characters are composed (NFC), and a text with more capitals than
    small letters is in lower case.

    >>> plain_texts(TextBatch.of(["IT IS\u00a0SO", "So it is.\r\n", "1, 2"]))
    ['it is so', 'So it is.\r ', None]
    """
    letters, capitals, small = letter_cases(batch).T
    in_capitals = (capitals > small).tolist()
    return [_plain(batch.text(i), in_capitals[i]) if count else None for i, count in enumerate(letters.tolist())]


def letter_cases(batch: TextBatch) -> Int64Array:
    """Letters, capitals and small letters of each document, int64 (documents, 3)."""
    counts = np.zeros((len(batch), 3), np.int64)
    _count(batch.data, batch.offsets, _cases(), counts)
    return counts


def _plain(text: str, in_capitals: bool) -> str:
    text = _SPACE.sub(" ", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _UNSEEN.sub(_seen, text))
    return text.lower() if in_capitals else text


def _seen(unseen: re.Match[str]) -> str:
    point = ord(unseen[0])
    return chr(point - 0xFEE0) if 0xFF01 <= point <= 0xFF5E else ""


@cache
def _cases() -> UInt8Array:
    """For each code point: 0 no letter, 1 without case, 2 capital, 3 small, uint8 (0x110000,)."""
    table = np.where(segmentation_classes() & LETTER, np.uint8(1), np.uint8(0))
    for point in np.flatnonzero(table[:0x20000]).tolist():  # no letter beyond has a case
        letter = chr(point)
        table[point] = 2 if letter.isupper() else 3 if letter.islower() else 1
    return table


@njit(cache=True, nogil=True)
def _count(data: UInt8Array, offsets: Int64Array, cases: AnyArray, counts: Int64Array) -> None:
    for document in range(len(offsets) - 1):
        position, end = offsets[document], offsets[document + 1]
        while position < end:
            case, width = class_at(data, position, end, cases)
            counts[document, 0] += case > 0
            counts[document, 1] += case == 2
            counts[document, 2] += case == 3
            position += width
