"""A page's own declaration is found as browsers find it, by the HTML Standard's prescan, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.prescan import charset_declared_in
from tests.extraction.html_standard import Prescan


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        (b"<meta charset=koi8-r>", "koi8-r"),
        (b"<META\nCHARSET = 'KOI8-R' />", "koi8-r"),
        (b"<meta/charset=koi8-r/>", None),  # the slash belongs to the value
        (b'<meta http-equiv=content-type content="text/html; charset=koi8-r">', "koi8-r"),
        (b'<meta content="text/html; charset=koi8-r" http-equiv="Content-Type">', "koi8-r"),
        (b'<meta content="text/html; charset=koi8-r">', None),
        (b'<meta name=description content="about charset=koi8-r"><meta charset=big5>', "big5"),
        (b'<meta http-equiv=refresh content="0; charset=koi8-r"><meta charset=big5>', "big5"),
        (b"<!-- <meta charset=koi8-r> --><meta charset=big5>", "big5"),
        (b"<!--><meta charset=big5>-->", "big5"),
        (b"<!doctype html <meta charset=koi8-r><meta charset=big5>", "big5"),
        (b"<? <meta charset=koi8-r ?><meta charset=big5>", "big5"),
        (b"<p title='<meta charset=koi8-r>'><meta charset=big5>", "big5"),
        (b"<a title=<meta charset=koi8-r><meta charset=big5>", "big5"),
        (b"<metadata charset=koi8-r><meta charset=big5>", "big5"),
        (b"<meta charset=koi8-r charset=big5>", "koi8-r"),
        (b"<meta charset=nonsense><meta charset=big5>", "big5"),
        (b"<meta charset=utf-16>", "utf-8"),
        (b"<meta charset=x-user-defined>", "windows-1252"),
        (b"<meta charset=koi8-r", None),
        (b"<meta charset='koi8-r", None),
        (b"<meta http-equiv=content-type content=\"charset; charset = 'koi8-r'\">", "koi8-r"),
        (b'<?xml version="1.0" encoding="koi8-r"?><html>', "koi8-r"),
        (b"<?xml version='1.0' encoding = 'utf-16'?><html>", "utf-8"),
        (b'<?xml version="1.0" encoding="koi8-r"?><meta charset=big5>', "big5"),
        (b'<?xml version="1.0"?><p encoding="koi8-r">', None),
        ('<?xml version="1.0"?>'.encode("utf-16-be"), "utf-16be"),
        (b"charset=koi8-r", None),
        (b"", None),
    ],
)
def test_a_declaration_counts_where_the_standard_says(body: bytes, charset: str | None) -> None:
    assert charset_declared_in(body) == charset == Prescan(body).charset()


PIECES = st.sampled_from(
    [b"<meta ", b"<META/", b"<p ", b"</p", b"<!--", b"-->", b"<!", b"<?", b"</", b"<", b">", b" ", b"\n", b"/", b"=",
     b'"', b"'", b"charset", b"charset=", b"content=", b"http-equiv=", b"content-type", b"koi8-r", b"utf-16", b";",
     b"text/html; charset=big5", b"<?xml encoding=", b"x", b"\0", b"\xe9", b"<meta charset=big5>", b"--"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map(b"".join))
def test_any_markup_is_read_as_by_the_standards_algorithm(body: bytes) -> None:
    assert charset_declared_in(body) == Prescan(body).charset()


@pytest.mark.parametrize("element", ["script", "STYLE", "title", "textarea", "script type='text/x-template'"])
def test_what_stands_in_a_script_or_title_declares_nothing(element: str) -> None:
    name = element.split()[0]
    body = f"<{element}>if (a<b) s = '<meta charset=koi8-r>'</{name}><meta charset=big5>".encode()
    assert charset_declared_in(body) == "big5"
    assert charset_declared_in(body.removesuffix(b"<meta charset=big5>")) is None
    assert charset_declared_in(b"<script>endless <meta charset=koi8-r>") is None


def test_a_late_declaration_counts_in_the_head_only() -> None:
    late = b"<html><head><!--" + b" " * 2000 + b"--><script>" + b"a<b " * 900 + b"</script>"
    assert charset_declared_in(late + b"<meta charset=big5>") == "big5"
    assert charset_declared_in(late + b"</head><body><meta charset=big5>") is None
    assert charset_declared_in(late + b"<p>text<meta charset=big5>") is None
    assert charset_declared_in(b"<p>text<meta charset=big5>") == "big5"
    assert charset_declared_in(b"<head>" + b" " * 70_000 + b"<meta charset=big5>") is None


@pytest.mark.parametrize(
    "worst",
    [b"<", b"<!", b"<!--", b"<a", b"<a ", b"<a b", b"<meta ", b"<meta charset", b"<meta content=charset", b"charset ",
     b"<meta a='", b"<a =", b"<a/", b"</", b"<script>", b"</script", b"<?xml encoding", b"\0",
     b"<meta content='charset ", b"<p>", b"<title>"],
)  # fmt: skip
def test_no_page_takes_long(worst: bytes) -> None:
    """Under the most bytes that are scanned: a quadratic scan of 64 KiB takes seconds."""
    body = worst * (2_000_000 // len(worst))
    start = time.process_time()
    charset_declared_in(body)
    charset_declared_in(b"<meta content='" + body)
    charset_declared_in(b"<?xml " + body)
    assert time.process_time() - start < 1
