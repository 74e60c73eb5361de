"""The content of a record: where it ends, by its header and by what follows it."""

from __future__ import annotations

import re

from gneiss.extraction.members import CUT_SHORT, Blocks
from gneiss.extraction.record import ANOTHER, STARTS_LIKE, Content
from gneiss.extraction.window import Window

#: What lies between records, and how much of it is looked at.
MARGIN_OF, MARGIN_BYTES = b"\r\n\0", 16
_MARGIN = re.compile(rb"(?:\r*+\n){2}")
_LAST_MARGIN = re.compile(rb"(?:\r?\n){2}\Z")
_LONG_MARGIN_BYTES = 1 << 12


def content_of(rest: bytes, length: int | None, limit: int) -> Content | None:
    """The content of the only record in a member, by the bytes after its header; None if there is another record.

    length: that its header declares; limit: longer ones are left to `content_in`, if the length is wrong.
    """
    if length is not None and length <= len(rest) and not rest[length:].strip(MARGIN_OF):
        return Content(rest[:length], length)
    if len(rest) > limit or ANOTHER.search(rest):
        return None
    return _until_end(rest, len(rest), length)


def content_in(window: Window, length: int | None, limit: int) -> Content:
    """The content after a header, about `limit` bytes of it. It ends with its member, unless a record follows in it."""
    limit += MARGIN_BYTES
    content, size = window.take(length or 0, limit)
    is_right = size == length and _is_between_records(window)
    if window.trouble not in ("", CUT_SHORT) or (window.trouble and not is_right):
        return Content(content, length or size, f"{size} of {_or_unknown(length)} bytes: {window.trouble}")
    if is_right:
        return Content(content, size)
    if found := ANOTHER.search(content):
        window.put_back(content[found.start() + 1 :] if size == len(content) else b"")
        return Content(
            content, length or size, f"another record starts after {found.start() + 1} of {_or_unknown(length)} bytes"
        )
    more, more_size = window.take_until(ANOTHER, limit - size)
    content, size = content + more, size + more_size
    if window.trouble or window.peek(1):
        return Content(content, length or size, f"{size} bytes, but {_or_unknown(length)} by its header")
    return _until_end(content, size, length)


def why_none_ends(blocks: Blocks, start: int, end: int) -> str:
    """Why no content can end at an offset, if it cannot. start: its first byte."""
    if end > blocks.size:
        return f"{blocks.size - start} of {end - start} bytes"
    after = blocks.at(end, MARGIN_BYTES)
    can_end = not after.strip(MARGIN_OF) or _MARGIN.match(after) or STARTS_LIKE.match(after)
    return "" if can_end else f"no record ends after the {end - start} bytes that its header declares"


def margin_bytes(blocks: Blocks, end: int) -> int:
    """The size of the empty lines after a content that ends at an offset."""
    margin = _MARGIN.match(blocks.at(end, MARGIN_BYTES))
    return margin.end() if margin else 0


def _until_end(content: bytes, size: int, length: int | None) -> Content:
    """The content that ends with its member, not where its header says. content: its first bytes; size: of all."""
    margin = _LAST_MARGIN.search(content) if size == len(content) else None
    if not margin and size < (length or 0):
        return Content(content, length or size, f"{size} bytes, but {_or_unknown(length)} by its header")
    content = content[: margin.start()] if margin else content
    return Content(content, size - (len(margin[0]) if margin else 0), has_wrong_length=True)


def _or_unknown(length: int | None) -> str:
    return "an unknown number of" if length is None else str(length)


def _is_between_records(window: Window) -> bool:
    """Whether what follows is the end of a member, or another record."""
    while True:
        head = window.peek(_LONG_MARGIN_BYTES).lstrip(MARGIN_OF)
        if not head or STARTS_LIKE.match(head):
            return True
        if len(head) >= MARGIN_BYTES or not window.go_on():
            return False
