"""A proxy before an S3 server that counts requests and answers some of them as bad networks and bad days do.

It forwards the signed bytes as they are, in a thread of the process of the tests.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import unescape

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Request:
    """A request that came: its S3 operation, bucket and key, and what else its head says."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def operation(self) -> str:
        """As the S3 API calls it: GetObject, ListObjectsV2, UploadPart …"""
        match self.method, self.query:
            case "GET", _ if not self.key:
                return "ListObjectsV2" if "list-type" in self.query else "GetBucket"
            case "POST", {"delete": _}:
                return "DeleteObjects"
            case "POST", {"uploads": _}:
                return "CreateMultipartUpload"
            case "POST", {"uploadId": _}:
                return "CompleteMultipartUpload"
            case "PUT", {"partNumber": _}:
                return "UploadPart"
            case "DELETE", {"uploadId": _}:
                return "AbortMultipartUpload"
        return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[self.method]


@dataclass
class Fault:
    """What happens to the next `times` requests of an operation (a pattern) on a key (a pattern), or each n-th of them.

    then: is called when such a request has come, or when the server has done it where the answer is lost; before_s:
    wait before anything; status, code, message: answer so, and forward nothing; upload_bytes: cut the
    connection after this much of the body has come; is_lost: let the server do it, then cut without an answer;
    answer_bytes: cut after this much of the answer's body; short_by: cut this much off the answer's body, and say so in
    its head; bytes_per_s: send the answer slowly; hidden: pattern of keys that a list leaves out.
    """

    operation: str = "*"
    key: str = "*"
    times: int = 1 << 60
    every: int = 1
    then: Callable[[], None] = lambda: None
    before_s: float = 0.0
    status: int | None = None
    code: str = ""
    message: str = "it is a test"
    upload_bytes: int | None = None
    is_lost: bool = False
    answer_bytes: int | None = None
    short_by: int = 0
    bytes_per_s: float | None = None
    hidden: str | None = None
    met: int = 0

    def meets(self, request: Request) -> bool:
        """Whether it is this request's turn; it is counted."""
        if not (fnmatchcase(request.operation, self.operation) and fnmatchcase(request.key, self.key)):
            return False
        self.met += 1
        return self.met % self.every == 0 and self.met <= self.times * self.every


SLOW_DOWN = {"status": 503, "code": "SlowDown", "message": "Please reduce your request rate."}
UNAVAILABLE = {"status": 503, "code": "ServiceUnavailable", "message": "Please try again."}
INTERNAL = {"status": 500, "code": "InternalError", "message": "We encountered an internal error. Please try again."}
EXPIRED = {"status": 400, "code": "ExpiredToken", "message": "The provided token has expired."}
SKEWED = {"status": 403, "code": "RequestTimeTooSkewed",
          "message": "The difference between the request time and the current time is too large."}  # fmt: skip
DENIED = {"status": 403, "code": "AccessDenied", "message": "Access Denied"}


@dataclass
class Proxy:
    """The proxy. faults: what to do, the first that meets a request; requests: all that came, in order."""

    target: int
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def fault(self, operation: str = "*", key: str = "*", **settings: object) -> Iterator[Fault]:
        """A fault inside the block. What it was meant for must have come, else the test tests nothing."""
        fault = Fault(operation, key, **settings)  # type: ignore[arg-type]
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults = [each for each in self.faults if each is not fault]
        assert fault.met >= fault.every, f"no request met {fault}"

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """The operations asked for inside the block, when it has ended."""
        before, counts = len(self.requests), Counter[str]()
        yield counts
        counts.update(request.operation for request in self.requests[before:])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of a client, until one side ends it."""
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            try:
                async with _connected(self.target) as upstream:
                    while await self._one(reader, writer, *upstream):
                        await writer.drain()
            finally:
                writer.transport.abort() if not writer.is_closing() else None

    async def _one(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bool:  # fmt: skip
        """Whether another request may follow."""
        raw = await client.readuntil(b"\r\n\r\n")
        request = _parse(raw)
        self.requests.append(request)
        fault = next((each for each in self.faults if each.meets(request)), None) or Fault()
        size = int(request.headers.get("content-length", "0"))
        if not fault.is_lost:
            fault.then()
        await asyncio.sleep(fault.before_s)
        if fault.upload_bytes is not None:
            await client.readexactly(min(size, fault.upload_bytes))
            return False
        if fault.status is not None:
            await client.readexactly(size)
            to_client.write(_refusal(request, fault))
            return True
        to_server.write(raw)
        async for block in _blocks(client, size):
            to_server.write(block)
            await to_server.drain()
        head = await server.readuntil(b"\r\n\r\n")
        headers = _headers(head)
        has_body = request.method != "HEAD" and head[9:12] not in (b"204", b"304")
        body = _body(server, headers) if has_body else _blocks(server, 0)
        if fault.is_lost:
            async for _ in body:
                pass
            fault.then()
            return False
        if fault.hidden is not None or fault.short_by or "chunked" in headers.get("transfer-encoding", ""):
            whole = b"".join([block async for block in body])
            whole = _without(whole, fault.hidden)[: max(0, len(whole) - fault.short_by)]
            head = re.sub(rb"(?i)(content-length|transfer-encoding):[^\r]*\r\n", b"", head)
            head = head[:-2] + b"Content-Length: %d\r\n\r\n" % len(whole)
            body = _of(whole)
        to_client.write(head)
        left = fault.answer_bytes
        async for block in body:
            if left is not None and left <= len(block):
                to_client.write(block[:left])
                await to_client.drain()
                await asyncio.sleep(0.01)  # so that it is sent
                return False
            left = left if left is None else left - len(block)
            pieces = [block]
            if fault.bytes_per_s is not None:
                step = max(1, int(fault.bytes_per_s / 20))
                pieces = [block[start : start + step] for start in range(0, len(block), step)]
            for piece in pieces:
                to_client.write(piece)
                await to_client.drain()
                await asyncio.sleep(len(piece) / fault.bytes_per_s if fault.bytes_per_s is not None else 0)
        return headers.get("connection", "").lower() != "close"


@contextmanager
def before(target: int) -> Iterator[Proxy]:
    """A proxy on loopback before the server at this port, in a thread."""
    proxy, loop = Proxy(target), asyncio.new_event_loop()
    started = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=_BLOCK * 4)
        proxy.port = server.sockets[0].getsockname()[1]
        started.set()
        await server.serve_forever()

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    task = loop.create_task(serve())
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_BLOCK * 4)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _parse(head: bytes) -> Request:
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    parts = urlsplit(target)
    bucket, _, key = parts.path.removeprefix("/").partition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Request(method, unquote(bucket), unquote(key), query, _headers(head))


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _blocks(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        block = await reader.read(min(size, _BLOCK))
        if not block:
            raise ConnectionError("the other side ended in mid-body")
        size -= len(block)
        yield block


def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if "chunked" in headers.get("transfer-encoding", ""):
        return _chunks(reader)
    return _blocks(reader, int(headers.get("content-length", "0")))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


async def _of(whole: bytes) -> AsyncIterator[bytes]:
    yield whole


def _without(listing: bytes, hidden: str | None) -> bytes:
    """A list without the keys that match a pattern."""
    if hidden is None:
        return listing
    entries = re.findall(r"<Contents>.*?</Contents>", listing.decode(), re.DOTALL)
    for entry in entries:
        key = re.search(r"<Key>(.*?)</Key>", entry, re.DOTALL)
        assert key is not None
        if fnmatchcase(unescape(key[1]), hidden):
            listing = listing.replace(entry.encode(), b"")
    return listing


def _refusal(request: Request, fault: Fault) -> bytes:
    body = f"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>{fault.code}</Code><Message>{fault.message}</Message>"
    body = "" if request.method == "HEAD" else f"{body}</Error>"
    head = f"HTTP/1.1 {fault.status} {fault.code}\r\nContent-Type: application/xml\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()
