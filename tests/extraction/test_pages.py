"""What is a page, and why a record is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.pages import HTTP_STATUS, NOT_A_RESPONSE, NOT_HTML, TOO_LARGE, Page, Skip, page_of, split_http
from gneiss.extraction.record import Record

HTML = b"<html><p>Words"
UNKNOWN = Page(HTML, "")


def record(head: str, body: bytes = HTML, kind: str = "response", payload_type: str | None = None) -> Record:
    content = head.encode() + body
    return Record(0, kind, "<urn:uuid:1>", "https://x", "", "application/http", payload_type, len(content), content)


@pytest.mark.parametrize(
    ("warc_record", "expected"),
    [
        (record("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"), Page(HTML)),
        (record("HTTP/1.1 203\r\ncontent-type:TEXT/HTML ; x\r\n\r\n"), Page(HTML)),
        (record("HTTP/1.0 200 OK\nContent-Type: application/xhtml+xml\n\n"), Page(HTML, "application/xhtml+xml")),
        (record("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset='koi8-r'\r\n\r\n"), Page(HTML, charset="koi8-r")),
        (
            record("HTTP/1.1 200 OK\r\nContent-Encoding: gzip, br\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Page(HTML, "", codings=("gzip", "br", "chunked")),
        ),
        (record("HTTP/1.1 200 OK\r\n\r\n"), UNKNOWN),
        (record(""), UNKNOWN),
        (record("HTTP/1.1 200 OK\r\n\r\n", b"plain words"), Page(b"plain words", "")),
        (record("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n"), Page(HTML, "text/xml")),
        (record("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", payload_type="application/pdf"),
         Skip(NOT_HTML, "application/pdf")),
        (record("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", payload_type="text/html"), Page(HTML)),
        (record("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"), Skip(NOT_HTML, "image/png")),
        (record("HTTP/1.1 404 Not Found\r\n\r\n"), Skip(HTTP_STATUS, "404")),
        (record("HTTP/1.1 301 Moved\r\nContent-Type: text/html\r\n\r\n"), Skip(HTTP_STATUS, "301")),
        (record("", kind="request"), Skip(NOT_A_RESPONSE, "request")),
        (record("", kind=""), Skip(NOT_A_RESPONSE, "no WARC-Type")),
        (record("", kind="metadata"), Skip(NOT_A_RESPONSE, "metadata")),
        (replace(record(""), content=None), Skip(TOO_LARGE, "14 bytes")),
        (replace(record("", kind="resource"), content_type="text/html"), Page(HTML)),
        (replace(record("", kind="conversion"), content_type="text/plain"), Page(HTML, "text/plain")),
        (replace(record("", kind="conversion"), content_type=""), Page(HTML, "text/plain")),
        (replace(record("", kind="conversion"), content_type="text/html"), Page(HTML)),
        (replace(record("", kind="conversion"), content_type="image/png"), Skip(NOT_HTML, "image/png")),
    ],
)  # fmt: skip
def test_headers_decide(warc_record: Record, expected: Page | Skip) -> None:
    assert page_of(warc_record) == expected


@pytest.mark.parametrize(
    ("spelling", "media_type", "charset"),
    [
        ("text/html", "text/html", ""),
        ("TEXT/HTML;Charset=UTF-8", "text/html", "UTF-8"),
        ("text/html, text/html; charset=utf-8", "text/html", "utf-8"),
        ("image/png, text/html", "text/html", ""),
        ("text/html, */*", "text/html", ""),
        ('text/html; title="a, image/png"; charset=big5', "text/html", "big5"),
        ("text/html;", "text/html", ""),
        ("text/html charset=koi8-r", "", "koi8-r"),
        ("html", "", ""),
        ("text", "", ""),
        ("/", "", ""),
        ("text/html/x", "", ""),
        ("*/*", "", ""),
        ("unknown/unknown", "", ""),
        ("application/unknown; charset='utf-8'", "", "utf-8"),
        ("${type}, text html", "", ""),
        ("", "", ""),
    ],
)
def test_a_content_type_is_read_as_browsers_read_it(spelling: str, media_type: str, charset: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {spelling}\r\n\r\n"
    assert page_of(record(head)) == Page(HTML, media_type, charset)


def test_repeated_headers_are_one() -> None:
    repeated = record(
        "HTTP/1.1 200 OK\r\nContent-Type: */*\r\nContent-Type: text/html\r\ncontent-encoding: gzip\r\n\r\n"
    )
    assert page_of(repeated) == Page(HTML, codings=("gzip",))


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\nContent-Type: text/html\n\n",
        "HTTP/1.1 200 OK\nContent-Type: text/html\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\n",
        "HTTP/1.1 200 OK\r\r\nContent-Type: text/html\r\r\n\r\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
        "\n\n\nHTTP/1.0 200\r\nContent-Type:text/html\r\n\r\n",
        "http/1.1 200 OK\r\nCONTENT-TYPE : text/html\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type:\r\n  text/html\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\x85Content-Type: image/png\r\nContent-Type: text/html\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Type: x/y\r\n\r\nHTTP/1.1 100 Continue\n\n"
        "HTTP/2 200\r\nContent-Type: text/html\r\n\r\n",
    ],
)
def test_heads_are_told_from_bodies(head: str) -> None:
    assert page_of(record(head)) == Page(HTML)


def test_what_is_no_head_is_skipped_by_name() -> None:
    endless = record("HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 60_000)
    assert page_of(endless) == Skip(NOT_HTML, "an HTTP head without end")
    only_interim = record("HTTP/1.1 100 Continue\r\n\r\n")
    assert page_of(only_interim) == Skip(HTTP_STATUS, "100")


@pytest.mark.parametrize("coding", ["gzip;q=1.0", '"gzip"', "GZIP", " gzip ; level=9"])
def test_codings_have_no_parameters(coding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: {coding}\r\n\r\n"
    assert page_of(record(head)) == Page(HTML, codings=("gzip",))


@given(st.binary(max_size=200))
def test_any_content_is_split(content: bytes) -> None:
    for response in (content, b"HTTP/" + content):
        status, _, body = split_http(response)
        assert status is None or 100 <= status <= 999
        assert response.endswith(body)
