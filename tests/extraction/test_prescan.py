"""A page's own declaration is found as browsers find it, by the HTML Standard's prescan, in linear time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.labels import charset_of
from gneiss.extraction.prescan import charset_declared_in

BLANKS = b"\t\n\f\r "


class OutOfBytesError(Exception):
    """The algorithm's position goes beyond the last byte."""


class Prescan:
    """The standard's algorithm as it is worded, a byte at a time: the oracle."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def byte(self) -> int:
        if self.at >= len(self.body):
            raise OutOfBytesError
        return self.body[self.at]

    def charset(self) -> str | None:
        if self.body.startswith(b"<\0?\0x\0"):
            return "utf-16le"
        if self.body.startswith(b"\0<\0?\0x"):
            return "utf-16be"
        try:
            return self._loop()
        except OutOfBytesError:
            return self._xml()

    def _loop(self) -> str:
        while True:
            self.byte()
            rest = self.body[self.at :]
            if rest.startswith(b"<!--"):
                self.at += 2
                while not (self.byte() == ord(">") and self.body[self.at - 2 : self.at] == b"--"):
                    self.at += 1
            elif re.match(rb"<meta[\t\n\f\r /]", rest, re.IGNORECASE):
                self.at += 5
                if found := self._meta():
                    return found
            elif re.match(rb"</?[A-Za-z]", rest):
                while self.byte() not in BLANKS + b">":
                    self.at += 1
                while self._attribute():
                    pass
            elif re.match(rb"<[!/?]", rest):
                while self.byte() != ord(">"):
                    self.at += 1
            self.at += 1

    def _meta(self) -> str | None:
        seen: set[bytes] = set()
        got_pragma, need_pragma, charset = False, None, None
        is_null = True
        while attribute := self._attribute():
            name, value = attribute
            if name in seen:
                continue
            seen.add(name)
            if name == b"http-equiv":
                got_pragma = value == b"content-type"
            elif name == b"content" and is_null and (found := self._from_content(value)):
                charset, need_pragma, is_null = found, True, False
            elif name == b"charset":
                charset, need_pragma, is_null = charset_of(value.decode("latin-1")), False, False
        if need_pragma is None or (need_pragma and not got_pragma) or charset is None:
            return None
        return {"utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "windows-1252"}.get(charset, charset)

    def _from_content(self, value: bytes) -> str | None:
        at = 0
        while True:
            at = value.find(b"charset", at)
            if at < 0:
                return None
            at += 7
            while value[at : at + 1] and value[at] in BLANKS:
                at += 1
            if value[at : at + 1] == b"=":
                break
        at += 1
        while value[at : at + 1] and value[at] in BLANKS:
            at += 1
        quote = value[at : at + 1]
        if quote in (b'"', b"'"):
            end = value.find(quote, at + 1)
            return charset_of(value[at + 1 : end].decode("latin-1")) if end >= 0 else None
        end = at
        while end < len(value) and value[end] not in BLANKS + b";":
            end += 1
        return charset_of(value[at:end].decode("latin-1"))

    def _attribute(self) -> tuple[bytes, bytes] | None:
        while self.byte() in BLANKS + b"/":
            self.at += 1
        if self.byte() == ord(">"):
            return None
        name = value = b""
        while not (self.byte() == ord("=") and name):
            if self.byte() in BLANKS:
                while self.byte() in BLANKS:
                    self.at += 1
                if self.byte() != ord("="):
                    return name, b""
                break
            if self.byte() in b"/>":
                return name, b""
            name += bytes([self.byte()]).lower()
            self.at += 1
        self.at += 1
        while self.byte() in BLANKS:
            self.at += 1
        if self.byte() in b"\"'":
            quote = self.byte()
            self.at += 1
            while self.byte() != quote:
                value += bytes([self.byte()]).lower()
                self.at += 1
            self.at += 1
            return name, value
        while self.byte() not in BLANKS + b">":
            value += bytes([self.byte()]).lower()
            self.at += 1
        return name, value

    def _xml(self) -> str | None:
        end = self.body.find(b">")
        if not self.body.startswith(b"<?xml") or end < 0:
            return None
        rest = self.body[:end].partition(b"encoding")[2].lstrip(bytes(range(0x21)))
        if not rest.startswith(b"="):
            return None
        rest = rest[1:].lstrip(bytes(range(0x21)))
        label, quote, _ = rest[1:].partition(rest[:1])
        if rest[:1] not in (b'"', b"'") or not quote or min(label, default=0x21) <= 0x20:
            return None
        charset = charset_of(label.decode("latin-1"))
        return "utf-8" if charset in ("utf-16le", "utf-16be") else charset


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
