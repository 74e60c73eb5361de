"""Files that are read in ranges over a network: few requests, each for what is read next."""

from __future__ import annotations

import io
from bisect import bisect, insort
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gneiss.store.at_once import at_once

#: (start, end) of bytes in a file → these bytes.
Fetch: TypeAlias = Callable[[int, int], Any]
#: The last bytes of a file, which are read together: most footers are in them.
TAIL_BYTES = 1 << 16
#: Where reads follow each other, each request asks for twice as much as the one before it, from and up to this.
_FIRST_BYTES, _MOST_BYTES = 1 << 16, 1 << 23
_AHEAD_AT_ONCE = 4
#: A file that is read more than once is fetched whole if it is no larger, in one round trip: by requests of so much.
WHOLE_BYTES, _REQUEST_BYTES = 1 << 25, 1 << 23
#: As much a worker keeps of the file that it reads.
KEPT_BYTES = 1 << 26


class Kept:
    """Bytes of a file that outlast its opening: its tail, and `most_bytes`. What was kept first is forgotten first."""

    def __init__(self, most_bytes: int = 0, tail: tuple[int, memoryview] | None = None) -> None:
        self.most_bytes, self.tail = most_bytes, tail
        self._pieces: dict[int, memoryview] = {}
        self._starts: list[int] = []
        self._size = 0

    def keep(self, start: int, content: Any) -> None:
        """Keep bytes from `start` on, unless they are too many."""
        piece = memoryview(content)
        if len(piece) > self.most_bytes or self.find(start, start + len(piece)) is not None:
            return
        if start in self._pieces:
            self._forget(start)
        self._pieces[start] = piece
        self._size += len(piece)
        insort(self._starts, start)
        while self._size > self.most_bytes:
            self._forget(next(iter(self._pieces)))

    def find(self, start: int, end: int) -> memoryview | None:
        """The bytes from `start` to `end`, if they were kept together."""
        pieces = [] if self.tail is None else [self.tail]
        if at := bisect(self._starts, start):
            pieces.append((self._starts[at - 1], self._pieces[self._starts[at - 1]]))
        found = (piece[start - at : end - at] for at, piece in pieces if at <= start and end <= at + len(piece))
        return next(found, None)

    def _forget(self, start: int) -> None:
        self._size -= len(self._pieces.pop(start))
        self._starts.remove(start)


@dataclass(eq=False)
class Memory:
    """What one worker keeps of the file that it reads: a shard is read to decide it, and again to write it."""

    most_bytes: int = KEPT_BYTES
    _file: Hashable = None
    _kept: Kept = field(default_factory=Kept)

    def of(self, file: Hashable) -> Kept:
        """What is kept of a version of a file; nothing is of any other from now on."""
        if file != self._file:
            self._file, self._kept = file, Kept(self.most_bytes)
        return self._kept


@dataclass
class _Ahead:
    """Bytes that are being fetched, and those of them that are to be kept."""

    start: int
    end: int
    fetched: Future[Any]
    kept: Sequence[tuple[int, int]]


class Ranges:
    """A file of a known size whose bytes are fetched.

    tail: its last bytes, if they are there already; tail_bytes: how many are fetched together if not.
    """

    def __init__(self, fetch: Fetch, size_bytes: int, tail: Any = None, tail_bytes: int = TAIL_BYTES) -> None:
        self.kept = Kept(tail=None if tail is None else (size_bytes - len(tail), memoryview(tail)))
        self._fetch = fetch
        self._size_bytes, self._tail_bytes = size_bytes, tail_bytes
        self._block = (0, 0, memoryview(b""))
        self._next_bytes = _FIRST_BYTES
        self._ahead: list[_Ahead] = []
        self._pool: ThreadPoolExecutor | None = None

    def ahead(self, ranges: Sequence[tuple[int, int]], kept: Sequence[tuple[int, int]] = ()) -> None:
        """Begin to fetch (start, end) of bytes that are read next, each by one request; others are forgotten.

        kept: (start, end) in them of bytes that are kept.
        """
        self._pool = self._pool or ThreadPoolExecutor(_AHEAD_AT_ONCE)
        begun = {(ahead.start, ahead.end): ahead for ahead in self._ahead}
        self._ahead = [
            begun.get((start, end))
            or self._begin(start, end, [part for part in kept if start <= part[0] < part[1] <= end])
            for start, end in ranges
            if 0 <= start < end <= self._size_bytes and self.kept.find(start, end) is None
        ]

    def close(self) -> None:
        """Wait for nothing more."""
        self._ahead = []
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def read(self, start: int, end: int) -> memoryview | bytes:
        """Bytes from `start` to `end`, of which there are some."""
        if (kept := self.kept.find(start, end)) is not None:
            return kept
        for ahead in self._ahead:
            if ahead.start <= start and end <= ahead.end:
                return self._arrived(ahead)[start - ahead.start : end - ahead.start]
        its_start, its_end, block = self._block
        if its_start <= start < its_end:
            if end <= its_end:
                return block[start - its_start : end - its_start]
            return b"".join((block[start - its_start :], self.read(its_end, end)))
        follows = start == its_end > 0
        if self.kept.tail is None and start >= self._tail_start and not follows:
            self.kept.tail = self._tail_start, self._at_once(self._tail_start, self._size_bytes)
            return self.read(start, end)
        self._next_bytes = min(2 * self._next_bytes, _MOST_BYTES) if follows else _FIRST_BYTES
        tail = self._size_bytes if self.kept.tail is None else self.kept.tail[0]
        wanted = min(max(end, start + self._next_bytes), max(end, tail))
        found = self._whole(start, wanted)
        if self._size_bytes <= self.kept.most_bytes:
            self.kept.keep(start, found)
        self._block = (start, wanted, found)
        return found[: end - start]

    @property
    def _tail_start(self) -> int:
        """Where the bytes begin that are fetched together with the last one."""
        is_small = self.kept.most_bytes > 0 and self._size_bytes <= WHOLE_BYTES
        return 0 if is_small else max(0, self._size_bytes - self._tail_bytes)

    def _begin(self, start: int, end: int, kept: Sequence[tuple[int, int]]) -> _Ahead:
        assert self._pool is not None
        return _Ahead(start, end, self._pool.submit(self._whole, start, end), kept)

    def _arrived(self, ahead: _Ahead) -> memoryview:
        found: memoryview = ahead.fetched.result()
        for start, end in ahead.kept:
            piece = found[start - ahead.start : end - ahead.start]
            self.kept.keep(start, piece if len(piece) == len(found) else bytes(piece))
        ahead.kept = ()
        return found

    def _at_once(self, start: int, end: int) -> memoryview:
        """Bytes from `start` to `end`, where they are many by several requests at once."""
        if end - start <= _REQUEST_BYTES:
            return self._whole(start, end)
        pieces = [(at, min(at + _REQUEST_BYTES, end)) for at in range(start, end, _REQUEST_BYTES)]
        return memoryview(b"".join(at_once(lambda piece: self._whole(*piece), pieces)))

    def _whole(self, start: int, end: int) -> memoryview:
        found = memoryview(self._fetch(start, end))
        if len(found) != end - start:
            raise OSError(f"expected {end - start} bytes from {start} on, found {len(found)}: cut short")
        return found


class Positioned(io.RawIOBase):
    """A file of a known size, with a position; fetch: some bytes of it, from a start to an end that it has."""

    def __init__(self, size_bytes: int, fetch: Fetch, close: Callable[[], None] = lambda: None) -> None:
        self._size_bytes, self._fetch, self._close = size_bytes, fetch, close
        self._at = 0

    def close(self) -> None:
        """Wait for nothing more."""
        self._close()
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
        return bytes(self._fetch(start, end))

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def open_ranges(fetch: Fetch, size_bytes: int, tail: Any = None, tail_bytes: int = TAIL_BYTES) -> Any:
    """See Ranges, as a `pyarrow.NativeFile`."""
    import pyarrow as pa

    class RangedFile(pa.PythonFile):  # type: ignore[misc]
        """Knows how to read ahead; see `ranges_of`."""

        ranges: Ranges

    ranges = Ranges(fetch, size_bytes, tail, tail_bytes)
    file = RangedFile(Positioned(size_bytes, ranges.read, ranges.close), "r")
    file.ranges = ranges
    return file


def ranges_of(file: Any) -> Ranges | None:
    """The ranges of an open file, if it lies in a network."""
    found = getattr(file, "ranges", None)
    return found if isinstance(found, Ranges) else None
