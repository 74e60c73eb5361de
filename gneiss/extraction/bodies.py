"""Decoding of HTTP bodies: chunks, gzip, deflate, brotli and zstd, never beyond a limit."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence

from gneiss.errors import first_line

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]{0,1000}\r?\n")
_MOST_CODINGS = 4


class TooLargeError(Exception):
    """A decoded body is longer than the limit."""


class BrokenBodyError(Exception):
    """A body does not match its headers, and is not a plain page either."""


def decode_body(body: bytes, codings: Sequence[str], max_bytes: int) -> bytes:
    """Undo the codings of a body, the last one first.

    Many archives store decoded bodies under the headers of the coded ones: a body that does not look coded is used
    unchanged. A truncated body is decoded as far as possible. Raises TooLargeError and BrokenBodyError.

    >>> decode_body(zlib.compress(b"<p>Hi"), ["deflate"], 100)
    b'<p>Hi'
    """
    if len(codings) > _MOST_CODINGS:
        raise BrokenBodyError(f"{len(codings)} codings, one in the other")
    for coding in reversed(codings):
        if coding == "chunked":
            body = _unchunked(body)
        elif coding in ("gzip", "x-gzip"):
            body = _inflated(body, 31, max_bytes) if body.startswith(b"\x1f\x8b") else body
        elif coding == "deflate":
            body = _undeflated(body, max_bytes)
        elif coding == "br":
            body = _unbrotlied(body, max_bytes)
        elif coding == "zstd":
            body = _unzstd(body, max_bytes) if body.startswith(b"\x28\xb5\x2f\xfd") else body
        elif coding not in ("identity", "none") and not _is_page(body):
            raise BrokenBodyError(f"unknown coding {coding!r}")
    if len(body) > max_bytes:
        raise TooLargeError
    return body


def _is_page(body: bytes) -> bool:
    """Whether a body with a Content-Encoding is a plain page nevertheless."""
    return body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" or not body.strip()


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while head := _CHUNK.match(body, at):
        size = int(head[1], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[head.end() : head.end() + size])
        at = head.end() + size
        at += 2 if body.startswith(b"\r\n", at) else 1 if body.startswith(b"\n", at) else 0
    is_cut = at >= len(body) and bool(parts)
    return b"".join(parts) if is_cut else body


def _inflated(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = max_bytes
    while body:
        member = zlib.decompressobj(window_bits)
        try:
            part = member.decompress(body, left + 1)
        except zlib.error as error:
            if parts:
                break  # other bytes follow the members
            raise BrokenBodyError(first_line(error)) from error
        if len(part) > left:
            raise TooLargeError
        left -= len(part)
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def _undeflated(body: bytes, max_bytes: int) -> bytes:
    """Deflate should have a zlib header, but some servers send it raw."""
    if _is_page(body):
        return body
    try:
        return _inflated(body, 15, max_bytes)
    except BrokenBodyError:
        return _inflated(body, -15, max_bytes)


def _unbrotlied(body: bytes, max_bytes: int) -> bytes:
    import brotli

    if _is_page(body):
        return body
    decoder = brotli.Decompressor()
    parts = []
    left = max_bytes
    try:
        part = decoder.process(body, output_buffer_limit=left + 1)
        while part:
            left -= len(part)
            if left < 0:
                raise TooLargeError
            parts.append(part)
            part = decoder.process(b"", output_buffer_limit=left + 1)
    except brotli.error as error:
        raise BrokenBodyError(f"brotli: {first_line(error)}") from error
    return b"".join(parts)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    from fastwarc import ZstdReader

    try:
        decoded: bytes = ZstdReader(io.BytesIO(body)).read(max_bytes + 1)
    except OSError as error:
        raise BrokenBodyError(f"zstd: {first_line(error)}") from error
    if len(decoded) > max_bytes:
        raise TooLargeError
    return decoded
