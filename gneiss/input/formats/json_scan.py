"""Lines of JSON: one pass that checks each of them, and finds where its values lie and of which kinds they are.

pyarrow's reader gives up a block for one bad line, guesses timestamps, and is about as fast as Parquet is written. A
scan that finds the bytes of values, and copies those that are wanted, is several times faster and says what is wrong
with which line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import Int32Array, Int64Array, UInt8Array, UInt64Array
from gneiss.input.formats.json_bytes import STRIDE, copy_to_escape, ends_or_escapes

#: Kinds of values that a node has had, as bits. INT: up to 2^53, which a double holds; WIDE: other integers of 64 bits
#: with a sign; UNSIGNED: of 64 bits without one; HUGE: numbers that neither they nor a double hold; MANY: an object has
#: too many keys.
NULL, BOOL, INT, NEGATIVE, WIDE, UNSIGNED, FLOAT, HUGE, STRING, OBJECT, ARRAY, MANY = (1 << bit for bit in range(12))
#: Kinds of cells.
IS_NULL, IS_TRUE, IS_FALSE, IS_NUMBER, IS_STRING, IS_ESCAPED, IS_OBJECT, IS_ARRAY = range(8)
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
MOST_LEVELS = 100
MOST_KEY_BYTES = 1_000
#: Keys of rows, keys of an object in them, and all keys that are kept track of.
MOST_COLUMNS, MOST_KEYS, MOST_NODES = 1_000, 256, 1 << 14
#: Bytes that must be readable after a block.
PADDING = 64
#: The node of rows.
ROOT = 0
_TOO_MANY = -1
_NONE, _ITEM = -1, -1
_ROWS, _CELLS, _SLOTS = 1 << 16, 1 << 18, 4 * MOST_NODES
#: A tenth of the largest number of 64 bits.
_TENTH = np.uint64((2**64 - 1) // 10)
_KEY, _FIRST_KEY, _VALUE, _FIRST_VALUE, _AFTER = range(5)
_Arrays: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Tree:
    """The keys of rows, and of the objects in them: nodes, in the order in which they first occurred.

    parent: of node 0, which is the rows, -1; kinds: of the values that it has had; key: start and length of its key in
    `keys`, with the length -1 for the items of an array. A malformed row leaves nothing in `kinds`.
    """

    parent: Int32Array = field(default_factory=lambda: np.full(MOST_NODES, -1, np.int32))
    kinds: Int32Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.int32))
    key: Int32Array = field(default_factory=lambda: np.zeros((MOST_NODES, 2), np.int32))
    keys: UInt8Array = field(default_factory=lambda: np.zeros(MOST_NODES * 64, np.uint8))
    _hashes: UInt64Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.uint64))
    _slots: Int32Array = field(default_factory=lambda: np.full(_SLOTS, -1, np.int32))
    _members: Int32Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.int32))
    _seen_in: Int64Array = field(default_factory=lambda: np.zeros(MOST_NODES, np.int64))
    #: Nodes, bytes of keys, objects.
    _counts: Int64Array = field(default_factory=lambda: np.array([1, 0, 0], np.int64))

    def child(self, parent: int, key: str | None) -> int:
        """The node of a key in an object (None: of the items of an array), made if it is not there; -1: too many."""
        raw = np.frombuffer((key or "").encode() + b"\0", np.uint8)
        return int(_child(self.arrays(), parent, raw, 0, _ITEM if key is None else len(raw) - 1))

    def name(self, node: int) -> str | None:
        """The key of a node; None for the items of an array."""
        start, length = self.key[node].tolist()
        return None if length == _ITEM else self.keys[start : start + length].tobytes().decode()

    def members(self, parent: int) -> list[int]:
        """The nodes in an object or array that have had values, in order."""
        count = int(self._counts[0])
        its = np.flatnonzero((self.parent[:count] == parent) & (self.kinds[:count] != 0))
        return [int(node) for node in its]

    def arrays(self) -> _Arrays:
        """For the kernels."""
        return (self.parent, self.kinds, self.key, self.keys, self._hashes, self._slots, self._members, self._seen_in,
                self._counts)  # fmt: skip


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
        its = depth - 1
        is_array = stack[its, 1] == 1
        if state == _AFTER and byte == 44:
            at += 1
            state = _VALUE if is_array else _KEY
            continue
        if state == _AFTER or (state == _FIRST_KEY and byte == 125) or (state == _FIRST_VALUE and byte == 93):
            if byte != (93 if is_array else 125):
                return at, found, SYNTAX
            at += 1
            depth -= 1
            arrays -= stack[its, 1]
            if stack[its, 3] >= 0:
                places[stack[its, 3], 1] = at
            state = _AFTER
            continue
        if state in (_KEY, _FIRST_KEY):
            if byte != 34:
                return at, found, SYNTAX
            start = at + 1
            at, is_escaped, error = _string(data, start)
            if error != FINE:
                return at, found, error
            length, parent = at - start, stack[its, 0]
            is_long = length > MOST_KEY_BYTES
            if is_long and parent == ROOT:
                return start, found, LONG_KEY
            node = _NONE
            if parent != _NONE and not is_long:
                if is_escaped:
                    length = unescape(data, start, at, scratch, 0)
                    node = _child(tree, parent, scratch, 0, length)
                else:
                    node = _child(tree, parent, data, start, length)
                if node == _NONE and parent == ROOT:
                    return at, found, _TOO_MANY
            if node != _NONE:
                if members_in[node] == stack[its, 2]:
                    return start, found, TWICE
                members_in[node] = stack[its, 2]
            elif parent != _NONE:
                _note(kinds, top, MANY, journal, noted)
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
            node = stack[its, 4]
        start, end, kind, bits = at, at, IS_NULL, NULL
        if byte == 34:
            start = at + 1
            end, is_escaped, error = _string(data, start)
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
            at, bits = _number(data, at)
            if bits == 0:
                return at, found, CUT if data[at] == 10 else SYNTAX
            kind = IS_NUMBER
        if bits != STRING:
            end = at
        if node != _NONE:
            _note(kinds, node, bits, journal, noted)
        cell = -1
        if node != _NONE and arrays == 0:
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
                stack[depth, 1], stack[depth, 4], state = 1, _NONE, _FIRST_VALUE
                arrays += 1
                if node != _NONE:
                    stack[depth, 4] = _child(tree, node, data, 0, _ITEM)
                    if stack[depth, 4] == _NONE:
                        _note(kinds, top, MANY, journal, noted)
            depth += 1
    while data[at] == 32 or data[at] == 9 or data[at] == 13:
        at += 1
    return at, found, FINE if data[at] == 10 else MORE


@njit(cache=True, nogil=True)
def _note(kinds, node, bits, journal, noted):  # type: ignore[no-untyped-def]
    """Note kinds of a node, and what it had before, so that a malformed row can be forgotten."""
    if kinds[node] & bits != bits:
        journal[noted[0], 0], journal[noted[0], 1] = node, kinds[node]
        noted[0] += 1
        kinds[node] |= bits


@njit(cache=True, nogil=True)
def _string(data, at):  # type: ignore[no-untyped-def]
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
def _number(data, at):  # type: ignore[no-untyped-def]
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
def _child(tree, parent, text, start, length):  # type: ignore[no-untyped-def]
    """The node of a key of an object, or of the items of an array; made if it is not there; -1: one too many."""
    parents, _, key, keys, hashes, slots, members, _, counts = tree
    hash_ = (np.uint64(parent) + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    for index in range(start, start + length):
        hash_ = (hash_ ^ np.uint64(text[index])) * np.uint64(0x100000001B3)
    hash_ = (hash_ ^ (hash_ >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
    slot = np.int64(hash_ >> np.uint64(48))
    while slots[slot] >= 0:
        node = slots[slot]
        if hashes[node] == hash_ and parents[node] == parent and key[node, 1] == length:
            is_it = True
            for index in range(length):
                if keys[key[node, 0] + index] != text[start + index]:
                    is_it = False
                    break
            if is_it:
                return np.int64(node)
        slot = (slot + 1) % len(slots)
    node, used = counts[0], counts[1]
    most = MOST_COLUMNS if parent == ROOT else MOST_KEYS
    if node == len(parents) or members[parent] >= most or used + max(length, 0) > len(keys):
        return np.int64(_NONE)
    for index in range(length):
        keys[used + index] = text[start + index]
    parents[node], key[node, 0], key[node, 1], hashes[node], slots[slot] = parent, used, length, hash_, node
    members[parent] += 1
    counts[0], counts[1] = node + 1, used + max(length, 0)
    return np.int64(node)
