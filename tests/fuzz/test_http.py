"""Whatever a response holds: a page with a body that is a part of it, or a reason; bodies decode, or say why not."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.bodies import BrokenBodyError, TooLargeError, decode_body
from gneiss.extraction.pages import Page, charset_in, media_type, page_of, split_http
from gneiss.extraction.record import Record
from gneiss.extraction.sniffing import is_garbled, looks_like_text, sniff

LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/2 103", b"http/1.0 404 No", b"HTTP/", b"\r\n", b"\n", b"\r",
     b"\r\n\r\n", b"Content-Type: text/html", b"Content-Type: */*", b"Content-Type:image/png", b"\\", b'"', b";", b":",
     b"content-type: text/html, ", b" charset=utf-8", b"Content-Encoding: gzip", b"Transfer-Encoding: chunked",
     b" folded", b"<html>", b"5\r\nwords\r\n"]
)  # fmt: skip
CONTENT = st.lists(LINES | st.binary(max_size=5), max_size=20).map(b"".join)
BODY = b"<html><p>Some words. " * 20
PARTS = st.sampled_from(
    [BODY, gzip.compress(BODY, mtime=0), gzip.compress(b"", mtime=0), zlib.compress(BODY), zlib.compress(BODY)[2:-4],
     brotli.compress(BODY), pa.compress(BODY, "zstd", asbytes=True), b"\x1f\x8b\x08\x1f", b"\x28\xb5\x2f\xfd",
     b"\x78\x9c", b"5\r\nwords\r\n", b"0\r\n", b"\r\n", b"fffffffff\r\n", b";x", b"<?xml", b"<!--", b"-->",
     b"<!DOCTYPE html", b"%PDF-", b"\xff\xfe", b"\0"]
)  # fmt: skip
BODIES = st.lists(PARTS | PARTS.map(lambda part: part[: len(part) // 2]) | st.binary(max_size=5), max_size=6).map(
    b"".join
)
CODINGS = st.sampled_from(["gzip", "x-gzip", "deflate", "br", "zstd", "chunked", "identity", "utf-8", "compress", ""])


@given(CONTENT)
def test_heads(content: bytes) -> None:
    try:
        status, headers, body = split_http(content)
    except ValueError:  # a head without end
        return
    assert content.endswith(body)
    assert status is None or 100 <= status <= 999
    assert all(name == name.strip().lower() for name in headers)
    page = page_of(Record(0, "response", None, None, None, "", None, len(content), content))
    assert page.body == body if isinstance(page, Page) else page.detail


@given(st.text(max_size=60) | st.lists(LINES.map(bytes.decode), max_size=5).map("".join))
def test_types(declared: str) -> None:
    found = media_type(declared)
    assert not found or found.count("/") == 1
    assert " " not in charset_in(declared)


@given(BODIES, st.lists(CODINGS, max_size=3))
def test_codings(body: bytes, codings: list[str]) -> None:
    try:
        found = decode_body(body, codings, 5000)
    except (BrokenBodyError, TooLargeError):
        return
    assert len(found) <= 5000
    if set(codings) <= {"identity", "utf-8", "compress", ""}:
        assert found == body


@pytest.mark.parametrize("supplied", ["", "text/html", "text/xml"])
@given(body=BODIES)
@pytest.mark.slow
def test_sniffing(supplied: str, body: bytes) -> None:
    found = sniff(body, supplied)
    assert found.startswith("binary: ") or "/" in found
    if supplied == "text/html" and found == supplied:
        assert sniff(body, found) == found
    if looks_like_text(body):
        assert found != "binary: unknown"
    is_garbled(body.decode("latin-1"))
