"""Where e-mail addresses and IP addresses stand in a text batch: in bytes, without a Python string per document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

from gneiss.arrays import BoolArray, Int, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.characters import MARK_RANGES, NUMBER_RANGES, WORD_RANGES
from gneiss.filters.segmentation import class_at
from gneiss.filters.segmentation_characters import code_points
from gneiss.filters.top_level_domains import TOP_LEVEL_DOMAINS

#: What `Found.kind` says.
EMAIL, IPV4, IPV6 = range(3)
#: Names at which nobody has an address: reserved (RFC 2606, 6761, 6762), and systemd's targets (getty@tty1.target).
NO_DOMAINS = (
    "example.com", "example.net", "example.org", "example", "invalid", "local", "localdomain", "localhost", "test",
    "target",
)  # fmt: skip
#: Top-level domains that are also names of methods: before a parenthesis they are taken for these.
METHODS = ("bit", "call", "cat", "dot", "fit", "int", "is", "map", "now", "run", "save", "show", "to", "zip")
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
#: Bits of characters. Letters beyond ASCII are of Latin, Greek and Cyrillic, which mix with ASCII in a name, or of
#: other scripts, which do not: where an address in ASCII stands in Chinese, the text around it is no part of it.
_LETTER, _DIGIT, _HEX, _LOCAL, _EUROPEAN, _OTHER, _BETWEEN = 1, 2, 4, 8, 16, 32, 64
_LETTERS = _LETTER | _EUROPEAN | _OTHER
_LONGEST_IPV6 = 39


def _character_bits() -> UInt8Array:
    bits = np.zeros(256, np.uint8)
    for characters, bit in (
        (b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", _LETTER | _LOCAL),
        (b"0123456789", _DIGIT | _HEX | _LOCAL),
        (b"abcdefABCDEF", _HEX),
        (b"._%+-", _LOCAL),
        (b" .:=#\"'", _BETWEEN),
    ):
        bits[list(characters)] |= bit
    return bits


_BITS = _character_bits()
_ALNUM = _LETTER | _DIGIT
_NAME = _LOCAL | _EUROPEAN | _OTHER
_AT, _DOT, _HYPHEN, _COLON, _UNDERSCORE, _PARENTHESIS, _BRACKET = b"@.-:_(["
#: Latin, Greek and Cyrillic beyond ASCII, with their combining marks (hexadecimal, inclusive).
_EUROPEAN_RANGES = (
    "AA B5 BA C0-D6 D8-F6 F8-24F 250-2AF 300-36F 370-52F 1C80-1C8F 1D00-1FFF 2C60-2C7F A640-A69F A720-A7FF"
)


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
    count = _find_emails(batch.data, batch.offsets, _characters(), _names(), emails) if at_signs else 0
    emails = emails[:count]
    ips = _room(batch.size_bytes // 7 if ip else 0)  # the shortest has 7 bytes
    count = _find_ips(batch.data, batch.offsets, _networks(), _names().numbered, emails, ips) if ip else 0
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


class Names(NamedTuple):
    """Hashes of names, each uint64 (names,), sorted."""

    no_domains: UInt64Array
    top_level: UInt64Array
    methods: UInt64Array
    numbered: UInt64Array


@cache
def _names() -> Names:
    def hashes(names: Iterable[str]) -> UInt64Array:
        encoded = [np.frombuffer(name.encode(), np.uint8) for name in names]
        return np.sort(np.array([_hash_lower(name, 0, len(name)) for name in encoded], np.uint64))

    reserved = (name for name in NO_DOMAINS if "." not in name)
    return Names(hashes(NO_DOMAINS), hashes([*TOP_LEVEL_DOMAINS.split(), *reserved]), hashes(METHODS), hashes(NUMBERED))


@cache
def _characters() -> UInt8Array:
    """The bits of letters and marks beyond ASCII, uint8 (0x110000,)."""
    bits = np.zeros(0x110000, np.uint8)
    for ranges in (WORD_RANGES, MARK_RANGES):
        for part in code_points(ranges):
            bits[part] = _OTHER
    for ranges in (NUMBER_RANGES, "0-7F"):
        for part in code_points(ranges):
            bits[part] = 0
    for part in code_points(_EUROPEAN_RANGES):
        bits[part] = np.where(bits[part], _EUROPEAN, 0)
    return bits


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
def _is_among(value: Int, hashes: UInt64Array) -> bool:
    place = np.searchsorted(hashes, value)
    return bool(place < len(hashes) and hashes[place] == value)


@njit(cache=True, nogil=True)
def _kind_at(data: UInt8Array, position: Int, end: Int, characters: UInt8Array) -> tuple[Int, Int]:
    """Bits of the character at a position before `end`, and its bytes."""
    if data[position] < 0x80:
        return _BITS[data[position]], 1
    return class_at(data, position, end, characters)


@njit(cache=True, nogil=True)
def _kind_before(data: UInt8Array, begin: Int, position: Int, characters: UInt8Array) -> tuple[Int, Int]:
    """Bits of the character that ends at a position, and its bytes."""
    start = position - 1
    while start > begin and position - start < 4 and data[start] & 0xC0 == 0x80:
        start -= 1
    kind, width = _kind_at(data, start, position, characters)
    return (kind if start + width == position else 0), position - start


@njit(cache=True, nogil=True)
def _mixes(kind: Int, others: Int) -> bool:
    """Whether a name may have a character besides those of the kinds that it has."""
    if kind & _OTHER:
        return bool(others & (_LETTER | _EUROPEAN) == 0)
    return bool(kind & (_LETTER | _EUROPEAN) == 0 or others & _OTHER == 0)


@njit(cache=True, nogil=True)
def _find_emails(data: UInt8Array, offsets: Int64Array, characters: UInt8Array, names: Names, rows: Rows) -> Int:
    count = 0
    for document in range(len(offsets) - 1):
        begin, end = offsets[document], offsets[document + 1]
        for position in range(begin, end):
            if data[position] != _AT:
                continue
            start, first, kinds = position, position, 0  # of the address; of what may be a local part
            while first > begin:
                kind, width = _kind_before(data, begin, first, characters)
                if not kind & _NAME or not _mixes(kind, kinds):
                    break
                first, kinds = first - width, kinds | kind
                if kind & (_LETTERS | _DIGIT):
                    start = first
            if start == position or data[position - 1] == _DOT:
                continue
            stop = _domain_end(data, position + 1, end, characters, names.top_level)
            after = max(stop, position)
            while after < end:
                kind, width = _kind_at(data, after, end, characters)
                if not kind & _NAME:
                    break
                after += width
            if stop < 0 or (after < end and data[after] == _AT) or _is_code(data, start, position, stop, end, names):
                continue
            row = rows[count]
            row["document"], row["start"], row["end"] = document, start - begin, stop - begin
            row["kind"], row["key"] = EMAIL, _hash_lower(data, start, stop)
            row["personal"] = not (
                _is_git(data, start, position) or _is_no_domain(data, position + 1, stop, names.no_domains)
            )
            count += 1
    return count


@njit(cache=True, nogil=True)
def _domain_end(data: UInt8Array, position: Int, end: Int, characters: UInt8Array, top_level: UInt64Array) -> Int:
    """Where the longest domain name from a position on ends; -1 if there is none."""
    stop, labels = -1, 0
    while position < end:
        after, last, kinds = position, position, 0  # of the label: the end, that of its last letter or digit
        while after < end:
            kind, width = _kind_at(data, after, end, characters)
            if kind & (_LETTERS | _DIGIT) and _mixes(kind, kinds):
                after, kinds = after + width, kinds | kind
                last = after
            elif data[after] == _HYPHEN and after > position:
                after += 1
            else:
                break
        if last == position:
            break
        if labels:
            top = _top_level_end(data, position, last, end, characters, top_level)
            stop = top if top > 0 else stop
        if last < after or after >= end or data[after] != _DOT:
            break
        position, labels = after + 1, labels + 1
    return stop


@njit(cache=True, nogil=True)
def _top_level_end(
    data: UInt8Array, start: Int, end: Int, document_end: Int, characters: UInt8Array, top_level: UInt64Array
) -> Int:
    """Where the top-level domain ends with which a label begins; -1 if there is none."""
    if end - start > 4 and _is_encoded(data, start):
        return end
    stop, letters, change = start, 0, -1
    if data[start] >= 0x80:
        while stop < end:
            kind, width = class_at(data, stop, end, characters)
            if data[stop] < 0x80 or not kind:
                break
            stop, letters = stop + width, letters + 1
        follows = _kind_at(data, stop, document_end, characters)[0] if stop < document_end else 0
        return stop if letters >= 2 and not follows & _LETTERS else -1
    while stop < end and _BITS[data[stop]] & _LETTER:
        if stop > start and change < 0 and data[stop] < 0x61 <= data[stop - 1]:
            change = stop  # from small letters to capitals
        stop += 1
    if stop - start >= 2 and change < 0 and _is_among(_hash_lower(data, start, stop), top_level):
        return stop
    if change - start >= 3 and _is_among(_hash_lower(data, start, change), top_level):
        return change  # where the next sentence follows without a space
    return -1


@njit(cache=True, nogil=True)
def _is_code(data: UInt8Array, start: Int, at: Int, stop: Int, end: Int, names: Names) -> bool:
    """Whether what looks like an address is code or a version: `X@W.to(d)`, `x@w.is_leaf`, `a@2x.zip`, `it@v2.dev`."""
    if stop + 1 < end and data[stop] == _UNDERSCORE and _BITS[data[stop + 1]] & _ALNUM:
        return True
    last, dots, numeric = stop, 0, True
    for position in range(stop - 1, at, -1):
        if data[position] == _DOT:
            dots += 1
            last = position + 1 if dots == 1 else last
        elif dots:
            numeric &= _BITS[data[position]] & _DIGIT != 0
    if numeric and dots > 1:
        return True
    label = at + 1  # is the first of v2 or 2x?
    digits = label + (data[label] | 0x20 == 0x76)
    after = digits
    while after < stop and _BITS[data[after]] & _DIGIT:
        after += 1
    if after > digits and (digits > label or data[after] | 0x20 == 0x78) and data[after + (digits == label)] == _DOT:
        return True
    if stop < end and (data[stop] == _PARENTHESIS or data[stop] == _BRACKET):
        is_short = at - start <= 2 or (dots == 1 and last - 1 - label <= 2)
        return bool(is_short or _is_among(_hash_lower(data, last, stop), names.methods))
    return False


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
            if _is_among(value, no_domains):
                return True
    return False


@njit(cache=True, nogil=True)
def _find_ips(
    data: UInt8Array, offsets: Int64Array, networks: Int64Array, numbered: UInt64Array, emails: Rows, rows: Rows
) -> Int:
    count, email = 0, 0
    for document in range(len(offsets) - 1):
        begin, end = offsets[document], offsets[document + 1]
        for position in range(begin, end):
            byte = data[position]
            if byte != _DOT and byte != _COLON:
                continue
            kind = IPV4 if byte == _DOT else IPV6
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
            row["kind"], row["key"], row["personal"] = kind, _hash_lower(data, start, stop), personal
            count += 1
    return count


@njit(cache=True, nogil=True)
def _is_alnum(data: UInt8Array, position: Int, end: Int) -> bool:
    """Whether a position holds an ASCII letter or digit."""
    return bool(position < end and _BITS[data[position]] & _ALNUM != 0)


@njit(cache=True, nogil=True)
def _follows_freely(data: UInt8Array, begin: Int, start: Int) -> bool:
    """Whether an IPv4 address may begin here: after no letter, digit or dot, but after an ellipsis or the word IP."""
    if start == begin:
        return True
    before = data[start - 1]
    if before == _DOT:
        return bool(start - 2 >= begin and data[start - 2] == _DOT)
    if not _BITS[before] & _ALNUM:
        return True
    return bool(
        start - 2 >= begin
        and before | 0x20 == 0x70
        and data[start - 2] | 0x20 == 0x69
        and not (start - 3 >= begin and _BITS[data[start - 3]] & _ALNUM)
    )


@njit(cache=True, nogil=True)
def _is_numbered(data: UInt8Array, begin: Int, start: Int, numbered: UInt64Array) -> bool:
    """Whether a number follows a word such as `version`, with at most three of space . : = # and quotes between."""
    end = start
    while end > begin and start - end < 3 and _BITS[data[end - 1]] & _BETWEEN:
        end -= 1
    word = end
    while word > begin and end - word < 10 and _BITS[data[word - 1]] & _LETTER:
        word -= 1
    return bool(word < end and _is_among(_hash_lower(data, word, end), numbered))


@njit(cache=True, nogil=True)
def _ipv4_around(
    data: UInt8Array, begin: Int, dot: Int, end: Int, networks: Int64Array, numbered: UInt64Array
) -> tuple[Int, Int, bool]:
    """Bounds of the address whose first dot is this, and whether it is somebody's; -1 for the end if there is none."""
    start = dot
    while start > begin and dot - start < 3 and _BITS[data[start - 1]] & _DIGIT:
        start -= 1
    if start == dot or not _follows_freely(data, begin, start):
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
    if _is_alnum(data, position, end):
        return start, -1, False
    if position + 1 < end and data[position] == _DOT and _BITS[data[position + 1]] & _DIGIT:
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
    if start > begin and (_is_alnum(data, start - 1, end) or data[start - 1] in (_DOT, _HYPHEN)):
        return start, -1, False  # after a hyphen it is a date: 7-Jan-2004::17:00:59
    if start > begin and data[start - 1] == _COLON and not _is_label(data, begin, start - 1):
        return start, -1, False
    after = start
    while after < end and (_BITS[data[after]] & _HEX or data[after] == _COLON):
        after += 1
    stop = after - (data[after - 1] == _COLON)  # which may be the sentence's
    if data[stop - 1] == _COLON or _is_alnum(data, after, end):
        return start, -1, False
    last = stop  # where the last group begins
    while data[last - 1] != _COLON:
        last -= 1
    if stop == after and not _is_port(data, after, end):
        return start, -1, False  # an IPv4 address in it is found by itself
    personal = _is_ipv6(data, start, stop)
    if personal < 0 and last - 1 > start and data[last - 2] != _COLON:  # a port may follow
        port = last
        while port < stop and _BITS[data[port]] & _DIGIT:
            port += 1
        if port == stop and stop - last <= 5:
            stop = last - 1
            personal = _is_ipv6(data, start, stop)
    return start, stop if personal >= 0 else -1, personal > 0


@njit(cache=True, nogil=True)
def _is_label(data: UInt8Array, begin: Int, colon: Int) -> bool:
    """Whether what stands before a colon is a word, such as IPv6 or client, and no group of an address."""
    start, is_hex = colon, True
    while start > begin and colon - start <= 4 and _BITS[data[start - 1]] & _ALNUM:
        start -= 1
        is_hex = is_hex and _BITS[data[start]] & _HEX != 0
    if start == colon:
        return bool(colon == begin or data[colon - 1] != _COLON)
    return bool(not is_hex or colon - start > 4)


@njit(cache=True, nogil=True)
def _is_port(data: UInt8Array, position: Int, end: Int) -> bool:
    """Whether no number follows a dot here, or only one of up to five digits."""
    if position + 1 >= end or data[position] != _DOT or not _BITS[data[position + 1]] & _DIGIT:
        return True
    after = position + 1
    while after < end and after - position <= 6 and _BITS[data[after]] & _DIGIT:
        after += 1
    if after - position > 6 or _is_alnum(data, after, end):
        return False
    return not (after + 1 < end and data[after] == _DOT and _BITS[data[after + 1]] & _DIGIT != 0)


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
        if position < stop and data[position] != _COLON:
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
