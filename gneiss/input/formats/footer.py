"""Parquet footers: sizes and encodings of column chunks, which pyarrow gives in part, or ends the process over.

A footer is a struct of Thrift's compact protocol (parquet.thrift of apache/parquet-format has its fields). Everything
is checked against the bytes that are there, in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Int, Int64Array, UInt8Array

#: Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEPTH = 64
#: Encodings of data pages that can make a column smaller than its values: dictionaries, and shared prefixes.
_PLAIN_DICTIONARY, _DELTA_BYTE_ARRAY, _RLE_DICTIONARY = 2, 7, 8
_DATA_PAGE, _DATA_PAGE_V2 = 0, 3
BYTE_ARRAY = 6


@dataclass(frozen=True, eq=False)
class ColumnChunks:
    """What a footer says of its column chunks, each array (row groups, columns).

    physical_type: a number of Parquet's `Type`; values: how many, nulls included; encoded_bytes: uncompressed, as
    encoded; value_bytes: of the values of a BYTE_ARRAY column, -1 where the writer did not say; is_packed: whether
    values may be larger than their encoding.
    """

    physical_type: Int64Array
    values: Int64Array
    encoded_bytes: Int64Array
    value_bytes: Int64Array
    is_packed: BoolArray
    is_encrypted: bool


def column_chunks(footer: bytes, row_groups: int, columns: int) -> ColumnChunks:
    """Read a footer (without length and magic) with this many row groups and columns. Raises OSError when damaged."""
    if row_groups * columns > len(footer):
        raise OSError("the footer is damaged: cut short")
    found = np.full((5, row_groups, columns), -1, np.int64)
    try:
        is_encrypted = _footer(np.frombuffer(footer, np.uint8), found, np.zeros((_DEPTH, 4), np.int64))
    except ValueError as error:
        raise OSError(f"the footer is damaged: {error}") from error
    return ColumnChunks(found[0], found[1], found[2], found[3], found[4] != 0, bool(is_encrypted))


@njit(cache=True, nogil=True)
def _footer(data: UInt8Array, found: Int64Array, stack: Int64Array) -> bool:
    """Fill in the numbers of all column chunks; whether any is encrypted."""
    at = field = 0
    is_encrypted = False
    seen = 0
    while True:
        type_, field, at = _field(data, at, field)
        if type_ == 0:
            break
        if field == 4 and type_ == _LIST:  # row_groups
            size, element, at = _list(data, at)
            if size != found.shape[1] or (size and element != _STRUCT):
                raise ValueError("other row groups than it says")
            for group in range(size):
                is_group_encrypted, at = _row_group(data, at, found[:, group], stack)
                is_encrypted |= is_group_encrypted
            seen = 1
        else:
            is_encrypted |= field == 8  # encryption_algorithm
            at = _skip(data, at, type_, stack)
    if not seen and found.shape[1]:
        raise ValueError("no row groups")
    return is_encrypted


@njit(cache=True, nogil=True)
def _row_group(data: UInt8Array, at: Int, found: Int64Array, stack: Int64Array) -> tuple[bool, Int]:
    field = seen = 0
    is_encrypted = False
    while True:
        type_, field, at = _field(data, at, field)
        if type_ == 0:
            break
        if field == 1 and type_ == _LIST:  # columns
            size, element, at = _list(data, at)
            if size != found.shape[1] or (size and element != _STRUCT):
                raise ValueError("a row group has other columns than the schema")
            for column in range(size):
                is_column_encrypted, at = _column_chunk(data, at, found[:, column], stack)
                is_encrypted |= is_column_encrypted
            seen = 1
        else:
            at = _skip(data, at, type_, stack)
    if not seen and found.shape[1]:
        raise ValueError("a row group has no columns")
    return is_encrypted, at


@njit(cache=True, nogil=True)
def _column_chunk(data: UInt8Array, at: Int, found: Int64Array, stack: Int64Array) -> tuple[bool, Int]:
    field = 0
    is_encrypted = False
    while True:
        type_, field, at = _field(data, at, field)
        if type_ == 0:
            break
        if field == 3 and type_ == _STRUCT:  # meta_data
            at = _column_metadata(data, at, found, stack)
        else:
            is_encrypted |= field in (8, 9)  # crypto_metadata, encrypted_column_metadata
            at = _skip(data, at, type_, stack)
    if not is_encrypted and (found[0] < 0 or found[1] < 0 or found[2] < 0):
        raise ValueError("a column chunk without type or size")
    return is_encrypted, at


@njit(cache=True, nogil=True)
def _column_metadata(data: UInt8Array, at: Int, found: Int64Array, stack: Int64Array) -> Int:
    field = 0
    by_page = -1  # what encoding_stats say, which are of data pages only
    while True:
        type_, field, at = _field(data, at, field)
        if type_ == 0:
            break
        if field == 1 and type_ == _I32:
            found[0], at = _number(data, at)
        elif field == 5 and type_ == _I64:
            found[1], at = _number(data, at)
        elif field == 6 and type_ == _I64:
            found[2], at = _number(data, at)
        elif field == 2 and type_ == _LIST:  # encodings
            size, element, at = _list(data, at)
            found[4] = 0
            for _ in range(size):
                if element != _I32:
                    raise ValueError("encodings that are no numbers")
                encoding, at = _number(data, at)
                found[4] |= _packs(encoding)
        elif field == 13 and type_ == _LIST:  # encoding_stats
            size, element, at = _list(data, at)
            by_page = 0
            for _ in range(size):
                if element != _STRUCT:
                    raise ValueError("encoding statistics that are no structs")
                packs, at = _page_encoding(data, at, stack)
                by_page |= packs
        elif field == 16 and type_ == _STRUCT:  # size_statistics
            found[3], at = _unencoded_bytes(data, at, stack)
        else:
            at = _skip(data, at, type_, stack)
    if by_page >= 0:
        found[4] = by_page
    return at


@njit(cache=True, nogil=True)
def _page_encoding(data: UInt8Array, at: Int, stack: Int64Array) -> tuple[Int, Int]:
    field = 0
    page, encoding = -1, -1
    while True:
        type_, field, at = _field(data, at, field)
        if type_ == 0:
            return int(page in (_DATA_PAGE, _DATA_PAGE_V2)) & _packs(encoding), at
        if field == 1 and type_ == _I32:
            page, at = _number(data, at)
        elif field == 2 and type_ == _I32:
            encoding, at = _number(data, at)
        else:
            at = _skip(data, at, type_, stack)


@njit(cache=True, nogil=True)
def _unencoded_bytes(data: UInt8Array, at: Int, stack: Int64Array) -> tuple[Int, Int]:
    field = 0
    size = -1
    while True:
        type_, field, at = _field(data, at, field)
        if type_ == 0:
            return max(size, -1), at
        if field == 1 and type_ == _I64:
            size, at = _number(data, at)
        else:
            at = _skip(data, at, type_, stack)


@njit(cache=True, nogil=True)
def _packs(encoding: Int) -> Int:
    return int(encoding in (_PLAIN_DICTIONARY, _DELTA_BYTE_ARRAY, _RLE_DICTIONARY))


@njit(cache=True, nogil=True)
def _skip(data: UInt8Array, at: Int, type_: Int, stack: Int64Array) -> Int:
    """The position after a value.

    stack: int64 (depth, 4), of each struct, list, set or map around it: elements left (-1: a struct), their types in
    turn, and the number of the last field.
    """
    depth = 0
    while True:
        if type_ in (_I16, _I32, _I64):
            _, at = _number(data, at)
        elif type_ == _BYTE:
            at += 1
        elif type_ == _DOUBLE:
            at += 8
        elif type_ == _BINARY:
            size, at = _varint(data, at)
            at += size
        elif type_ in (_LIST, _SET, _MAP, _STRUCT):
            if depth == len(stack):
                raise ValueError("nested too deep")
            stack[depth, 0], stack[depth, 3] = -1, 0
            if type_ == _MAP:
                size, at = _varint(data, at)
                stack[depth, 0] = 2 * size
                if size:
                    _check(data, at)
                    stack[depth, 1], stack[depth, 2] = data[at] >> 4, data[at] & 15
                    at += 1
            elif type_ != _STRUCT:
                stack[depth, 0], stack[depth, 1], at = _list(data, at)
                stack[depth, 2] = stack[depth, 1]
            depth += 1
        elif type_ not in (_TRUE, _FALSE):
            raise ValueError("an unknown type")
        if at > len(data):
            raise ValueError("cut short")
        is_value = False
        while depth and not is_value:  # the next value of the innermost of them, or of the one around it
            top = depth - 1
            if stack[top, 0] < 0:
                type_, stack[top, 3], at = _field(data, at, stack[top, 3])
                is_value = type_ != 0
            elif stack[top, 0] > 0:
                type_ = stack[top, 1 + stack[top, 0] % 2]
                type_ = _BYTE if type_ in (_TRUE, _FALSE) else type_  # no booleans of a field's head
                stack[top, 0] -= 1
                is_value = True
            if not is_value:
                depth -= 1
        if not is_value:
            return at


@njit(cache=True, nogil=True)
def _field(data: UInt8Array, at: Int, before: Int) -> tuple[Int, Int, Int]:
    """Type (0: the end of its struct) and number of the field at a position, and where its value begins."""
    _check(data, at)
    head = np.int64(data[at])
    at += 1
    if head == 0:
        return 0, before, at
    if head >> 4:
        return head & 15, before + (head >> 4), at
    number, at = _number(data, at)
    return head & 15, number, at


@njit(cache=True, nogil=True)
def _list(data: UInt8Array, at: Int) -> tuple[Int, Int, Int]:
    """Size and type of the elements of a list, and where they begin."""
    _check(data, at)
    head = np.int64(data[at])
    at += 1
    size = head >> 4
    if size == 15:
        size, at = _varint(data, at)
    return size, head & 15, at


@njit(cache=True, nogil=True)
def _number(data: UInt8Array, at: Int) -> tuple[Int, Int]:
    """A signed number, and what comes after it."""
    value = np.uint64(0)
    for shift in range(0, 70, 7):
        _check(data, at)
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
    raise ValueError("a number without end")


@njit(cache=True, nogil=True)
def _varint(data: UInt8Array, at: Int) -> tuple[Int, Int]:
    """A size of no more than what is left of the footer, and what comes after it."""
    value = np.uint64(0)
    for shift in range(0, 70, 7):
        _check(data, at)
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            if value > np.uint64(len(data) - at):
                raise ValueError("cut short")
            return np.int64(value), at
    raise ValueError("a number without end")


@njit(cache=True, nogil=True)
def _check(data: UInt8Array, at: Int) -> None:
    if at < 0 or at >= len(data):
        raise ValueError("cut short")
