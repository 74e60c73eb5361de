"""Bytes to text: byte order mark, UTF-8, declared or detected charset; never an error, never invalid text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

#: Byte order marks and their codecs; a mark overrides any declaration. UTF-32's mark contains UTF-16's.
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
#: Codecs that a page may name, and what it is read as: https://encoding.spec.whatwg.org/#names-and-labels, where a
#: label stands for the superset in use. All others (UTF-7, rot13, unicode_escape, …) are not charsets of pages.
_SUPERSETS = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "hz": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949",
    "big5": "big5hkscs", "utf-16": "utf-16-le",
}  # fmt: skip
_READ_AS = {
    **{name: name for name in (
        "utf-8", "utf-16-le", "utf-16-be", "cp866", "cp874", "cp932", "cp949", "cp1250", "cp1251", "cp1252", "cp1253",
        "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5",
        "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15", "iso8859-16",
        "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "gb18030", "big5hkscs", "euc_jp", "iso2022_jp", "iso2022_kr",
    )},
    **_SUPERSETS,
}  # fmt: skip
#: Labels of the standard that are unknown to Python.
_LABELS = {"x-sjis": "cp932", "windows-31j": "cp932", "windows-874": "cp874", "x-gbk": "gb18030", "x-euc-jp": "euc_jp",
           "iso-8859-8-i": "iso8859-8", "x-cp1251": "cp1251", "x-cp1252": "cp1252", "x-mac-cyrillic": "mac-cyrillic",
           "unicode-1-1-utf-8": "utf-8", "unicode": "utf-16-le"}  # fmt: skip
_META = re.compile(rb"<meta\b[^>]{0,500}?\bcharset\s*=\s*[\"']?\s*([\w.:+-]{1,40})|"
                   rb"^\s*<\?xml\b[^>]{0,500}?\bencoding\s*=\s*[\"']([\w.:+-]{1,40})", re.IGNORECASE)  # fmt: skip
_PRESCAN_BYTES = 4096
_DETECT_BYTES = 1 << 16
#: What looks like ASCII without being it: the escapes of ISO-2022, and UTF-16, of which about every other byte is zero.
_ESCAPE = re.compile(rb"\x1b[$(]")
_MOST_ZEROS = 0.125
_LONGEST_LABEL = 40


def to_text(body: bytes, declared: str = "", *, is_html: bool = True) -> str:
    """The text of a body, by the first that fits: mark, UTF-8, declared charset, the page's own, detected.

    declared: the charset of a header, or nothing. A body that is valid UTF-8, or mostly so, is decoded as UTF-8
    whatever is declared: other text is hardly ever valid UTF-8 by chance. If no charset fits, the one with the fewest
    errors is used; undecodable bytes become U+FFFD. NUL characters are removed.

    >>> to_text("naïve".encode("cp1252"), "latin1"), to_text("naïve".encode(), "latin1")
    ('naïve', 'naïve')
    """
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return _without_zeros(body[len(mark) :].decode(charset, "replace"))
    tried: list[str] = []
    for charset in _charsets(body, declared, is_html):
        try:
            return _without_zeros(body.decode(charset))
        except UnicodeDecodeError:
            if charset == "utf-8" and _is_mostly_utf8(text := body.decode(charset, "replace")):
                return _without_zeros(text)
            tried.append(charset)
    readings = [body.decode(charset, "replace") for charset in tried]
    return _without_zeros(min(readings, key=lambda text: text.count("\ufffd")))


def charset_of(label: str) -> str | None:
    """The codec for a charset's label in a header or page; None if there is none.

    >>> charset_of("ISO-8859-1"), charset_of("gb2312"), charset_of("unicode_escape")
    ('cp1252', 'gb18030', None)
    """
    label = label.strip().lower()[:_LONGEST_LABEL]
    try:
        name = _LABELS.get(label) or codecs.lookup(label).name
    except (LookupError, ValueError):  # a zero in it is a ValueError
        return None
    return _READ_AS.get(name)


def _charsets(body: bytes, declared: str, is_html: bool) -> Iterator[str]:
    """Codecs in the order in which they are tried; the last never fails."""
    from_header = charset_of(declared) if declared else None
    is_plain = body.count(0) <= _MOST_ZEROS * len(body) and _ESCAPE.search(body) is None
    if is_plain:
        yield "utf-8"
    if from_header:
        yield from_header
    if is_html and (meta := _META.search(body[:_PRESCAN_BYTES])):
        from_page = charset_of((meta[1] or meta[2]).decode("ascii", "replace"))
        if from_page and not from_page.startswith("utf-16"):  # as it was read byte by byte
            yield from_page
    yield from _detected(body)
    yield "utf-8" if not is_plain else "cp1252"


def _is_mostly_utf8(text: str) -> bool:
    """Whether at least half of the non-ASCII bytes were UTF-8: in other charsets hardly any are."""
    wrong = text.count("\ufffd")
    return len(text) - len(text.encode("ascii", "ignore")) >= 2 * wrong


def _detected(body: bytes) -> Iterator[str]:
    from resiliparse.parse.encoding import detect_encoding

    # its names for HTML lack Korean, which then reads as UTF-8
    found = detect_encoding(body, max_len=_DETECT_BYTES, html5_compatible=False)
    if found and (charset := charset_of(found)):
        yield charset


def _without_zeros(text: str) -> str:
    return text.replace("\0", "") if "\0" in text else text
