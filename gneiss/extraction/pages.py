"""Pages from records: what a record's headers declare, and whether it may have text to extract."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gneiss.extraction.record import Record
from gneiss.extraction.sniffing import HTML, PLAIN, XHTML, is_xml

#: Reasons for skipping a record; docs/extract.md has a row for each.
NOT_A_RESPONSE, HTTP_STATUS, NOT_HTML, TOO_LARGE, NO_TEXT = (
    "not a response", "HTTP status", "not HTML", "too large", "no text",
)  # fmt: skip
SKIP_REASONS = (NOT_A_RESPONSE, HTTP_STATUS, NOT_HTML, TOO_LARGE, NO_TEXT)
#: Types that stand for none: https://mimesniff.spec.whatwg.org/#mime-type-sniffing-algorithm.
_NO_TYPES = ("unknown/unknown", "application/unknown", "*/*")
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})[ \t]*+(?:;|$)")
_CHARSET = re.compile(r"charset[ \t]*+=[ \t]*+[\"']?+[ \t]*+([^\s\"';,]++)", re.IGNORECASE)
#: Values of a header between commas that are not in quotes.
_VALUES = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+"?+)++')
_STATUS = re.compile(rb"HTTP/\S*+[ \t]++(\d{3})\b", re.IGNORECASE)
_BLANK_LINES = re.compile(rb"[\r\n]*+")
_END_OF_HEAD = re.compile(rb"\n\r*+\n")
#: Longer heads are none; no browser reads them either.
_LONGEST_HEAD = 1 << 18


@dataclass(frozen=True)
class Page:
    """A body that may have text to extract.

    media_type: as supplied, or nothing: its bytes decide; `text/plain` is text, which needs no extractor; charset: of a
    header; codings: Content-Encoding and Transfer-Encoding, the innermost first.
    """

    body: bytes
    media_type: str = HTML
    charset: str = ""
    codings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """The reason for skipping a record, and what was found."""

    reason: str
    detail: str


def page_of(record: Record) -> Page | Skip:
    """The page in a record, or the reason why there is none.

    >>> record = Record(0, "response", "<urn:uuid:1>", "http://x", "", "application/http", None, 20, b"HTTP/1.1 404 No")
    >>> page_of(record)
    Skip(reason='HTTP status', detail='404')
    """
    if record.kind not in ("response", "resource", "conversion"):
        return Skip(NOT_A_RESPONSE, record.kind or "no WARC-Type")
    if record.content is None:
        return Skip(TOO_LARGE, f"{record.size_bytes} bytes")
    if record.kind == "conversion" and media_type(record.content_type) in (PLAIN, ""):
        return Page(record.content, PLAIN)
    try:
        status, headers, body = (
            split_http(record.content) if record.kind == "response" else (None, {"content-type": record.content_type},
                                                                          record.content)
        )  # fmt: skip
    except ValueError as error:
        return Skip(NOT_HTML, str(error))
    if status is not None and not 200 <= status < 300:
        return Skip(HTTP_STATUS, str(status))
    declared = headers.get("content-type", "")
    kind = media_type(record.payload_type or "") or media_type(declared)
    if kind not in (HTML, XHTML, "") and not is_xml(kind):
        return Skip(NOT_HTML, kind)
    codings = [*_listed(headers.get("content-encoding", "")), *_listed(headers.get("transfer-encoding", ""))]
    return Page(body, kind, charset_in(declared), tuple(codings))


def split_http(content: bytes) -> tuple[int | None, Mapping[str, str], bytes]:
    """Status, headers (lower-case names; repeated ones joined by commas) and body of the final response.

    Lines end with LF or CRLF; interim responses (1xx) are passed over. Without a status line everything is body. Raises
    ValueError when the head has no end.

    >>> split_http(b"HTTP/1.1 100 Continue\\r\\n\\r\\nHTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\n\\r\\n<p>Hi")
    (200, {'content-type': 'text/html'}, b'<p>Hi')
    """
    start = _BLANK_LINES.match(content).end()  # type: ignore[union-attr]
    if content[start : start + 5].upper() != b"HTTP/":
        return None, {}, content
    while True:
        found = _END_OF_HEAD.search(content, start, start + _LONGEST_HEAD)
        if not found and len(content) - start > _LONGEST_HEAD:
            raise ValueError("an HTTP head without end")
        end, body_start = found.span() if found else (len(content), len(content))
        status = _STATUS.match(content, start)
        start_of_next = _BLANK_LINES.match(content, body_start).end()  # type: ignore[union-attr]
        if not (status and status[1].startswith(b"1") and _STATUS.match(content, start_of_next)):
            return int(status[1]) if status else None, _headers(content[start:end]), content[body_start:]
        start = start_of_next


def media_type(declared: str) -> str:
    """The last media type among the values of a header that is one; nothing where there is none.

    As https://fetch.spec.whatwg.org/#concept-header-extract-mime-type has it.

    >>> media_type("*/*, Text/HTML ; charset=utf-8"), media_type("text/html charset=utf-8"), media_type("html")
    ('text/html', '', '')
    """
    found = [match[1].lower() for value in _VALUES.findall(declared) if (match := _MEDIA_TYPE.match(value.strip()))]
    return next((kind for kind in reversed(found) if kind not in _NO_TYPES), "")


def charset_in(declared: str) -> str:
    """The charset that a Content-Type names, however it is spelled."""
    found = _CHARSET.search(declared)
    return found[1] if found else ""


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, list[str]] = {}
    values: list[str] = []
    for line in head.decode("latin-1").split("\n")[1:]:
        if line[:1] in (" ", "\t"):  # a folded line
            values[-1:] = [" ".join([*values[-1:], line.strip()])]
        else:
            name, _, value = line.partition(":")
            values = headers.setdefault(name.strip().lower(), [])
            values.append(value.strip())
    return {name: ", ".join(values) for name, values in headers.items()}


def _listed(header: str) -> list[str]:
    """Codings without their parameters."""
    values = (part.partition(";")[0].strip(" \t\"'").lower() for part in header.split(","))
    return [value for value in values if value]
