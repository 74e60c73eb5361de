"""Google Cloud Storage and Azure Blob Storage as far as a run asks: a stub, in a thread, of what both documents say.

It checks no signature. Where the two differ from S3 it does as they do: Azure does not count ranges from the end, and
its lists name ETags without quotes; Google compares generations where something is written.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.loopback_server import on_loopback

#: Status, headers, body.
Answer: TypeAlias = tuple[int, dict[str, str], bytes]


class StubService:
    """Objects by `bucket/key`, each with the number of its write. refusal: the status and body of every answer."""

    def __init__(self, is_azure: bool) -> None:
        self.is_azure = is_azure
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        self.refusal: tuple[int, str] | None = None
        self.port = 0
        self._writes = 0
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a request: status, headers, body."""
        parts, bucket = urlsplit(path), unquote(urlsplit(path).path.strip("/"))
        with self._lock:
            self.requests.append((method, bucket, headers))
            if self.refusal:
                return self.refusal[0], {}, self.refusal[1].encode()
            if method == "GET" and "/" not in bucket:
                return 200, {}, self._list(bucket, parse_qs(parts.query).get("prefix", [""])[0])
            if method == "POST":
                return self._batch(body)
            return self._of_object(method, bucket, headers, body)

    def _batch(self, body: bytes) -> Answer:
        """The deletions that Azure takes together, and what became of each."""
        paths = re.findall(rb"^DELETE (\S+) HTTP", body, re.MULTILINE)
        statuses = [self._of_object("DELETE", unquote(path.decode().strip("/")), {}, b"")[0] for path in paths]
        parts = "".join(
            f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {status} x\r\n\r\n\r\n"
            for number, status in enumerate(statuses)
        )
        return 202, {"Content-Type": "multipart/mixed; boundary=batch"}, f"{parts}--batch--\r\n".encode()

    def _of_object(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        found = self.objects.get(path)
        if not self._holds(found and found[1], headers):
            return 412, {}, b""
        if method == "PUT":
            self._writes += 1
            self.objects[path] = found = body, self._writes
            return 201, self._described(found), b""
        if found is None:
            return 404, {}, b""
        if method == "DELETE":
            del self.objects[path]
            return 202, {}, b""
        start, end, content = 0, len(found[0]), found[0]
        if wanted := headers.get("x-ms-range", headers.get("range", "")).removeprefix("bytes="):
            first, _, last = wanted.partition("-")
            if not first and self.is_azure:
                return 400, {}, b""
            start = int(first) if first else max(0, len(content) - int(last))
            end = min(int(last) + 1, end) if first and last else end
            if start >= end:
                return 416, {}, b""
        described = {**self._described(found), "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
        return 206 if wanted else 200, described, content[start:end]

    def _holds(self, write: int | None, headers: Mapping[str, str]) -> bool:
        """Whether the conditions of a request hold for an object of this write."""
        if (generation := headers.get("x-goog-if-generation-match")) is not None and int(generation) != (write or 0):
            return False
        if headers.get("if-none-match") == "*" and write is not None:
            return False
        return "if-match" not in headers or headers["if-match"] == _etag(write)

    def _described(self, found: tuple[bytes, int]) -> dict[str, str]:
        return {
            "ETag": _etag(found[1]),
            "x-goog-generation": str(found[1]),
            "Last-Modified": formatdate(0, usegmt=True),
        }

    def _list(self, bucket: str, prefix: str) -> bytes:
        modified = formatdate(0, usegmt=True)
        objects = [(path.removeprefix(f"{bucket}/"), stored) for path, stored in sorted(self.objects.items())]
        objects = [(key, stored) for key, stored in objects if key.startswith(prefix)]
        if self.is_azure:
            blobs = "".join(
                f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{modified}</Last-Modified>"
                f"<Etag>{_etag(write)[1:-1]}</Etag><Content-Length>{len(content)}</Content-Length>"
                "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
                for key, (content, write) in objects
            )
            return f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>".encode()
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size><ETag>{escape(_etag(write))}</ETag>"
            "<LastModified>1970-01-01T00:00:00Z</LastModified></Contents>"
            for key, (content, write) in objects
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()


def _etag(write: int | None) -> str:
    return f'"0x{write or 0:X}"'


@contextmanager
def serving(is_azure: bool) -> Iterator[StubService]:
    """The stub on a port of loopback."""
    service = StubService(is_azure)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            given = {name.lower(): value for name, value in self.headers.items()}
            status, headers, content = service.answer(self.command, self.path, given, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _do  # noqa: N815

        def log_message(self, format: str, *_: object) -> None:
            pass

    with on_loopback(Handler) as server:
        service.port = server.server_port
        yield service
