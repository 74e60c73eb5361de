"""What a body is, by its bytes."""

from __future__ import annotations

import codecs
import gzip
import tarfile
import zipfile
from io import BytesIO
from random import Random
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.charset import decoded
from gneiss.extraction.sniffing import is_garbled, looks_like_text, sniff

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"
XHTML = b'<?xml version="1.0" encoding="utf-8"?>\n<!-- a --><?a b?>\n<html xmlns="http://www.w3.org/1999/xhtml"><p>'


def zipped() -> bytes:
    into = BytesIO()
    with zipfile.ZipFile(into, "w") as file:
        file.writestr("page.html", "<html>")
    return into.getvalue()


def tarred() -> bytes:
    into = BytesIO()
    with tarfile.open(fileobj=into, mode="w") as file:
        file.addfile(tarfile.TarInfo("page.html"))
    return into.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html><p>", b"<!doctype  HTML>", b" \t\r\n\f<HTML>", b"<html lang=en>", b"<head>", b"<body\n>",
        b"<p>", b"<a href=x>", b"<br/>", b"<meta charset=utf-8>", b"<!-- a comment", b"<!--a--><p>",
        b"\xef\xbb\xbf<html>", b"\xff\xfe" + "<html>".encode("utf-16-le"), b"\xfe\xff" + "\n<p>".encode("utf-16-be"),
    ],
)  # fmt: skip
def test_without_a_type_what_starts_like_html_is_html(body: bytes) -> None:
    assert sniff(body, "") == "text/html"


@pytest.mark.parametrize(
    "body", [b"plain words", b"{}", b"", b"<pre", b"<paragraph>", b"<rss>", b"< p>", b"words <html>", b"\xff\xfea\0"]
)
def test_what_does_not_is_plain_text(body: bytes) -> None:
    assert sniff(body, "") == "text/plain"


def test_xml_is_xhtml_by_its_root() -> None:
    for supplied in ("", "text/xml", "application/xml", "application/foo+xml"):
        assert sniff(XHTML, supplied) == "application/xhtml+xml"
        assert sniff(b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x" "y">', supplied) == "application/xhtml+xml"
        assert sniff(b'<?xml version="1.0"?><h:html>', supplied) == "application/xhtml+xml"
        assert sniff(b'<?xml version="1.0"?><rss><!-- <html> -->', supplied) == (supplied or "text/xml")
        assert sniff(b'<?xml version="1.0"', supplied) == (supplied or "text/xml")


@pytest.mark.parametrize("supplied", ["", "text/html", "application/xhtml+xml", "text/xml"])
def test_binary_is_named_whatever_is_declared(supplied: str) -> None:
    for body, kind in (
        (PDF, "pdf"), (PNG, "png"), (gzip.compress(b"<html>"), "gzip"), (zipped(), "zip"), (b"BM\x9e\0\0\0", "bmp"),
        (b"%!PS-Adobe-3.0 all letters", "postscript"), (b"\xff\xd8\xff\xe0\0\x10JFIF", "jpeg"),
        (b"GIF89a\1\0\1\0", "gif"), (tarred(), "tar"), (rb"{\rtf1\ansi all letters}", "rtf"),
    ):  # fmt: skip
        assert sniff(body, supplied) == f"binary: {kind}"


def test_words_are_no_signatures() -> None:
    for word in (b"BMW builds cars", b"MZ", b"ID3 is a tag", b"GIF89a is a format", b"OggS", b"CWS <p>"):
        assert sniff(word, "text/html") == "text/html"
        assert looks_like_text(word)


def test_random_bytes_are_no_text_and_strays_are_nothing() -> None:
    body = Random(1).randbytes(5_000)
    assert sniff(body, "") == "binary: unknown"
    assert not looks_like_text(body)
    for charset in ("cp1251", "latin-1", "gb18030", "shift_jis", "utf-8"):
        assert is_garbled(body.decode(charset, "replace").replace("\0", ""))
        assert not is_garbled("<p>Words and \x0b\x08 strays, and many more words. " * 9)
    assert not is_garbled("")


@pytest.mark.parametrize(
    "body",
    [
        b"<!---->" * 300_000 + b"text", b"<?xml " + b"<!-- -->" * 250_000, b"<?xml?>" + b"<!a>" * 500_000,
        b"<?xml?>" * 300_000, b" " * 2_000_000, b"<?xml?>" + b"\n" * 2_000_000, b"<" * 2_000_000, b"\1" * 2_000_000,
        b"<?xml?><!doctype" + b" " * 2_000_000, b"\xff\xfe" * 1_000_000,
    ],
)  # fmt: skip
def test_the_worst_bodies_take_linear_time(body: bytes) -> None:
    before = process_time()
    for supplied in ("", "text/html", "text/xml"):
        sniff(body, supplied)
    assert process_time() - before < 5


@given(st.binary(max_size=300), st.sampled_from(["", "text/html", "text/xml", "application/xhtml+xml"]))
def test_any_bytes_have_a_type(body: bytes, supplied: str) -> None:
    found = sniff(body, supplied)
    assert found.startswith("binary: ") or "/" in found


@given(st.binary(max_size=200).map(lambda body: body * 3), st.booleans())
def test_binary_bytes_are_counted_in_a_body_as_in_its_text(body: bytes, is_valid: bool) -> None:
    body = body.decode("utf-8", "ignore").encode() if is_valid else body
    found = decoded(codecs.BOM_UTF8 + body)
    assert found.charset == "utf-8"
    assert is_garbled(found.text) == is_garbled(found.text, codecs.BOM_UTF8 + body)
