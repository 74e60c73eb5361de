"""Files that are read in ranges over a network: few requests, each for what is read next."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

#: (start, end) of bytes in a file → these bytes.
Fetch: TypeAlias = Callable[[int, int], Any]
#: Where reads follow each other, each request asks for twice as much as the one before it, from and up to this.
_FIRST_BYTES, _MOST_BYTES = 1 << 16, 1 << 23
_AHEAD_AT_ONCE = 4


class Ranges(io.RawIOBase):
    """A file of a known size whose bytes are fetched. tail: its last bytes, as far as they are there already."""

    def __init__(self, fetch: Fetch, size_bytes: int, tail: Any = b"") -> None:
        self._fetch = fetch
        self._size_bytes = size_bytes
        self._tail = memoryview(tail)
        self._at = 0
        self._block = (0, 0, memoryview(b""))
        self._next_bytes = _FIRST_BYTES
        self._ahead: list[tuple[int, int, Future[Any]]] = []
        self._pool: ThreadPoolExecutor | None = None

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Begin to fetch (start, end) of bytes that are read next, each by one request; what was ahead is forgotten."""
        self._pool = self._pool or ThreadPoolExecutor(_AHEAD_AT_ONCE)
        first = self._size_bytes - len(self._tail)
        fetched = ((start, end) for start, end in ranges if 0 <= start < first and start < end <= self._size_bytes)
        self._ahead = [(start, end, self._pool.submit(self._fetch, start, end)) for start, end in fetched]

    def close(self) -> None:
        """Wait for nothing more."""
        self._ahead = []
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        super().close()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Let the next read begin elsewhere."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Bytes from here on, less than asked for only where the file ends."""
        start = self._at
        end = self._size_bytes if size is None or size < 0 else min(start + size, self._size_bytes)
        if start >= end:
            return b""
        self._at = end
        return bytes(self._bytes(start, end))

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def _bytes(self, start: int, end: int) -> memoryview | bytes:
        first = self._size_bytes - len(self._tail)
        if start >= first:
            return self._tail[start - first : end - first]
        for ahead_start, ahead_end, fetched in self._ahead:
            if ahead_start <= start and end <= ahead_end:
                return self._checked(fetched.result(), ahead_start, ahead_end)[start - ahead_start : end - ahead_start]
        its_start, its_end, block = self._block
        if its_start <= start < its_end:
            if end <= its_end:
                return block[start - its_start : end - its_start]
            return b"".join((block[start - its_start :], self._bytes(its_end, end)))
        self._next_bytes = min(2 * self._next_bytes, _MOST_BYTES) if start == its_end > 0 else _FIRST_BYTES
        wanted = min(max(end, start + self._next_bytes), max(end, first))
        found = self._checked(self._fetch(start, wanted), start, wanted)
        self._block = (start, wanted, found)
        return found[: end - start]

    @staticmethod
    def _checked(fetched: Any, start: int, end: int) -> memoryview:
        found = memoryview(fetched)
        if len(found) != end - start:
            raise OSError(f"expected {end - start} bytes from {start} on, found {len(found)}: cut short")
        return found


def open_ranges(fetch: Fetch, size_bytes: int, tail: Any = b"") -> Any:
    """See Ranges, as a `pyarrow.NativeFile`."""
    import pyarrow as pa

    class RangedFile(pa.PythonFile):  # type: ignore[misc]
        """Knows how to read ahead; see `read_ahead`."""

        def __init__(self, ranges: Ranges, _mode: str) -> None:
            self.ranges = ranges

    return RangedFile(Ranges(fetch, size_bytes, tail), "r")


def read_ahead(file: Any, ranges: Sequence[tuple[int, int]]) -> None:
    """Say what is read next of a file, (start, end) of bytes: it comes meanwhile, if the file lies in a network."""
    if isinstance(found := getattr(file, "ranges", None), Ranges):
        found.ahead(ranges)
