"""The HTML Standard's prescan as it words it: the oracle of a page's own declaration.

https://html.spec.whatwg.org/multipage/parsing.html#prescan-a-byte-stream-to-determine-its-encoding, as of 2026-08-21.
"""

from __future__ import annotations

import re

from gneiss.extraction.labels import charset_of

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
        if rest[:1] not in (b'"', b"'"):
            return None
        label, quote, _ = rest[1:].partition(rest[:1])
        if not quote or min(label, default=0x21) <= 0x20:
            return None
        charset = charset_of(label.decode("latin-1"))
        return "utf-8" if charset in ("utf-16le", "utf-16be") else charset
