"""The charset that a page declares of itself, found in its bytes before they are decoded.

https://html.spec.whatwg.org/multipage/parsing.html#prescan-a-byte-stream-to-determine-its-encoding
"""

from __future__ import annotations

import re

from gneiss.extraction.labels import charset_of

#: Bytes that are scanned in any case, as the standard advises. A browser starts again when it meets a later meta in the
#: head: here the scan goes on to the end of the head, but not beyond the second number.
_LEAST_BYTES, _MOST_BYTES = 1 << 10, 1 << 16
_IN_HEAD = {b"html", b"head", b"base", b"link", b"meta", b"noscript", b"object", b"template"}
#: Elements whose content is no markup. The standard's prescan reads a meta in a script; Chromium and WebKit do not.
_TEXT_ENDS = {
    name: re.compile(rb"</" + name + rb"[\t\n\f\r />]", re.IGNORECASE)
    for name in (b"script", b"style", b"title", b"textarea")
}
_MARKUP = re.compile(rb"<(?:(?P<comment>!--)|(?P<tag>/?[A-Za-z][^\t\n\f\r >]*+)|[!/?])")
#: The next attribute of a tag, or the tag's end; no match where the bytes run out.
_ATTRIBUTE = re.compile(
    rb"""
    [\t\n\f\r\ /]*+
    (?: >
    | (?P<name> [^\t\n\f\r\ />][^\t\n\f\r\ />=]*+ )
      [\t\n\f\r\ ]*+
      (?: = [\t\n\f\r\ ]*+
          (?: "(?P<double>[^"]*+)" | '(?P<single>[^']*+)' | (?=>)
          | (?P<bare> [^\t\n\f\r\ "'>][^\t\n\f\r\ >]*+ ) (?=[\t\n\f\r\ >]) )
      | (?=[^\t\n\f\r\ =]) )
    )""",
    re.VERBOSE,
)
_CHARSET_IS = re.compile(rb"charset[\t\n\f\r ]*+=[\t\n\f\r ]*+")
_LABEL = re.compile(rb"\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)'|(?![\"'])(?P<bare>[^\t\n\f\r ;]*+)")
_XML_LABEL = re.compile(rb"[\0-\x20]*+=[\0-\x20]*+(?:\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)')")


def charset_declared_in(body: bytes) -> str | None:
    """The charset that a page's meta or XML declaration names; None if there is none. Linear in the bytes scanned.

    >>> charset_declared_in(b"<!-- <meta charset=latin1> --><META charset='koi8-r'>")
    'koi8-r'
    """
    for start, charset in ((b"<\0?\0x\0", "utf-16le"), (b"\0<\0?\0x", "utf-16be")):
        if body.startswith(start):
            return charset
    head = body[:_MOST_BYTES]
    return _of_meta_elements(head) or _of_xml_declaration(head)


def _of_meta_elements(head: bytes) -> str | None:
    at, until = 0, _MOST_BYTES
    while (markup := _MARKUP.search(head, at)) and markup.start() < until:
        if not (tag := markup["tag"]):
            end = b"-->" if markup["comment"] else b">"
            at = head.find(end, markup.start() + 2) + len(end)
            if at < len(end):
                return None
            continue
        tag = tag.lower()
        name = tag.partition(b"/")[0]
        is_meta = name == b"meta"
        attributes, end_of_tag = _attributes(head, markup.start() + 5 if is_meta else markup.end())
        if end_of_tag is None:
            return None
        if is_meta and (charset := _of_meta(attributes)):
            return charset
        at = end_of_tag
        if name in _TEXT_ENDS:
            if not (text_end := _TEXT_ENDS[name].search(head, at)):
                return None
            at = text_end.start()
        elif tag == b"/head" or (name and name not in _IN_HEAD):
            until = _LEAST_BYTES
    return None


def _attributes(head: bytes, at: int) -> tuple[dict[bytes, bytes], int | None]:
    """The attributes of a tag, the first of each name, in lower case; and its end, None where the bytes run out."""
    found: dict[bytes, bytes] = {}
    while attribute := _ATTRIBUTE.match(head, at):
        at = attribute.end()
        if attribute["name"] is None:
            return found, at
        found.setdefault(attribute["name"].lower(), _value(attribute).lower())
    return found, None


def _of_meta(attributes: dict[bytes, bytes]) -> str | None:
    if (label := attributes.get(b"charset")) is not None:
        charset = charset_of(label.decode("latin-1"))
    elif attributes.get(b"http-equiv") == b"content-type":
        charset = _of_content(attributes.get(b"content", b""))
    else:
        return None
    return _as_read({"x-user-defined": "windows-1252"}.get(charset or "", charset))


def _of_content(content: bytes) -> str | None:
    """The charset in a media type, as in `text/html; charset=utf-8`."""
    found = _CHARSET_IS.search(content)
    label = _LABEL.match(content, found.end()) if found else None
    return charset_of(_value(label).decode("latin-1")) if label else None


def _of_xml_declaration(head: bytes) -> str | None:
    end = head.find(b">")
    if not head.startswith(b"<?xml") or end < 0:
        return None
    label = _XML_LABEL.match(head[:end].partition(b"encoding")[2])
    if not label or re.search(rb"[\0-\x20]", _value(label)):
        return None
    return _as_read(charset_of(_value(label).decode("latin-1")))


def _as_read(charset: str | None) -> str | None:
    """What was read as ASCII is not UTF-16."""
    return "utf-8" if charset in ("utf-16le", "utf-16be") else charset


def _value(found: re.Match[bytes]) -> bytes:
    return next((value for kind in ("double", "single", "bare") if (value := found.groupdict().get(kind))), b"")
