"""Pages from records: what a record's headers declare, and whether it has text to extract."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gneiss.extraction.records import Record

#: Reasons for skipping a record; docs/extract.md has a row for each.
NOT_A_RESPONSE, HTTP_STATUS, NOT_HTML, TOO_LARGE, NO_TEXT = (
    "not a response", "HTTP status", "not HTML", "too large", "no text",
)  # fmt: skip
SKIP_REASONS = (NOT_A_RESPONSE, HTTP_STATUS, NOT_HTML, TOO_LARGE, NO_TEXT)
_HTML_TYPES = {"text/html", "application/xhtml+xml"}
_LOOKS_LIKE_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|meta|script|style|div|p|table|h1)\b",
    re.IGNORECASE | re.DOTALL,
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.IGNORECASE)
_SNIFFED_BYTES = 1024


@dataclass(frozen=True)
class Page:
    """A body with text to extract.

    is_html: or plain text, which needs no extractor; charset: of a header; codings: Content-Encoding and
    Transfer-Encoding, the innermost first.
    """

    body: bytes
    is_html: bool = True
    charset: str = ""
    codings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """The reason for skipping a record, and what was found."""

    reason: str
    detail: str = ""


def page_of(record: Record) -> Page | Skip:
    """The page in a record, or the reason why there is none.

    >>> record = Record(0, "response", "<urn:uuid:1>", "http://x", "", "application/http", None, 20, b"HTTP/1.1 404 No")
    >>> page_of(record)
    Skip(reason='HTTP status', detail='404')
    """
    if record.kind not in ("response", "resource", "conversion"):
        return Skip(NOT_A_RESPONSE, record.kind)
    if record.content is None:
        return Skip(TOO_LARGE, f"{record.size_bytes} bytes")
    if record.kind == "conversion":
        kind = _media_type(record.content_type)
        return Page(record.content, is_html=False) if kind == "text/plain" else Skip(NOT_HTML, kind)
    status, headers, body = (
        split_http(record.content) if record.kind == "response" else (None, {"content-type": record.content_type},
                                                                      record.content)
    )  # fmt: skip
    if status is not None and not 200 <= status < 300:
        return Skip(HTTP_STATUS, str(status))
    declared = headers.get("content-type", "")
    kind = _media_type(record.payload_type or declared)
    if kind not in _HTML_TYPES and (kind or not _LOOKS_LIKE_HTML.match(body[:_SNIFFED_BYTES])):
        return Skip(NOT_HTML, kind)
    codings = [*_listed(headers.get("content-encoding", "")), *_listed(headers.get("transfer-encoding", ""))]
    charset = _CHARSET.search(declared)
    return Page(body, True, charset[1] if charset else "", tuple(codings))


def split_http(content: bytes) -> tuple[int | None, Mapping[str, str], bytes]:
    """Status, headers (lower-case names, the first of each) and body; without a status line everything is body.

    >>> split_http(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\n\\r\\n<p>Hi")
    (200, {'content-type': 'text/html'}, b'<p>Hi')
    """
    if not content.startswith(b"HTTP/"):
        return None, {}, content
    ends = [end for mark in (b"\r\n\r\n", b"\n\n") if (end := content.find(mark)) >= 0]
    end = min(ends, default=len(content))
    lines = content[:end].decode("latin-1").splitlines()
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    status = re.match(r"HTTP/\S*\s+(\d{3})\b", lines[0])
    return int(status[1]) if status else None, headers, content[end:].removeprefix(b"\r\n\r\n").removeprefix(b"\n\n")


def _media_type(declared: str) -> str:
    return declared.partition(";")[0].strip().lower()


def _listed(header: str) -> list[str]:
    return [coding for part in header.split(",") if (coding := part.strip().lower())]
