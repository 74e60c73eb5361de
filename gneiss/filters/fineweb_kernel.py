"""The counts behind FineWeb's own rules, over the shared lines of a text batch."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.seen import first_seen, seen_table, slots_for
from gneiss.filters.segmentation import ENDS_SENTENCE, NOT_BLANK, Lines, lines

#: Columns of `fineweb_counts`.
LINES, PUNCTUATED_LINES, SHORT_LINES, REPEATED_LINE_CHARS, LINE_CHARS, LINE_ENDS = range(6)


def fineweb_counts(batch: TextBatch, short_line_chars: int) -> Int64Array:
    """What FineWeb's rules count, int64 (documents, 6).

    Lines that are not blank; those that end with a character that ends a sentence; those of at most
    `short_line_chars` code points; code points of those that were there before; code points of all lines,
    without their ends; ends of lines.
    """
    of_lines = batch.view(lines)
    counts = np.zeros((len(batch), 6), np.int64)
    table = seen_table(int(np.diff(of_lines.documents).max(initial=0)))
    _count(of_lines, short_line_chars, table, counts)
    return counts


@njit(cache=True, nogil=True)
def _count(of_lines: Lines, short_line_chars: Int, table: UInt64Array, counts: Int64Array) -> None:
    lengths, kinds, hashes, documents = of_lines.lengths, of_lines.kinds, of_lines.hashes, of_lines.documents
    for document in range(len(documents) - 1):
        count = counts[document]
        slots = slots_for(documents[document + 1] - documents[document])
        for line in range(documents[document], documents[document + 1]):
            count[LINE_CHARS] += lengths[line]
            if not kinds[line] & NOT_BLANK:
                continue
            count[LINES] += 1
            count[PUNCTUATED_LINES] += (kinds[line] & ENDS_SENTENCE) != 0
            count[SHORT_LINES] += lengths[line] <= short_line_chars
            if first_seen(table, slots, document + 1, hashes[line], 0) >= 0:
                count[REPEATED_LINE_CHARS] += lengths[line]
        count[LINE_ENDS] = documents[document + 1] - documents[document] - 1
