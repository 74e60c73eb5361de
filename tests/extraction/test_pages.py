"""What is a page, and why a record is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.pages import HTTP_STATUS, NOT_A_RESPONSE, NOT_HTML, TOO_LARGE, Page, Skip, page_of, split_http
from gneiss.extraction.records import Record

HTML = b"<html><p>Words"


def record(head: str, body: bytes = HTML, kind: str = "response", payload_type: str | None = None) -> Record:
    content = head.encode() + body
    return Record(0, kind, "<urn:uuid:1>", "https://x", "", "application/http", payload_type, len(content), content)


@pytest.mark.parametrize(
    ("its", "expected"),
    [
        (record("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"), Page(HTML)),
        (record("HTTP/1.1 203\r\ncontent-type:TEXT/HTML ; x\r\n\r\n"), Page(HTML)),
        (record("HTTP/1.0 200 OK\nContent-Type: application/xhtml+xml\n\n"), Page(HTML)),
        (record("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset='koi8-r'\r\n\r\n"), Page(HTML, charset="koi8-r")),
        (
            record("HTTP/1.1 200 OK\r\nContent-Encoding: gzip, br\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Page(HTML, codings=("gzip", "br", "chunked")),
        ),
        (record("HTTP/1.1 200 OK\r\n\r\n"), Page(HTML)),
        (record(""), Page(HTML)),
        (record("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", payload_type="application/pdf"),
         Skip(NOT_HTML, "application/pdf")),
        (record("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", payload_type="text/html"), Page(HTML)),
        (record("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"), Skip(NOT_HTML, "image/png")),
        (record("HTTP/1.1 200 OK\r\n\r\n", b"plain words"), Skip(NOT_HTML)),
        (record("HTTP/1.1 404 Not Found\r\n\r\n"), Skip(HTTP_STATUS, "404")),
        (record("HTTP/1.1 301 Moved\r\nContent-Type: text/html\r\n\r\n"), Skip(HTTP_STATUS, "301")),
        (record("", kind="request"), Skip(NOT_A_RESPONSE, "request")),
        (record("", kind="metadata"), Skip(NOT_A_RESPONSE, "metadata")),
        (replace(record(""), content=None), Skip(TOO_LARGE, "14 bytes")),
        (replace(record("", kind="resource"), content_type="text/html"), Page(HTML)),
        (replace(record("", kind="conversion"), content_type="text/plain"), Page(HTML, is_html=False)),
        (replace(record("", kind="conversion"), content_type="image/png"), Skip(NOT_HTML, "image/png")),
    ],
)  # fmt: skip
def test_headers_decide(its: Record, expected: Page | Skip) -> None:
    assert page_of(its) == expected


@given(st.binary(max_size=200))
def test_any_content_is_split(content: bytes) -> None:
    for its in (content, b"HTTP/" + content):
        status, _, body = split_http(its)
        assert status is None or 100 <= status <= 999
        assert its.endswith(body)
