"""The sandbox's protocol: pages in batches, answers one by one; lengths and bytes only.

The bodies of a batch lie one after the other in a file in memory, which costs a third of what a pipe does.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from gneiss.extraction.pages import Page

_BATCH = struct.Struct("<I")
_PAGE = struct.Struct("<HHHQ")
_ANSWER = struct.Struct("<BHQ")
ANSWER_HEAD_BYTES = _ANSWER.size
_KEPT_BYTES = 1 << 24
#: The process's message when it is ready, and its exit code when a page exceeds the memory limit.
READY = b"gneiss sandbox is ready\n"
MEMORY_EXIT = 77


class Outcome(IntEnum):
    """How a page ended."""

    TEXT = 0
    TOO_LARGE = 1
    UNDECODABLE = 2
    FAILED = 3
    NOT_HTML = 4


@dataclass(frozen=True)
class Answer:
    """The text of a page with its charset, where that was found, and the extractor that found it, or its failure."""

    outcome: Outcome
    text: str
    charset: str = ""
    charset_from: str = ""
    extractor: str = ""


def pack_batch(pages: Sequence[Page]) -> bytes:
    """Pages as bytes, without their bodies."""
    parts = [_BATCH.pack(len(pages))]
    for page in pages:
        names = [name.encode()[:1000] for name in (page.media_type, page.charset, ",".join(page.codings))]
        parts += [_PAGE.pack(*map(len, names), len(page.body)), *names]
    return b"".join(parts)


def write_bodies(file: int, pages: Sequence[Page]) -> None:
    """Write the bodies of a batch over those of the one before; the file keeps little of a long one. Raises OSError."""
    if os.fstat(file).st_size > _KEPT_BYTES:
        os.ftruncate(file, _KEPT_BYTES)
    at = 0
    for page in pages:
        body = memoryview(page.body)
        while body:
            written = os.pwrite(file, body, at)
            body, at = body[written:], at + written


def read_batch(stream: BinaryIO, bodies: int) -> Iterator[Page]:
    """The next pages of a stream, whose bodies lie in a file; none at its end."""
    head = stream.read(_BATCH.size)
    at = 0
    for _ in range(_BATCH.unpack(head)[0] if head else 0):
        *sizes, size = _PAGE.unpack(stream.read(_PAGE.size))
        media_type, charset, codings = (stream.read(size).decode("utf-8", "replace") for size in sizes)
        body = os.pread(bodies, size, at)
        while len(body) < size:
            body += os.pread(bodies, size - len(body), at + len(body))
        at += size
        yield Page(body, media_type, charset, tuple(codings.split(",") if codings else ()))


def pack_answer(answer: Answer) -> bytes:
    """An answer as bytes; lone surrogates become U+FFFD."""
    try:
        text = answer.text.encode()
    except UnicodeEncodeError:
        text = answer.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    names = f"{answer.charset} {answer.charset_from} {answer.extractor}".encode()
    return _ANSWER.pack(answer.outcome, len(names), len(text)) + names + text


def answer_size(packed: bytes | bytearray) -> int:
    """The size of the answer whose head some bytes start with."""
    _, names, text = _ANSWER.unpack_from(packed)
    size: int = ANSWER_HEAD_BYTES + names + text
    return size


def unpack_answer(packed: bytes | bytearray) -> Answer:
    """The answer that some bytes start with. Raises ValueError."""
    outcome, names_size, text_size = _ANSWER.unpack_from(packed)
    start = ANSWER_HEAD_BYTES + names_size
    names = packed[ANSWER_HEAD_BYTES:start].decode().split(" ")
    with memoryview(packed) as view:  # a text is not copied before it is decoded
        text = str(view[start : start + text_size], "utf-8")
    return Answer(Outcome(outcome), text, *names)
