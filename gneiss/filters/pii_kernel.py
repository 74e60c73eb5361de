"""Where e-mail addresses and IP addresses stand in a text batch: in bytes, without a Python string per document."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

from gneiss.arrays import BoolArray, Int, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch

#: What `Found.kind` says.
EMAIL, IPV4, IPV6 = range(3)
#: Names at which nobody has an address: reserved (RFC 2606, 6761, 6762), or endings of file and unit names.
NO_DOMAINS = (
    "example.com", "example.net", "example.org", "example", "invalid", "local", "localdomain", "localhost", "test",
    "conf", "gif", "jpeg", "jpg", "mount", "png", "service", "socket", "svg", "target", "timer", "webp",
)  # fmt: skip
#: Networks of IPv4 that are nobody's address (IANA special-purpose registry, RFC 6890; multicast and reserved).
NO_NETWORKS = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
)  # fmt: skip
#: Four numbers below the first of these, or three below the second, are those of a section or of a version.
SMALL, SMALLER = 32, 10
_LETTER, _DIGIT, _HEX, _LOCAL = 1, 2, 4, 8
_LONGEST_IPV6 = 39


def _character_bits() -> UInt8Array:
    bits = np.zeros(256, np.uint8)
    for characters, bit in (
        (b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", _LETTER | _LOCAL),
        (b"0123456789", _DIGIT | _HEX | _LOCAL),
        (b"abcdefABCDEF", _HEX),
        (b"._%+-", _LOCAL),
    ):
        bits[list(characters)] |= bit
    return bits


_BITS = _character_bits()
_ALNUM = _LETTER | _DIGIT
_AT, _DOT, _HYPHEN, _COLON, _UNDERSCORE = b"@.-:_"


@dataclass(frozen=True, eq=False)
class Found:
    """Addresses in a batch, all arrays (addresses,), sorted by document and start, disjoint.

    document, start, end: int64, bytes counted from the document's first; kind: uint8; key: uint64, a hash of the
    address in lower case; personal: bool, false where it is nobody's: a reserved name or network.
    """

    document: Int64Array
    start: Int64Array
    end: Int64Array
    kind: UInt8Array
    key: UInt64Array
    personal: BoolArray


def find_addresses(batch: TextBatch, email: bool, ip: bool) -> Found:
    """All addresses of the kinds asked for. With both, no IP address begins or ends inside an e-mail address.

    >>> found = find_addresses(TextBatch.of(["", "a@b.org, 99.41.2.3, c@example.org"]), True, True)
    >>> found.start.tolist(), found.end.tolist(), found.kind.tolist(), found.personal.tolist()
    ([0, 9, 20], [7, 18, 33], [0, 1, 0], [True, True, False])
    """
    at_signs = int(np.count_nonzero(batch.data[batch.offsets[0] : batch.offsets[-1]] == _AT)) if email else 0
    emails = _room(at_signs)
    count = _find_emails(batch.data, batch.offsets, _name_hashes(), emails) if at_signs else 0
    emails = emails[:count]
    ips = _room(batch.size_bytes // 7 if ip else 0)  # the shortest has 7 bytes
    count = _find_ips(batch.data, batch.offsets, _networks(), emails, ips) if ip else 0
    rows = np.concatenate([emails, ips[:count]])
    rows = rows[np.lexsort((rows["start"], rows["document"]))]
    return Found(*(np.ascontiguousarray(rows[name]) for name in _ROW.names or ()))


_ROW = np.dtype(
    [
        ("document", np.int64), ("start", np.int64), ("end", np.int64), ("kind", np.uint8), ("key", np.uint64),
        ("personal", np.bool_),
    ],
    align=True,
)  # fmt: skip
Rows: TypeAlias = npt.NDArray[np.void]


def _room(rows: int) -> Rows:
    return np.empty(rows, _ROW)


@cache
def _name_hashes() -> UInt64Array:
    encoded = [np.frombuffer(name.encode(), np.uint8) for name in NO_DOMAINS]
    return np.array([_hash_lower(name, 0, len(name)) for name in encoded], np.uint64)


@cache
def _networks() -> Int64Array:
    """First and last address of each network, int64 (networks, 2)."""
    from ipaddress import IPv4Network

    networks = [IPv4Network(network) for network in NO_NETWORKS]
    return np.array([(int(network[0]), int(network[-1])) for network in networks], np.int64)


@njit(cache=True, nogil=True)
def _hash_lower(data: UInt8Array, start: Int, end: Int) -> np.uint64:
    """FNV-1a of ASCII text, case aside."""
    value = uint64(0xCBF29CE484222325)
    for position in range(start, end):
        byte = data[position]
        value = (value ^ uint64(byte + 32 if 65 <= byte <= 90 else byte)) * uint64(0x100000001B3)
    return value


@njit(cache=True, nogil=True)
def _find_emails(data: UInt8Array, offsets: Int64Array, no_domains: UInt64Array, rows: Rows) -> Int:
    count = 0
    for document in range(len(offsets) - 1):
        begin, end = offsets[document], offsets[document + 1]
        for position in range(begin, end):
            if data[position] != _AT:
                continue
            start, first = position, position  # of the address; of what may be a local part
            while first > begin and _BITS[data[first - 1]] & _LOCAL:
                first -= 1
                if _BITS[data[first]] & _ALNUM:
                    start = first
            if start == position or data[position - 1] == _DOT:
                continue
            stop = _domain_end(data, position + 1, end)
            after = max(stop, position)
            while after < end and _BITS[data[after]] & _LOCAL:
                after += 1
            if stop < 0 or (after < end and data[after] == _AT):
                continue
            row = rows[count]
            row["document"], row["start"], row["end"] = document, start - begin, stop - begin
            row["kind"], row["key"] = EMAIL, _hash_lower(data, start, stop)
            row["personal"] = not (
                _is_git(data, start, position) or _is_no_domain(data, position + 1, stop, no_domains)
            )
            count += 1
    return count


@njit(cache=True, nogil=True)
def _domain_end(data: UInt8Array, position: Int, end: Int) -> Int:
    """Where the longest domain name from a position on ends; -1 if there is none."""
    stop, labels = -1, 0
    while position < end and _BITS[data[position]] & _ALNUM:
        letters = position
        while letters < end and _BITS[data[letters]] & _LETTER:
            letters += 1
        last, after = position, letters
        if letters > position:
            last = letters - 1
        while after < end and (_BITS[data[after]] & _ALNUM or data[after] == _HYPHEN):
            if data[after] != _HYPHEN:
                last = after
            after += 1
        if labels:
            if last - position >= 4 and _is_encoded(data, position):
                stop = last + 1
            elif letters - position >= 2:
                stop = letters
        if last + 1 < after or after >= end or data[after] != _DOT:
            break
        position, labels = after + 1, labels + 1
    return stop


@njit(cache=True, nogil=True)
def _is_encoded(data: UInt8Array, position: Int) -> bool:
    """Whether a label begins with xn--."""
    return bool(
        data[position] | 0x20 == 0x78
        and data[position + 1] | 0x20 == 0x6E
        and data[position + 2] == _HYPHEN
        and data[position + 3] == _HYPHEN
    )


@njit(cache=True, nogil=True)
def _is_git(data: UInt8Array, start: Int, end: Int) -> bool:
    """Whether a local part is `git`, the account of an address to clone from."""
    return bool(
        end - start == 3
        and data[start] | 0x20 == 0x67
        and data[start + 1] | 0x20 == 0x69
        and data[start + 2] | 0x20 == 0x74
    )


@njit(cache=True, nogil=True)
def _is_no_domain(data: UInt8Array, start: Int, end: Int, no_domains: UInt64Array) -> bool:
    """Whether the last label of a domain, or its last two, are one of these names."""
    dots, position = 0, end
    while position > start and dots < 2:
        position -= 1
        if data[position] == _DOT or position == start:
            dots += 1
            value = _hash_lower(data, position + (data[position] == _DOT), end)
            for name in no_domains:
                if value == name:
                    return True
    return False


@njit(cache=True, nogil=True)
def _find_ips(data: UInt8Array, offsets: Int64Array, networks: Int64Array, emails: Rows, rows: Rows) -> Int:
    count, email = 0, 0
    for document in range(len(offsets) - 1):
        begin, end = offsets[document], offsets[document + 1]
        for position in range(begin, end):
            byte = data[position]
            if byte != _DOT and byte != _COLON:
                continue
            kind = IPV4 if byte == _DOT else IPV6
            if kind == IPV4:
                start, stop, personal = _ipv4_around(data, begin, position, end, networks)
            else:
                start, stop, personal = _ipv6_around(data, begin, position, end)
            if stop < 0:
                continue
            while email < len(emails) and (
                emails[email]["document"] < document
                or (emails[email]["document"] == document and emails[email]["end"] <= start - begin)
            ):
                email += 1
            if email < len(emails) and emails[email]["document"] == document and emails[email]["start"] < stop - begin:
                continue
            row = rows[count]
            row["document"], row["start"], row["end"] = document, start - begin, stop - begin
            row["kind"], row["key"], row["personal"] = kind, _hash_lower(data, start, stop), personal
            count += 1
    return count


@njit(cache=True, nogil=True)
def _joins(data: UInt8Array, position: Int, end: Int) -> bool:
    """Whether a position holds an ASCII letter, digit or underscore."""
    return bool(position < end and (_BITS[data[position]] & _ALNUM != 0 or data[position] == _UNDERSCORE))


@njit(cache=True, nogil=True)
def _ipv4_around(data: UInt8Array, begin: Int, dot: Int, end: Int, networks: Int64Array) -> tuple[Int, Int, bool]:
    """Bounds of the address whose first dot is this, and whether it is somebody's; -1 for the end if there is none."""
    start = dot
    while start > begin and dot - start < 3 and _BITS[data[start - 1]] & _DIGIT:
        start -= 1
    if start == dot or (start > begin and (_joins(data, start - 1, end) or data[start - 1] == _DOT)):
        return start, -1, False
    position, address, small, smaller = start, np.int64(0), np.int64(0), np.int64(0)
    for part in range(4):
        if part:
            if position >= end or data[position] != _DOT:
                return start, -1, False
            position += 1
        first, number = position, np.int64(0)
        while position < end and position - first < 3 and _BITS[data[position]] & _DIGIT:
            number = number * 10 + np.int64(data[position]) - 48
            position += 1
        if position == first or number > 255 or (position - first > 1 and data[first] == 48):
            return start, -1, False
        address = address * 256 + number
        small, smaller = small + (number < SMALL), smaller + (number < SMALLER)
    if _joins(data, position, end):
        return start, -1, False
    if position + 1 < end and data[position] == _DOT and _BITS[data[position + 1]] & _DIGIT:
        return start, -1, False
    personal = small < 4 and smaller < 3
    for network in range(len(networks)):
        personal &= not networks[network, 0] <= address <= networks[network, 1]
    return start, position, bool(personal)


@njit(cache=True, nogil=True)
def _ipv6_around(data: UInt8Array, begin: Int, colon: Int, end: Int) -> tuple[Int, Int, bool]:
    """Bounds of the address whose first colon is this, and whether it is somebody's; -1 for the end if there is none.

    Only 2000::/3 is looked at: four hexadecimal digits, of which the first is 2 or 3. Code has nothing that looks so.
    """
    start = colon - 4
    if start < begin or not 0x32 <= data[start] <= 0x33:
        return start, -1, False
    if start > begin and (_joins(data, start - 1, end) or data[start - 1] in (_DOT, _COLON, _HYPHEN)):
        return start, -1, False  # after a hyphen it is a date: 7-Jan-2004::17:00:59
    after = start
    while after < end and (_BITS[data[after]] & _HEX or data[after] == _COLON):
        after += 1
    stop = after - (data[after - 1] == _COLON)  # which may be the sentence's
    if data[stop - 1] == _COLON or stop - start > _LONGEST_IPV6 or _joins(data, after, end):
        return start, -1, False
    if stop == after and after + 1 < end and data[after] == _DOT and _BITS[data[after + 1]] & _DIGIT:
        return start, -1, False
    groups, gaps, digits = 0, 0, 0
    value, first, second = np.int64(0), np.int64(0), np.int64(0)
    for position in range(start, stop + 1):
        if position < stop and data[position] != _COLON:
            byte = np.int64(data[position])
            value, digits = value * 16 + (byte - 48 if byte <= 57 else (byte | 0x20) - 87), digits + 1
            if digits > 4:
                return start, -1, False
        elif digits:
            if groups == 0:
                if position != colon:
                    return start, -1, False
                first = value
            elif groups == 1 and gaps == 0:
                second = value
            groups, digits, value = groups + 1, 0, np.int64(0)
        else:
            gaps += 1
    if gaps > 1 or groups > 8 - gaps or groups < 8 - 8 * gaps:
        return start, -1, False
    is_special = (first == 0x2001 and (second < 0x200 or second == 0xDB8)) or (first == 0x3FFF and second < 0x1000)
    return start, stop, not is_special
