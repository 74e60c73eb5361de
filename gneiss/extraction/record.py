"""A record of an archive, and its header, which is read as leniently as jwarc and warcio read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from gneiss.extraction.members import BrokenArchiveError

#: Record types whose content is read; of all others only the headers.
_READ = {"response", "resource", "conversion", "warcinfo"}
NO_RECORD_THERE = "no record where one should start"
LONGEST_HEADER, _MOST_FIELDS = 1 << 16, 100
STARTS_LIKE = re.compile(rb"[\r\n\0]*+WARC/\d", re.IGNORECASE)
END_OF_HEADER = re.compile(rb"\n\r*+\n")
#: The first line of another record, where none should be.
ANOTHER = re.compile(rb"\nWARC/\d\.\d+[ \t]*+\r*+\n", re.IGNORECASE)
#: The fields that are looked at, with the lines that are folded into them.
_FIELD = re.compile(
    r"\n(warc-(?:type|record-id|target-uri|date|identified-payload-type|segment-number)|content-(?:type|length))"
    r"[^\S\n]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)",
    re.IGNORECASE | re.ASCII,
)
_KIND = re.compile(r"[\w-]*")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Record:
    """A record as stored in the archive.

    offset: its first byte in the file; kind: WARC-Type; size_bytes: of its content; content: None if it was not read,
    because of its kind or a size beyond the limit; cut_short: why the content is not whole, if it is not; segment: its
    WARC-Segment-Number: it is not whole either; has_wrong_length: its header declares another size than its gzip member
    or zstd frame has; length: bytes of the file from its offset on that hold it, compressed as they are, and nothing
    else; None where other records share its member.
    """

    offset: int
    kind: str
    id: str | None
    url: str | None
    date: str | None
    content_type: str
    payload_type: str | None
    size_bytes: int
    content: bytes | None
    cut_short: str = ""
    segment: str | None = None
    has_wrong_length: bool = False
    length: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether its content is not whole."""
        return bool(self.cut_short)


@dataclass(frozen=True)
class Header:
    """The header of a record.

    size_bytes: with the empty line after it; fields: those that are looked at, by their names in lower case; kind:
    WARC-Type; length: that it declares, if it does.
    """

    size_bytes: int
    fields: Mapping[str, str]
    kind: str
    length: int | None

    @property
    def is_read(self) -> bool:
        """Whether the content is, or nothing but the header."""
        return self.kind in _READ


@dataclass(frozen=True)
class Content:
    """The content of a record: its first bytes, the size of all, and whether they are what the header declares."""

    bytes: bytes
    size_bytes: int
    cut_short: str = ""
    has_wrong_length: bool = False


def header_in(head: bytes) -> Header:
    """The header that some bytes start with. Raises BrokenArchiveError."""
    if not STARTS_LIKE.match(head):
        raise BrokenArchiveError(NO_RECORD_THERE)
    found = END_OF_HEADER.search(head, 0, LONGEST_HEADER)
    end = found.end() if found else min(len(head), LONGEST_HEADER)
    if end == LONGEST_HEADER or ANOTHER.search(head, 0, end):
        raise BrokenArchiveError("a record without the end of its header")
    fields: dict[str, str] = {}
    for field in islice(_FIELD.finditer(head[:end].decode("utf-8", "replace")), _MOST_FIELDS):
        name, value = field.groups()
        fields.setdefault(name.lower(), " ".join(map(str.strip, value.split("\n"))).strip())
    kind, length = fields.get("warc-type", "").lower(), fields.get("content-length", "")
    if not (fields.get("warc-record-id") or kind) or not _KIND.fullmatch(kind):
        raise BrokenArchiveError("a record without a header")
    return Header(end, fields, kind, int(length) if _LENGTH.fullmatch(length) else None)


def record_of(at: int, header: Header, content: Content, limit: int, length: int | None) -> Record:
    """The record at an offset. limit: longer contents are left out; length: its bytes of the file."""
    fields = header.fields
    url = fields.get("warc-target-uri")
    return Record(
        offset=at,
        kind=header.kind,
        id=fields.get("warc-record-id"),
        url=url and url.strip("<>"),  # as wget writes it
        date=fields.get("warc-date"),
        content_type=fields.get("content-type", ""),
        payload_type=fields.get("warc-identified-payload-type"),
        size_bytes=content.size_bytes,
        content=content.bytes if header.is_read and content.size_bytes <= limit and not content.cut_short else None,
        cut_short=content.cut_short,
        segment=fields.get("warc-segment-number"),
        has_wrong_length=content.has_wrong_length,
        length=length,
    )
