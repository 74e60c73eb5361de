"""Archives for the tests: records as bytes, compressed as archives are, and a small crawl with all kinds of trouble."""

from __future__ import annotations

import gzip
import importlib
import pydoc
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tests.extraction import hostile

HTML = "text/html; charset=utf-8"
MODULES = ("csv", "fractions", "heapq", "json", "sched", "string", "textwrap", "statistics", "shlex", "bisect")
DUMP = "TEST-2026-11"


def documentation_pages() -> list[bytes]:
    """HTML pages of the standard library's documentation, as pydoc writes them."""
    maker = pydoc.HTMLDoc()
    return [maker.page(name, maker.docmodule(importlib.import_module(name))).encode() for name in MODULES]


def record(kind: str, content: bytes, number: int, *, length: int | None = None, **headers: str) -> bytes:
    """A record with an id that says its number; `length` where the header is to lie."""
    fields = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<{uuid.UUID(int=number).urn}>",
        "WARC-Date": "2026-11-22T10:00:00Z",
        "WARC-Target-URI": f"https://example.org/{number}",
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(content) if length is None else length),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return (
        "".join(["WARC/1.0\r\n", *(f"{k}: {v}\r\n" for k, v in fields.items()), "\r\n"]).encode()
        + content
        + b"\r\n\r\n"
    )


def response(body: bytes, number: int, *, status: str = "200 OK", content_type: str = HTML, http: str = "") -> bytes:
    """A response record with an HTTP head."""
    typed = f"Content-Type: {content_type}\r\n" if content_type else ""
    return record("response", f"HTTP/1.1 {status}\r\n{typed}{http}\r\n".encode() + body, number)


def id_of(number: int) -> str:
    """The id of the record with that number."""
    return f"<{uuid.UUID(int=number).urn}>"


def gz(part: bytes) -> bytes:
    """A gzip member."""
    return gzip.compress(part, mtime=0)


def stored(part: bytes) -> bytes:
    """A gzip member that keeps its bytes as they are."""
    return gzip.compress(part, compresslevel=0, mtime=0)


def zst(part: bytes) -> bytes:
    """A zstd frame."""
    packed: bytes = pa.compress(part, codec="zstd", asbytes=True)
    return packed


def plain(part: bytes) -> bytes:
    """As it is."""
    return part


def page(words: str, count: int = 40) -> bytes:
    """A page that any extractor finds text in."""
    return f"<html><body><article><h1>Title</h1><p>{f'{words} ' * count}</p></article></body></html>".encode()


def write_crawl(folder: Path, pages: Sequence[bytes]) -> Path:
    """Write `a.warc.gz`, `deep/b.warc.zst`, `c.warc.wet.gz`, `d.warc.gz` (unreadable) and `site/*.html`."""
    good = [response(body, 100 + number) for number, body in enumerate(pages)]
    info = record(
        "warcinfo", f"software: test\r\nisPartOf: {DUMP}\r\n".encode(), 1, Content_Type="application/warc-fields"
    )
    trouble = [
        record("request", b"GET / HTTP/1.1\r\n\r\n", 2),
        response(b"gone", 3, status="404 Not Found"),
        response(b"%PDF-1.7", 4, content_type="application/pdf"),
        response(b"", 5),
        response("<html><body><p>Größe</p></body></html>".encode("utf-16"), 6),
        response(
            page("Größe, naïve").replace("ö".encode(), b"\xf6"), 7, content_type="text/html"
        ),  # two charsets in one
        response(b"\0" + page("zeros\0 in it") + bytes(range(256)), 8),
        response(page(hostile.ENDLESS), 9),
        response(page(hostile.HUNGRY), 10),
        response(page(hostile.CRASHING), 11),
        response(page(hostile.RAISING), 12),
        response(gzip.compress(b"<html>" + b" " * 40_000_000), 13, http="Content-Encoding: gzip\r\n"),
        response(zlib.compress(page("Deflated and honest.")), 14, http="Content-Encoding: deflate\r\n"),
        response(b"\x1f\x8b\x08garbage", 15, http="Content-Encoding: gzip\r\n"),
        response(b"<html>" + b"x" * 12_000_000, 16),
        record("revisit", b"HTTP/1.1 200 OK\r\n\r\n", 17),
    ]
    damaged = bytearray(gz(response(pages[0], 20)))
    damaged[len(damaged) // 2 :] = b"\xff" * (len(damaged) - len(damaged) // 2)
    (folder / "deep").mkdir()
    (folder / "site").mkdir()
    parts = [gz(info), *map(gz, good[:5]), *map(gz, trouble), b"GARBAGE" * 10, gz(good[5]), bytes(damaged), gz(good[6])]
    (folder / "a.warc.gz").write_bytes(b"".join(parts) + gz(good[7])[:-50])
    (folder / "deep/b.warc.zst").write_bytes(b"".join(map(zst, good[5:])))
    text = "Plain text of a page, taken out by others. " * 9
    wet = record("conversion", text.encode(), 30, Content_Type="text/plain")
    (folder / "c.warc.wet.gz").write_bytes(gz(wet))
    (folder / "d.warc.gz").write_bytes(gz(b"this is no archive " * 99))
    for number, body in enumerate(pages[:3]):
        (folder / f"site/page{number}.html").write_bytes(body)
    return folder
