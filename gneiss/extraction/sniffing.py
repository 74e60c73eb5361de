"""What a body is by its bytes, as browsers sniff it (https://mimesniff.spec.whatwg.org/); in linear time."""

from __future__ import annotations

import codecs
import re

HTML, XHTML, XML, PLAIN = "text/html", "application/xhtml+xml", "text/xml", "text/plain"
#: Of a body that has no text: followed by its kind, or by `UNKNOWN`.
BINARY = "binary: "
UNKNOWN = BINARY + "unknown"
#: The standard's resource header and binary data bytes.
_HEADER_BYTES = 1445
_BINARY_BYTES = bytes([*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)])
#: Random or compressed bytes are about a tenth binary data bytes, in any charset; text has none but strays.
_MOST_BINARY = 0.05
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: What may lie before the root of an XML document.
_LONGEST_PROLOG = 1 << 14
#: The standard's tags, and `meta`. As in Chromium, nothing need follow `<!--`.
_TAG = re.compile(
    rb"[\t\n\f\r ]*+<(?:!--|(?:!doctype[\t\n\f\r ]++html|html|head|meta|title|style|script|iframe|body|div|p|h1|table|a"
    rb"|b|br|font)[\t\n\f\r />])",
    re.IGNORECASE,
)
_XML = re.compile(rb"[\t\n\f\r ]*+<\?xml")
_XHTML_ROOT = re.compile(rb"<(?:!doctype[\t\n\f\r ]++)?(?:[a-z]{1,20}:)?html\b", re.IGNORECASE)
_BEFORE_ROOT = ((b"<!--", b"-->"), (b"<?", b"?>"), (b"<!", b">"))
_BLANKS = re.compile(rb"[\t\n\f\r ]*+")
_SIGNATURES = {
    kind: re.compile(signature, re.DOTALL)
    for kind, signature in {
        "pdf": rb"%PDF-", "postscript": rb"%!PS-Adobe-", "png": rb"\x89PNG\r\n\x1a\n", "gif": rb"GIF8[79]a",
        "jpeg": rb"\xff\xd8\xff", "webp": rb"RIFF....WEBPVP", "bmp": rb"BM", "icon": rb"\0\0[\x01\x02]\0",
        "tiff": rb"II\*\0|MM\0\*", "gzip": rb"\x1f\x8b\x08", "zip": rb"PK(?:\x03\x04|\x05\x06|\x07\x08)",
        "rar": rb"Rar!\x1a\x07", "7z": rb"7z\xbc\xaf\x27\x1c", "xz": rb"\xfd7zXZ\0", "bzip2": rb"BZh[1-9]1AY&SY",
        "zstd": rb"\x28\xb5\x2f\xfd", "mp4": rb"\0\0..ftyp", "webm": rb"\x1a\x45\xdf\xa3", "ogg": rb"OggS\0",
        "mp3": rb"ID3|\xff[\xfb\xf3\xf2]", "wave": rb"RIFF....WAVE", "avi": rb"RIFF....AVI ", "aiff": rb"FORM....AIFF",
        "midi": rb"MThd\0\0\0\x06", "flash": rb"[FCZ]WS[\x01-\x40]", "font": rb"wOF[F2]|\0\x01\0\0|OTTO\0|ttcf",
        "ole": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "elf": rb"\x7fELF", "exe": rb"MZ", "class": rb"\xca\xfe\xba\xbe",
        "wasm": rb"\0asm", "sqlite": rb"SQLite format 3\0",
        "tar": rb"[^\0].{256}ustar[\0 ]", "rtf": rb"\{\\rtf1",
    }.items()
}  # fmt: skip


def sniff(body: bytes, supplied: str) -> str:
    """The media type of a decoded body, or `BINARY` and its kind.

    supplied: its type by its headers, or nothing. HTML stays HTML unless it is binary; XML is XHTML if its root is an
    `html` element; without a type the body is HTML if it starts like it.

    >>> sniff(b"<!DOCTYPE html><p>", ""), sniff(b"%PDF-1.7", "text/html"), sniff(b"{}", "")
    ('text/html', 'binary: pdf', 'text/plain')
    """
    header = body[:_HEADER_BYTES]
    if header.startswith(_WIDE_MARKS):
        header = header[2:].replace(b"\0", b"")
    elif kind := _signature(header):
        return BINARY + kind
    header = header.removeprefix(codecs.BOM_UTF8)
    if supplied in (HTML, XHTML):
        return supplied
    if is_xml(supplied) or _XML.match(header):
        return XHTML if _has_xhtml_root(body[:_LONGEST_PROLOG].removeprefix(codecs.BOM_UTF8)) else supplied or XML
    if supplied or _TAG.match(header):
        return supplied or HTML
    return PLAIN if looks_like_text(body) else UNKNOWN


def is_xml(media_type: str) -> bool:
    """Whether a media type is one of XML."""
    return media_type in (XML, "application/xml") or media_type.endswith("+xml")


def looks_like_text(body: bytes) -> bool:
    """Whether a body has a byte order mark, or no signature and hardly any binary data bytes at its start."""
    header = body[:_HEADER_BYTES]
    if header.startswith((codecs.BOM_UTF8, *_WIDE_MARKS)):
        return True
    return _signature(header) is None and _binary_bytes(header) <= _MOST_BINARY * len(header)


def is_garbled(text: str, utf8: bytes | None = None) -> bool:
    """Whether a decoded text is of binary bytes: more than strays of its characters are controls.

    utf8: the bytes that it was decoded from without its NULs, if they are UTF-8.
    """
    if utf8 is None:
        utf8 = text.encode("utf-8", "surrogatepass")
    return _binary_bytes(utf8) - utf8.count(0) > _MOST_BINARY * len(text)


def _binary_bytes(body: bytes) -> int:
    return len(body) - len(body.translate(None, _BINARY_BYTES))


def _signature(header: bytes) -> str | None:
    """The kind of a binary file; most signatures that may be letters count only where binary data bytes follow."""
    for kind, signature in _SIGNATURES.items():
        if found := signature.match(header):
            is_no_word = kind in ("pdf", "postscript", "rtf") or (len(found[0]) > 2 and not found[0].isascii())
            return kind if is_no_word or _binary_bytes(header) else None
    return None


def _has_xhtml_root(body: bytes) -> bool:
    """Whether `html` is the first element or the document type, after declarations, instructions and comments."""
    at = 0
    while True:
        at = _BLANKS.match(body, at).end()  # type: ignore[union-attr]
        if _XHTML_ROOT.match(body, at):
            return True
        ends = next((end for start, end in _BEFORE_ROOT if body.startswith(start, at)), None)
        found = -1 if ends is None else body.find(ends, at + 2)
        if ends is None or found < 0:
            return False
        at = found + len(ends)
