"""Lines of a file or of a range of it, compressed or not, in blocks of bounded size that depend on the file only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from gneiss.arrays import UInt8Array
from gneiss.errors import first_line
from gneiss.input.formats.frames import Frames, FrameStream, frames_of
from gneiss.store.place import Place

#: What the end of a name says of how a file is compressed, in pyarrow's words.
CODECS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
MOST_LINE_BYTES = 1 << 27
#: As much of a longer line is kept.
KEPT_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 23
_SAMPLE_BYTES = 1 << 18
_READ_BYTES = 1 << 20
#: By how much a decompressor has read more than it has given, on average.
_AHEAD_BYTES = 1 << 15
_EDGE_BYTES = 1 << 16
_LEAST_BYTES = 1 << 16
_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}
_OTHER = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK\x03\x04": "a ZIP archive", b"PAR1": "Parquet"}


@dataclass(frozen=True, eq=False)
class Block:
    """Whole lines, each ending in a newline: `size` bytes of `data`, behind which there are others.

    first_line: lines before it in its range; first_byte: bytes before it in the file, decompressed; is_cut: it is the
    start of one line that is too long to be read.
    """

    data: UInt8Array
    size: int
    first_line: int
    first_byte: int
    is_cut: bool = False


def codec_of(name: str) -> str | None:
    """How a file is compressed, by the end of its name."""
    return next((codec for suffix, codec in CODECS.items() if name.lower().endswith(suffix)), None)


def digest(file: Place) -> str:
    """Of the size of a file and of its first and last bytes; an ETag knows the others."""
    with file.open() as opened:
        size = opened.size()
        found = xxhash.xxh3_128(size.to_bytes(8, "little"))
        found.update(opened.read(_EDGE_BYTES))
        opened.seek(max(size - _EDGE_BYTES, 0))
        found.update(opened.read(_EDGE_BYTES))
    return found.hexdigest()


def blocks(file: Place, start: int, end: int | None, padding: int) -> Iterator[Block]:
    """The lines that start in a range of bytes of a file, decompressed ones; end: None for all lines from there on.

    A line ends in a newline, the last one without it too. A byte order mark is left out. Raises OSError for files in
    another encoding, and where a compressed file is damaged or cut short.
    """
    codec = codec_of(file.name)
    before = max(start - 1, 0)
    with ExitStack() as stack:
        opened = stack.enter_context(file.open())
        if codec is None:
            opened.seek(before)
            lines = _Lines(opened, before, end, padding)
        elif end is None:
            lines = _Lines(stack.enter_context(pa.CompressedInputStream(opened, codec)), 0, None, padding)
        elif frames := frames_of(opened):
            first = frames.at(before)
            lines = _Lines(FrameStream(opened, frames, first), int(frames.start[first]), end, padding)
        else:
            raise OSError("expected a table of zstd frames at its end, found none")
        if start:
            lines.skip_to(before)
            lines.skip_line()
        else:
            lines.begin(codec)
        yield from lines.blocks(_BLOCK_BYTES)


def frames(file: Place) -> Frames | None:
    """The frames by which a compressed file can be cut, if it has a table of them. Raises OSError."""
    if codec_of(file.name) != "zstd":
        return None
    with file.open() as opened:
        return frames_of(opened)


def sample(file: Place, padding: int) -> tuple[Block | None, int]:
    """The first lines of a file, if it has any, and its size, decompressed: about so if it is a large one.

    Raises OSError as `blocks` does.
    """
    codec = codec_of(file.name)
    with ExitStack() as stack:
        opened = stack.enter_context(file.open())
        size = int(opened.size())
        stream = opened if codec is None else stack.enter_context(pa.CompressedInputStream(opened, codec))
        lines = _Lines(stream, 0, None, padding)
        lines.begin(codec)
        block = next(lines.blocks(_SAMPLE_BYTES), None)
        if codec is None:
            return block, size
        return block, lines.read if lines.ended else size * lines.read // max(opened.tell() - _AHEAD_BYTES, 1)


class _Lines:
    """A stream, and what was read of it and not given out yet: `_size` bytes of `_rest`."""

    def __init__(self, stream: Any, at: int, end: int | None, padding: int) -> None:
        self._stream = stream
        self._at, self._end = at, end  # where `_rest` begins, and the range ends; None: with the file
        self._padding = padding + 1
        self._rest, self._size = bytearray(), 0
        self.line = 0
        self.ended = False

    @property
    def read(self) -> int:
        """Bytes that were read, where the range begins with the file."""
        return self._at + self._size

    def begin(self, codec: str | None) -> None:
        """The first bytes say what a file is."""
        self._fill(4)
        for magic, name in _MAGIC.items():
            if self._rest.startswith(magic) and codec is None:
                raise OSError(f"it is compressed by {name}, and its name does not say so; rename it")
        for magic, name in _OTHER.items():
            if self._rest.startswith(magic):
                raise OSError(f"expected lines of UTF-8, found {name}")
        if self._rest.startswith(_BOM):
            self._take(len(_BOM))

    def skip_to(self, position: int) -> None:
        """Pass over what is before a byte."""
        while self._at < position and (self._size or self._fill(_READ_BYTES)):
            self._take(min(self._size, position - self._at))

    def skip_line(self) -> None:
        """Pass over the rest of a line."""
        while (at := self._rest.find(b"\n", 0, self._size)) < 0 and not self._is_past():
            self._take(self._size)
            if not self._fill(_READ_BYTES):
                return
        self._take(at + 1 if at >= 0 else self._size)

    def blocks(self, size: int) -> Iterator[Block]:
        """Blocks of about this many bytes."""
        while not self._is_past():
            self._fill(size if self._end is None else min(size, self._end - self._at))
            last = self._last_newline()
            while last < 0 and self._size <= MOST_LINE_BYTES and self._fill(self._more()):
                last = self._last_newline()
            if not self._size:
                return
            if is_cut := last < 0 and self._size > MOST_LINE_BYTES:
                given, size_ = self._rest[:KEPT_BYTES] + bytearray(self._padding), KEPT_BYTES
            else:
                given, size_ = self._rest, last + 1 if last >= 0 else self._size
            rest = bytearray() if is_cut else self._rest[size_ : self._size]
            if given[size_ - 1] != _NEWLINE:
                given[size_] = _NEWLINE
                size_ += 1
            block = Block(np.frombuffer(given, np.uint8), size_, self.line, self._at, is_cut)
            if is_cut:
                self.skip_line()
                self.line += 1
            else:
                self.line += int(np.count_nonzero(block.data[:size_] == _NEWLINE))
                self._at += self._size - len(rest)
                self._rest, self._size = rest, len(rest)
            yield block

    def _more(self) -> int:
        """How much to read where that is not a line yet: twice as much, or what makes it too long."""
        return max(self._size + 1, min(self._size + max(_LEAST_BYTES, self._size), MOST_LINE_BYTES + 1))

    def _last_newline(self) -> int:
        """The end of the last line in `_rest` that starts within the range."""
        if self._end is None or self._end - self._at > self._size:
            return self._size - 1 if self.ended else self._rest.rfind(b"\n", 0, self._size)
        last = max(self._end - self._at - 1, 0)  # a byte of the last line
        at = self._rest.find(b"\n", last, self._size)
        return at if at >= 0 else self._rest.rfind(b"\n", 0, last)

    def _is_past(self) -> bool:
        """Whether the next line starts behind the range, or there is none."""
        return (self._end is not None and self._at >= self._end) or (self.ended and not self._size)

    def _take(self, size: int) -> None:
        self._rest = self._rest[size : self._size]
        self._at += size
        self._size -= size

    def _fill(self, size: int) -> bool:
        """Read until `_rest` has this many bytes; whether there were any more."""
        before = self._size
        if len(self._rest) < size + self._padding:
            larger = bytearray(size + self._padding)
            memoryview(larger)[:before] = memoryview(self._rest)[:before]
            self._rest = larger
        target = memoryview(self._rest)
        while self._size < size and not self.ended:
            try:
                count = self._stream.readinto(target[self._size : min(size, self._size + _READ_BYTES)])
            except OSError as error:
                lines = self.line + self._rest.count(b"\n", 0, self._size)
                raise OSError(f"{first_line(error)}, after at least {lines:,} lines: damaged, or cut short") from error
            self.ended = not count
            self._size += count
        return self._size > before
