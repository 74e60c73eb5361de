"""Bytes to text as browsers read them: in the charset that is declared, bad bytes as U+FFFD; never an error."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import dataclass

from gneiss.extraction.labels import charset_of
from gneiss.extraction.prescan import charset_declared_in

#: Where the charset of a text was found.
MARK, HEADER, META, GUESS = "mark", "header", "meta", "guess"
#: The charset that stands for those that browsers refuse: of its bytes nothing is read.
REPLACEMENT = "replacement"
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))
_UTF16 = {"utf-16le", "utf-16be"}
#: About one of five characters of these is valid UTF-8 by chance; of other charsets hardly any is.
_OF_TWO_BYTES = {"gbk", "gb18030", "big5", "euc-jp", "euc-kr", "shift_jis", "iso-2022-jp"}
_MORE_THAN_CHANCE = 8
#: Bytes that do not begin a character of several bytes in UTF-8.
_NO_LEAD = bytes(range(0xC0))
_DETECT_BYTES = 1 << 16
#: The detector's names are Python's; these are no labels.
_DETECTED_AS = {
    "cp949": "euc-kr", "euc_jp": "euc-jp", "iso2022_jp": "iso-2022-jp", "mac-cyrillic": "x-mac-cyrillic",
    "mac-roman": "macintosh", "utf-16-le": "utf-16le", "utf-16-be": "utf-16be",
}  # fmt: skip
#: What looks like ASCII without being it: the escapes of ISO-2022, and UTF-16, of which about every other byte is zero.
_ESCAPE = re.compile(rb"\x1b[$(]")
_MOST_ZEROS = 0.125
#: Good characters for each bad one in damaged UTF-8. Other charsets, read as UTF-8, have less than one.
_GOOD_PER_BAD = 2


@dataclass(frozen=True)
class Decoded:
    """A text, the charset of its bytes (the Encoding Standard's name in lower case), and where that was found."""

    text: str
    charset: str
    charset_from: str


def decoded(body: bytes, declared: str = "", *, is_html: bool = True) -> Decoded:
    """Decode a body by its byte order mark, the charset of its header, or of its meta, or a guess: the first there is.

    declared: the label in a header, or nothing. Bytes that are wrong in the charset become U+FFFD; NUL characters are
    removed. A declaration is not believed if the body can only be UTF-8.

    >>> decoded("naïve".encode("windows-1252"), "latin1")
    Decoded(text='naïve', charset='windows-1252', charset_from='header')
    """
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return Decoded(_text(body[len(mark) :], charset), charset, MARK)
    named, charset_from = charset_of(declared), HEADER
    if named is None and is_html:
        named, charset_from = charset_declared_in(body), META
    if named is None or _can_only_be_utf8(body, named):
        named, charset_from = _guess(body), GUESS
    return Decoded(_text(body, named), named, charset_from)


def to_text(body: bytes, declared: str = "", *, is_html: bool = True) -> str:
    """The text of a body; see `decoded`."""
    return decoded(body, declared, is_html=is_html).text


def _can_only_be_utf8(body: bytes, named: str) -> bool:
    """Whether a body is UTF-8 although another charset is declared: valid, and not by chance."""
    if named == "utf-8" or not _is_utf8(body):
        return False
    if named in _UTF16:
        return b"\0" not in body  # UTF-16 has zeros in every tag
    characters = len(body.translate(None, delete=_NO_LEAD))
    return characters >= (_MORE_THAN_CHANCE if named in _OF_TWO_BYTES else 1)


def _guess(body: bytes) -> str:
    is_plain = body.count(0) <= _MOST_ZEROS * len(body) and _ESCAPE.search(body) is None
    if is_plain and (_is_utf8(body) or _is_mostly_utf8(body)):
        return "utf-8"
    return _detected(body) or ("windows-1252" if is_plain else "utf-8")


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_mostly_utf8(body: bytes) -> bool:
    text = _text(body, "utf-8")
    bad = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    return good >= _GOOD_PER_BAD * bad


def _detected(body: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    # its names for HTML lack Korean, which then reads as UTF-8
    found = detect_encoding(body, max_len=_DETECT_BYTES, html5_compatible=False) or ""
    charset = charset_of(_DETECTED_AS.get(found, found))
    return None if charset == REPLACEMENT else charset


def _text(body: bytes, charset: str) -> str:
    from endec import decode

    if charset == "utf-8":
        with suppress(UnicodeDecodeError):
            return body.decode().replace("\0", "")
    return decode(body, charset, "replace", bom="ignore").replace("\0", "")
