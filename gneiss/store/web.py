"""Web servers: files that `http://` and `https://` name, read only; by ranges where the server has them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from gneiss.errors import InputError, StoreError, first_line, printable
from gneiss.store.at_once import AT_ONCE
from gneiss.store.ranged import Positioned, open_ranges
from gneiss.store.store import File

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

#: Tries of a request, and of a body that is cut; the pause before each is twice the one before, from half a second.
_TRIES, _PAUSE_SECONDS = 6, 0.5
_CONNECT_SECONDS, _READ_SECONDS = 20.0, 60.0
_AGAIN = (429, 500, 502, 503, 504)
_MOST_REDIRECTS = 5
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class WebStore:
    """What web servers serve. A path is an address without its scheme's colon; nothing is listed, nothing is written.

    An ETag is the server's, or the time of the last modification.
    """

    scheme: str

    reads_versions = False
    files_at_once = AT_ONCE
    refusal = "web servers are read only: write to a folder or an object store"

    @property
    def schemes(self) -> tuple[str, ...]:
        """See Store."""
        return (self.scheme,)

    def path(self, address: str) -> str:
        """See Store. What a query or a user may hold is secret, and reaches logs: such addresses are refused."""
        parts = urlsplit(address)
        if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            found = f"{self.scheme}://{parts.hostname or ''}…"
            raise InputError(f"{found}: expected {self.scheme}://host/path, with no user, query or fragment")
        return f"{parts.netloc}{unquote(parts.path)}"

    def address(self, path: str) -> str:
        """See Store."""
        return f"{self.scheme}://{quote(path, safe=':/[]')}"

    def resolve(self, path: str) -> str:
        """See Store."""
        return path

    def pin(self, path: str) -> str | None:
        """See Store. Files are known by their ETags."""
        return None

    def find(self, path: str) -> File | None:
        """See Store."""
        if path.endswith("/") or "/" not in path:
            return None
        try:
            with _answer(self.address(path), 0, 1) as response:
                return File(path.rpartition("/")[2], _size(response), _etag(response))
        except FileNotFoundError:
            return None

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """See Store. Web servers list nothing."""
        return iter(())

    def open(self, path: str, version: File | None = None) -> Any:
        """See Store. Where a server has no ranges, a file is read from its start, and again when reading goes back."""
        import pyarrow as pa

        address = self.address(path)
        with _answer(address, 0, 1) as response:
            size, etag, has_ranges = _size(response), _etag(response), response.status != _WHOLE
        if not has_ranges:
            return pa.PythonFile(Positioned(size, _Streamed(address, size, etag).fetch), "r")
        return open_ranges(lambda start, end: b"".join(_pieces(address, etag, start, end)), size)

    def create(self, path: str, *, is_new: bool = False) -> AbstractContextManager[BinaryIO]:
        """Nothing can be written."""
        raise OSError(errno.EROFS, self.refusal, self.address(path))

    def delete(self, path: str) -> None:
        """Nothing can be deleted."""
        raise OSError(errno.EROFS, self.refusal, self.address(path))

    def sweep(self, folder: str) -> None:
        """Nothing can be deleted."""
        raise OSError(errno.EROFS, self.refusal, self.address(folder))

    def lock(self, path: str) -> AbstractContextManager[Callable[[], None]]:
        """Nothing can be held."""
        raise OSError(errno.EROFS, self.refusal, self.address(path))

    def holder(self, path: str) -> None:
        """Nobody."""


_WHOLE, _PART, _NO_RANGE = 200, 206, 416


@cache
def _pool() -> PoolManager:
    import urllib3

    retry = urllib3.Retry(
        total=_TRIES - 1, redirect=_MOST_REDIRECTS, backoff_factor=_PAUSE_SECONDS, status_forcelist=_AGAIN
    )
    timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
    return urllib3.PoolManager(retries=retry, timeout=timeout, headers={"Accept-Encoding": "identity"})


@contextmanager
def _answer(address: str, start: int, end: int | None) -> Iterator[BaseHTTPResponse]:
    """The answer to a request for a range of a file, or its rest; its body is not read. Raises OSError, StoreError."""
    from urllib3.exceptions import HTTPError

    wanted = f"bytes={start}-{'' if end is None else end - 1}"
    try:
        response = _pool().request("GET", address, headers={"Range": wanted}, preload_content=False)
    except HTTPError as error:
        cause = printable(first_line(getattr(error, "reason", None) or error))
        raise StoreError(f"{address}: {cause}; check the address and the network, and run again") from error
    try:
        if response.status not in (_WHOLE, _PART, _NO_RANGE):
            said = printable(f"the server says {response.status} {response.reason or ''}".rstrip())
            kind = {404: errno.ENOENT, 410: errno.ENOENT, 401: errno.EACCES, 403: errno.EACCES}
            raise OSError(kind.get(response.status, errno.EIO), said, address)
        yield response
    finally:
        response.close() if response.length_remaining else response.release_conn()


def _size(response: BaseHTTPResponse) -> int:
    """The size of a file, of which a range was asked for. Raises OSError."""
    _, slash, size = response.headers.get("Content-Range", "").rpartition("/")
    if response.status == _WHOLE:
        size = response.headers.get("Content-Length", "")
    elif response.status == _NO_RANGE and not slash:
        size = "0"
    if not size.isascii() or not size.isdecimal():
        raise OSError(f"{response.geturl()}: the server does not say how long the file is")
    return int(size)


def _etag(response: BaseHTTPResponse) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or str(_size(response))


def _pieces(address: str, etag: str, start: int, end: int | None) -> Iterator[bytes]:
    """The bytes of a range; where an answer is cut, another one goes on. Raises OSError."""
    import time

    from urllib3.exceptions import HTTPError

    for tried in range(_TRIES):
        try:
            with _answer(address, start, end) as response:
                if _etag(response) != etag:
                    raise OSError(errno.ESTALE, "it was replaced while it was read", address)
                skip = start if response.status == _WHOLE else 0
                if response.status == _PART and not response.headers["Content-Range"].startswith(f"bytes {start}-"):
                    raise OSError(errno.EIO, "the server sends another range than it was asked for", address)
                while piece := response.read(_PIECE_BYTES):
                    piece, skip = piece[skip:], max(0, skip - len(piece))
                    piece = piece if end is None else piece[: end - start]
                    if piece:
                        start += len(piece)
                        yield piece
                    if start == end:
                        return
                return
        except HTTPError as error:
            if tried == _TRIES - 1:
                cause = printable(first_line(error))
                raise StoreError(f"{address}: {cause}, {_TRIES} times; run again: what is finished is kept") from error
            time.sleep(_PAUSE_SECONDS * 2**tried)


class _Streamed:
    """A file of a server without ranges."""

    def __init__(self, address: str, size: int, etag: str) -> None:
        self._address, self._size, self._etag = address, size, etag
        self._reached = 0
        self._left = b""
        self._pieces: Iterator[bytes] | None = None

    def fetch(self, start: int, end: int) -> bytes:
        """Bytes of it; those before them are passed over."""
        if self._pieces is None or start < self._reached:
            self._pieces, self._reached, self._left = _pieces(self._address, self._etag, 0, None), 0, b""
        while gap := min(start - self._reached, _PIECE_BYTES):
            self._take(gap)
        return b"".join(self._take(end - start))

    def _take(self, size: int) -> list[bytes]:
        parts: list[bytes] = []
        assert self._pieces is not None
        while size:
            piece = self._left or next(self._pieces, b"")
            if not piece:
                raise OSError(errno.EIO, f"cut short at {self._reached} of {self._size} bytes", self._address)
            part, self._left = piece[:size], piece[size:]
            parts.append(part)
            size -= len(part)
            self._reached += len(part)
        return parts
