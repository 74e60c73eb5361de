"""Where public IP addresses stand in a text batch."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Network

import numpy as np
from numba import njit

from gneiss.arrays import Int, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.address_rows import (
    ALNUM,
    BETWEEN,
    BITS,
    COLON,
    DIGIT,
    DOT,
    HEX,
    HYPHEN,
    IPV4,
    IPV6,
    LETTER,
    Rows,
    hash_lower,
    hashes,
    is_among,
    room,
)

#: Words before the number of a version or a section.
NUMBERED = (
    "api", "article", "build", "chapter", "clause", "driver", "figure", "firmware", "patch", "release", "rev",
    "revision", "sdk", "section", "table", "update", "v", "ver", "version",
)  # fmt: skip
#: Networks of IPv4 that are nobody's address (IANA special-purpose registry, RFC 6890; multicast and reserved).
NO_NETWORKS = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
)  # fmt: skip
#: Four numbers below the first of these, or three below the second, are those of a section or of a version.
SMALL, SMALLER = 32, 10
_LONGEST_IPV6 = 39


def find_ips(batch: TextBatch, emails: Rows) -> Rows:
    """All IP addresses, in order, but those that begin or end inside an e-mail address."""
    rows = room(batch.size_bytes // 7)  # the shortest has 7 bytes
    return rows[: _find_ips(batch.data, batch.offsets, _networks(), _numbered(), emails, rows)]


@cache
def _numbered() -> UInt64Array:
    return hashes(NUMBERED)


@cache
def _networks() -> Int64Array:
    """First and last address of each network, int64 (networks, 2)."""
    networks = [IPv4Network(network) for network in NO_NETWORKS]
    return np.array([(int(network[0]), int(network[-1])) for network in networks], np.int64)


@njit(cache=True, nogil=True)
def _find_ips(
    data: UInt8Array, offsets: Int64Array, networks: Int64Array, numbered: UInt64Array, emails: Rows, rows: Rows
) -> Int:
    count, email = 0, 0
    for document in range(len(offsets) - 1):
        begin, end = offsets[document], offsets[document + 1]
        for position in range(begin, end):
            byte = data[position]
            if byte != DOT and byte != COLON:
                continue
            kind = IPV4 if byte == DOT else IPV6
            if kind == IPV4:
                start, stop, personal = _ipv4_around(data, begin, position, end, networks, numbered)
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
            row["kind"], row["key"], row["personal"] = kind, hash_lower(data, start, stop), personal
            count += 1
    return count


@njit(cache=True, nogil=True)
def _is_alnum(data: UInt8Array, position: Int, end: Int) -> bool:
    """Whether a position holds an ASCII letter or digit."""
    return bool(position < end and BITS[data[position]] & ALNUM != 0)


@njit(cache=True, nogil=True)
def _follows_freely(data: UInt8Array, begin: Int, start: Int) -> bool:
    """Whether an IPv4 address may begin here: after no letter, digit or dot, but after an ellipsis or the word IP."""
    if start == begin:
        return True
    before = data[start - 1]
    if before == DOT:
        return bool(start - 2 >= begin and data[start - 2] == DOT)
    if not BITS[before] & ALNUM:
        return True
    return bool(
        start - 2 >= begin
        and before | 0x20 == 0x70
        and data[start - 2] | 0x20 == 0x69
        and not (start - 3 >= begin and BITS[data[start - 3]] & ALNUM)
    )


@njit(cache=True, nogil=True)
def _is_numbered(data: UInt8Array, begin: Int, start: Int, numbered: UInt64Array) -> bool:
    """Whether a number follows a word such as `version`, with at most three of space . : = # and quotes between."""
    end = start
    while end > begin and start - end < 3 and BITS[data[end - 1]] & BETWEEN:
        end -= 1
    word = end
    while word > begin and end - word < 10 and BITS[data[word - 1]] & LETTER:
        word -= 1
    return bool(word < end and is_among(hash_lower(data, word, end), numbered))


@njit(cache=True, nogil=True)
def _ipv4_around(
    data: UInt8Array, begin: Int, dot: Int, end: Int, networks: Int64Array, numbered: UInt64Array
) -> tuple[Int, Int, bool]:
    """Bounds of the address whose first dot is this, and whether it is somebody's; -1 for the end if there is none."""
    start = dot
    while start > begin and dot - start < 3 and BITS[data[start - 1]] & DIGIT:
        start -= 1
    if start == dot or not _follows_freely(data, begin, start):
        return start, -1, False
    position, address, small, smaller = start, np.int64(0), np.int64(0), np.int64(0)
    for part in range(4):
        if part:
            if position >= end or data[position] != DOT:
                return start, -1, False
            position += 1
        first, number = position, np.int64(0)
        while position < end and position - first < 3 and BITS[data[position]] & DIGIT:
            number = number * 10 + np.int64(data[position]) - 48
            position += 1
        if position == first or number > 255 or (position - first > 1 and data[first] == 48):
            return start, -1, False
        address = address * 256 + number
        small, smaller = small + (number < SMALL), smaller + (number < SMALLER)
    if _is_alnum(data, position, end):
        return start, -1, False
    if position + 1 < end and data[position] == DOT and BITS[data[position + 1]] & DIGIT:
        return start, -1, False
    personal = small < 4 and smaller < 3 and not _is_numbered(data, begin, start, numbered)
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
    if start > begin and (_is_alnum(data, start - 1, end) or data[start - 1] in (DOT, HYPHEN)):
        return start, -1, False  # after a hyphen it is a date: 7-Jan-2004::17:00:59
    if start > begin and data[start - 1] == COLON and not _is_label(data, begin, start - 1):
        return start, -1, False
    after = start
    while after < end and (BITS[data[after]] & HEX or data[after] == COLON):
        after += 1
    stop = after - (data[after - 1] == COLON)  # which may be the sentence's
    if data[stop - 1] == COLON or _is_alnum(data, after, end):
        return start, -1, False
    last = stop  # where the last group begins
    while data[last - 1] != COLON:
        last -= 1
    if stop == after and not _is_port(data, after, end):
        return start, -1, False  # an IPv4 address in it is found by itself
    personal = _is_ipv6(data, start, stop)
    if personal < 0 and last - 1 > start and data[last - 2] != COLON:  # a port may follow
        port = last
        while port < stop and BITS[data[port]] & DIGIT:
            port += 1
        if port == stop and stop - last <= 5:
            stop = last - 1
            personal = _is_ipv6(data, start, stop)
    return start, stop if personal >= 0 else -1, personal > 0


@njit(cache=True, nogil=True)
def _is_label(data: UInt8Array, begin: Int, colon: Int) -> bool:
    """Whether what stands before a colon is a word, such as IPv6 or client, and no group of an address."""
    start, is_hex = colon, True
    while start > begin and colon - start <= 4 and BITS[data[start - 1]] & ALNUM:
        start -= 1
        is_hex = is_hex and BITS[data[start]] & HEX != 0
    if start == colon:
        return bool(colon == begin or data[colon - 1] != COLON)
    return bool(not is_hex or colon - start > 4)


@njit(cache=True, nogil=True)
def _is_port(data: UInt8Array, position: Int, end: Int) -> bool:
    """Whether no number follows a dot here, or only one of up to five digits."""
    if position + 1 >= end or data[position] != DOT or not BITS[data[position + 1]] & DIGIT:
        return True
    after = position + 1
    while after < end and after - position <= 6 and BITS[data[after]] & DIGIT:
        after += 1
    if after - position > 6 or _is_alnum(data, after, end):
        return False
    return not (after + 1 < end and data[after] == DOT and BITS[data[after + 1]] & DIGIT != 0)


@njit(cache=True, nogil=True)
def _is_ipv6(data: UInt8Array, start: Int, stop: Int) -> Int:
    """Whether hexadecimal digits and colons are an address whose first group is four digits: 1, 0 if it is nobody's,
    -1 if they are none.
    """
    if stop - start > _LONGEST_IPV6:
        return -1
    groups, gaps, digits = 0, 0, 0
    value, first, second = np.int64(0), np.int64(0), np.int64(0)
    for position in range(start, stop + 1):
        if position < stop and data[position] != COLON:
            byte = np.int64(data[position])
            value, digits = value * 16 + (byte - 48 if byte <= 57 else (byte | 0x20) - 87), digits + 1
            if digits > 4:
                return -1
        elif digits:
            if groups == 0:
                first = value
            elif groups == 1 and gaps == 0:
                second = value
            groups, digits, value = groups + 1, 0, np.int64(0)
        else:
            gaps += 1
    if gaps > 1 or groups > 8 - gaps or groups < 8 - 8 * gaps:
        return -1
    is_special = (first == 0x2001 and (second < 0x200 or second == 0xDB8)) or (first == 0x3FFF and second < 0x1000)
    return 0 if is_special else 1
