"""Decoding of HTTP bodies: chunks, gzip, deflate, brotli and zstd, never beyond a limit."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence

from zstandard import ZstdDecompressor, ZstdError

from gneiss.errors import first_line
from gneiss.extraction.frames import FRAME, without_checksums
from gneiss.extraction.sniffing import looks_like_text

#: The line before a chunk; blank lines before it are passed over.
_CHUNK = re.compile(rb"[\r\n \t]*+(?=[0-9A-Fa-f])0*+([0-9A-Fa-f]{0,12}+)[ \t]*+(?:;[^\r\n]*+)?\r*+\n")
_MOST_CODINGS = 4
#: Members are fed in slices that grow: what follows a small member is not copied again and again.
_FIRST_SLICE, _LONGEST_SLICE = 1 << 8, 1 << 16
#: Bits of a gzip header's flags.
_HEADER_CRC, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


class TooLargeError(Exception):
    """A decoded body is longer than the limit."""


class BrokenBodyError(Exception):
    """A body does not match its headers, and is not text either."""


def decode_body(body: bytes, codings: Sequence[str], max_bytes: int) -> bytes:
    """Undo the codings of a body, the last one first.

    Many archives store decoded bodies under the headers of the coded ones: a body that is not coded, or fails to decode
    and is text, is used unchanged, as it is under a coding that nobody knows. A truncated body is decoded as far as
    possible; checksums are not looked at. Raises TooLargeError and BrokenBodyError.

    >>> decode_body(zlib.compress(b"<p>Hi"), ["deflate"], 100)
    b'<p>Hi'
    """
    coded = [coding for coding in codings if coding in _DECODERS]
    if len(coded) > _MOST_CODINGS and not looks_like_text(body):
        raise BrokenBodyError(f"{len(coded)} codings, one in the other")
    for coding in reversed(coded[-_MOST_CODINGS:]):
        body = _without(coding, body, max_bytes)
    if len(body) > max_bytes:
        raise TooLargeError
    unknown = [coding for coding in codings if coding not in _DECODERS and coding not in _UNCODED]
    if unknown and not looks_like_text(body):
        raise BrokenBodyError(f"unknown coding {unknown[-1][:40]!r}")
    return body


def _without(coding: str, body: bytes, max_bytes: int) -> bytes:
    """A body without a coding; itself where it is text that the coding does not fit."""
    try:
        decoded, is_whole = _DECODERS[coding](body, max_bytes)
        if not decoded and not is_whole:
            raise BrokenBodyError(f"{coding}: cut short before its first byte")
    except (BrokenBodyError, TooLargeError):
        if looks_like_text(body):
            return body
        raise
    return decoded if is_whole or not looks_like_text(body) else body


def _unchunked(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """The chunks up to the first that cannot be read; what does not start with one is not chunked."""
    parts: list[bytes] = []
    at = 0
    while head := _CHUNK.match(body, at):
        size = int(head[1] or b"0", 16)
        if not size:
            break
        parts.append(body[head.end() : head.end() + size])
        at = head.end() + size
    return (b"".join(parts), True) if parts or head else (body, True)


def _ungzipped(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """The members of a gzip file, without a look at their checksums; other bytes may follow them."""
    if not body.startswith(b"\x1f\x8b"):
        return body, True
    parts: list[bytes] = []
    at, is_whole = 0, True
    while is_whole and (start := _after_gzip_header(body, at)) is not None:
        try:
            part, at, is_whole = _inflated(body, start, max_bytes)
        except BrokenBodyError:
            if parts:
                break  # other bytes follow the members
            raise
        parts.append(part)
        max_bytes -= len(part)
        at += 8
    if not parts:
        raise BrokenBodyError("gzip: its header is damaged or cut short")
    return b"".join(parts), is_whole


def _after_gzip_header(body: bytes, at: int) -> int | None:
    """Where the data of a gzip member starts; None if it is not one."""
    if not body.startswith(b"\x1f\x8b\x08", at) or len(body) < at + 10:
        return None
    flags = body[at + 3]
    if flags & _RESERVED:
        return None
    at += 10
    if flags & _EXTRA:
        at += 2 + int.from_bytes(body[at : at + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            end = body.find(b"\0", at)
            if end < 0:
                return None
            at = end + 1
    return at + 2 if flags & _HEADER_CRC else at


def _undeflated(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """Deflate should have a zlib header, but some servers send it raw."""
    if len(body) > 2 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0 and not body[1] & 32:
        try:
            decoded, _, is_whole = _inflated(body, 2, max_bytes)
        except BrokenBodyError:
            pass  # by chance it looks like a header
        else:
            return decoded, is_whole
    decoded, _, is_whole = _inflated(body, 0, max_bytes)
    return decoded, is_whole


def _inflated(body: bytes, at: int, max_bytes: int) -> tuple[bytes, int, bool]:
    """Raw deflate from a position on, where it ends, and whether it does."""
    parts: list[bytes] = []
    inflater, size = zlib.decompressobj(-15), _FIRST_SLICE
    while not inflater.eof and at < len(body):
        piece = body[at : at + size]
        try:
            part = inflater.decompress(piece, max_bytes + 1)
        except zlib.error as error:
            raise BrokenBodyError(first_line(error)) from error
        if len(part) > max_bytes:
            raise TooLargeError
        max_bytes -= len(part)
        parts.append(part)
        at += len(piece) - len(inflater.unused_data)
        size = min(2 * size, _LONGEST_SLICE)
    return b"".join(parts), at, inflater.eof


def _unbrotlied(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    import brotli

    decoder = brotli.Decompressor()
    parts = []
    try:
        part = decoder.process(body, output_buffer_limit=max_bytes + 1)
        while part:
            max_bytes -= len(part)
            if max_bytes < 0:
                raise TooLargeError
            parts.append(part)
            part = decoder.process(b"", output_buffer_limit=max_bytes + 1)
    except brotli.error as error:
        raise BrokenBodyError(f"brotli: {first_line(error)}") from error
    return b"".join(parts), decoder.is_finished()


def _unzstd(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """The frames of a zstd file, as far as they can be decoded, without a look at their checksums."""
    if not body.startswith(FRAME):
        return body, True
    frames, is_whole = without_checksums(body)
    parts: list[bytes] = []
    reader = ZstdDecompressor().stream_reader(frames, read_across_frames=True)
    try:
        while part := reader.read(_LONGEST_SLICE):
            max_bytes -= len(part)
            if max_bytes < 0:
                raise TooLargeError
            parts.append(part)
    except ZstdError as error:
        if not parts:
            raise BrokenBodyError(first_line(error)) from error
        is_whole = False
    return b"".join(parts), is_whole


_DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "chunked": _unchunked, "gzip": _ungzipped, "x-gzip": _ungzipped, "deflate": _undeflated, "br": _unbrotlied,
    "zstd": _unzstd,
}  # fmt: skip
_UNCODED = ("identity", "none")
