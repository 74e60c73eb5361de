"""Lines of JSON: one pass that checks each of them, and finds where its values lie and of which kinds they are.

pyarrow's reader gives up a block for one bad line, guesses timestamps, and is about as fast as Parquet is written. A
scan that finds the bytes of values, and copies those that are wanted, is several times faster and says what is wrong
with which line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from gneiss.arrays import Int32Array, Int64Array, UInt8Array
from gneiss.input.formats.json_tree import (
    ARRAY,
    BOOL,
    ITEM,
    MANY,
    MOST_COLUMNS,
    MOST_NODES,
    NONE,
    NULL,
    OBJECT,
    ROOT,
    STRING,
    Tree,
    child_of,
    note_kind,
)
from gneiss.input.formats.json_values import (
    CUT,
    DEEP,
    FINE,
    LONG_KEY,
    MORE,
    NO_OBJECT,
    NOT_UTF8,
    PADDING,
    SYNTAX,
    TWICE,
    number_end,
    string_end,
    unescape,
)

#: Kinds of cells.
IS_NULL, IS_TRUE, IS_FALSE, IS_NUMBER, IS_STRING, IS_ESCAPED, IS_OBJECT, IS_ARRAY = range(8)
MOST_LEVELS = 100
MOST_KEY_BYTES = 1_000
_TOO_MANY = -1
_ROWS, _CELLS = 1 << 16, 1 << 18
_KEY, _FIRST_KEY, _VALUE, _FIRST_VALUE, _AFTER = range(5)


@dataclass(frozen=True, eq=False)
class Scanned:
    """Consecutive rows of a block: its lines that are not blank.

    data: uint8, the block; line: int64 (rows,), the number of each one's line in the block; start, end: int64 (rows,),
    its bytes in `data`; wrong: int32 (rows,), a number of WRONG; wrong_at: int64 (rows,), the byte of the line where it
    was seen; row, node, kind: int32 (cells,), values that are in no array; value_start, value_end: int64 (cells,),
    their bytes, of a string those between its quotes.
    """

    data: UInt8Array
    line: Int64Array
    start: Int64Array
    end: Int64Array
    wrong: Int32Array
    wrong_at: Int64Array
    row: Int32Array
    node: Int32Array
    kind: Int32Array
    value_start: Int64Array
    value_end: Int64Array

    def __len__(self) -> int:
        return len(self.line)


def scan(data: UInt8Array, size: int, tree: Tree, not_utf8: Int64Array) -> Iterator[Scanned]:
    """The rows of a block of whole lines, each of which ends in a newline: `size` bytes, and PADDING others.

    not_utf8: the starts of lines that are not UTF-8, rising. Notes keys and kinds of all values in `tree`. Raises
    OSError when rows have more keys than a table can have columns.
    """
    position = line = 0
    while position < size:
        rows, cells, places = _empty(_ROWS, 5), np.empty((_CELLS, 3), np.int32), _empty(_CELLS, 2)
        position, line, count, found = _scan(
            data, position, size, line, tree.arrays(), not_utf8, rows, cells, places, _journal()
        )
        if count == _TOO_MANY:
            raise OSError(f"its objects have more than {MOST_COLUMNS:,} different keys: no columns of a table")
        number, start, end, wrong, wrong_at = rows[:count].T
        row, node, kind = cells[:found].T
        low, high = places[:found].T
        yield Scanned(data, number, start, end, wrong.astype(np.int32), wrong_at, row, node, kind, low, high)


def _empty(rows: int, columns: int) -> Int64Array:
    return np.empty((rows, columns), np.int64)


def _journal() -> Int32Array:
    return np.empty((MOST_NODES * 12, 2), np.int32)


@njit(cache=True, nogil=True)
def _scan(data, position, size, line, tree, not_utf8, rows, cells, places, journal):  # type: ignore[no-untyped-def]
    """Rows from a position on, until the block ends or the arrays are full: the next position and line, rows, cells."""
    kinds = tree[1]
    stack = np.empty((MOST_LEVELS + 1, 5), np.int64)
    noted = np.zeros(1, np.int64)
    scratch = np.empty(MOST_KEY_BYTES + PADDING, np.uint8)
    count = found = 0
    bad = np.searchsorted(not_utf8, position)
    while position < size and count < len(rows) and found < len(cells) - MOST_NODES:
        at = position
        while data[at] == 32 or data[at] == 9 or data[at] == 13:
            at += 1
        if data[at] == 10:
            position, line = at + 1, line + 1
            continue
        ended, error, noted[0] = found, NOT_UTF8, 0
        if bad < len(not_utf8) and not_utf8[bad] == position:
            bad += 1
        else:
            at, ended, error = _row(data, at, count, found, tree, stack, journal, noted, scratch, cells, places)
        if error == _TOO_MANY:
            return position, line, _TOO_MANY, found
        rows[count, 0], rows[count, 1], rows[count, 3], rows[count, 4] = line, position, error, at - position
        if error == FINE:
            found = ended
        else:
            for index in range(noted[0] - 1, -1, -1):
                kinds[journal[index, 0]] = journal[index, 1]
        while data[at] != 10:
            at += 1
        rows[count, 2] = at
        position, line, count = at + 1, line + 1, count + 1
    return position, line, count, found


@njit(cache=True, nogil=True)
def _row(data, at, row, found, tree, stack, journal, noted, scratch, cells, places):  # type: ignore[no-untyped-def]
    """A line: where it ended or went wrong, the number of cells, and what is wrong.

    stack: for each open object or array its node, whether it is an array, its number, its cell, the node of its items.
    """
    kinds, members_in, counts = tree[1], tree[7], tree[8]
    if data[at] != 123:
        return at, found, NO_OBJECT
    at += 1
    depth, arrays = 1, 0
    counts[2] += 1
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = ROOT, 0, counts[2], -1
    state, top, node = _FIRST_KEY, ROOT, ROOT
    while depth > 0:
        while data[at] == 32 or data[at] == 9 or data[at] == 13:
            at += 1
        byte = data[at]
        if byte == 10:
            return at, found, CUT
        level = depth - 1
        is_array = stack[level, 1] == 1
        if state == _AFTER and byte == 44:
            at += 1
            state = _VALUE if is_array else _KEY
            continue
        if state == _AFTER or (state == _FIRST_KEY and byte == 125) or (state == _FIRST_VALUE and byte == 93):
            if byte != (93 if is_array else 125):
                return at, found, SYNTAX
            at += 1
            depth -= 1
            arrays -= stack[level, 1]
            if stack[level, 3] >= 0:
                places[stack[level, 3], 1] = at
            state = _AFTER
            continue
        if state in (_KEY, _FIRST_KEY):
            if byte != 34:
                return at, found, SYNTAX
            start = at + 1
            at, is_escaped, error = string_end(data, start)
            if error != FINE:
                return at, found, error
            length, parent = at - start, stack[level, 0]
            is_long = length > MOST_KEY_BYTES
            if is_long and parent == ROOT:
                return start, found, LONG_KEY
            node = NONE
            if parent != NONE and not is_long:
                if is_escaped:
                    length = unescape(data, start, at, scratch, 0)
                    node = child_of(tree, parent, scratch, 0, length)
                else:
                    node = child_of(tree, parent, data, start, length)
                if node == NONE and parent == ROOT:
                    return at, found, _TOO_MANY
            if node != NONE:
                if members_in[node] == stack[level, 2]:
                    return start, found, TWICE
                members_in[node] = stack[level, 2]
            elif parent != NONE:
                note_kind(kinds, top, MANY, journal, noted)
            if parent == ROOT:
                top = node
            at += 1
            while data[at] == 32 or data[at] == 9 or data[at] == 13:
                at += 1
            if data[at] != 58:
                return at, found, CUT if data[at] == 10 else SYNTAX
            at += 1
            state = _VALUE
            continue
        if is_array:
            node = stack[level, 4]
        start, end, kind, bits = at, at, IS_NULL, NULL
        if byte == 34:
            start = at + 1
            end, is_escaped, error = string_end(data, start)
            if error != FINE:
                return end, found, error
            at, kind, bits = end + 1, IS_ESCAPED if is_escaped else IS_STRING, STRING
        elif byte == 123:
            at, kind, bits = at + 1, IS_OBJECT, OBJECT
        elif byte == 91:
            at, kind, bits = at + 1, IS_ARRAY, ARRAY
        elif byte == 116 and data[at + 1] == 114 and data[at + 2] == 117 and data[at + 3] == 101:
            at, kind, bits = at + 4, IS_TRUE, BOOL
        elif byte == 102 and data[at + 1] == 97 and data[at + 2] == 108 and data[at + 3] == 115 and data[at + 4] == 101:
            at, kind, bits = at + 5, IS_FALSE, BOOL
        elif byte == 110 and data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108:
            at += 4
        else:
            at, bits = number_end(data, at)
            if bits == 0:
                return at, found, CUT if data[at] == 10 else SYNTAX
            kind = IS_NUMBER
        if bits != STRING:
            end = at
        if node != NONE:
            note_kind(kinds, node, bits, journal, noted)
        cell = -1
        if node != NONE and arrays == 0:
            cells[found, 0], cells[found, 1], cells[found, 2] = row, node, kind
            places[found, 0], places[found, 1] = start, end
            cell, found = found, found + 1
        state = _AFTER
        if bits in (OBJECT, ARRAY):
            if depth > MOST_LEVELS - 1:
                return at, found, DEEP
            counts[2] += 1
            stack[depth, 0], stack[depth, 2], stack[depth, 3], stack[depth, 1] = node, counts[2], cell, 0
            state = _FIRST_KEY
            if bits == ARRAY:
                stack[depth, 1], stack[depth, 4], state = 1, NONE, _FIRST_VALUE
                arrays += 1
                if node != NONE:
                    stack[depth, 4] = child_of(tree, node, data, 0, ITEM)
                    if stack[depth, 4] == NONE:
                        note_kind(kinds, top, MANY, journal, noted)
            depth += 1
    while data[at] == 32 or data[at] == 9 or data[at] == 13:
        at += 1
    return at, found, FINE if data[at] == 10 else MORE
