"""The seekable format of zstd: frames that are decompressed each by itself, and a table of them at the end of the file.

As contrib/seekable_format of facebook/zstd describes it, and t2sz and its like write it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array

_SKIPPABLE, _SEEKABLE = 0x184D2A5E, 0x8F92EAB1
_HEADER, _FOOTER = struct.Struct("<II"), struct.Struct("<IBI")
_HAS_CHECKSUMS, _RESERVED = 0x80, 0x7C
#: A file with larger frames is read as a whole: they are decompressed at once.
MOST_FRAME_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a file. stored, start: int64 (frames + 1,), where each begins in the file, and decompressed."""

    stored: Int64Array
    start: Int64Array

    @property
    def size(self) -> int:
        """Of all, decompressed."""
        return int(self.start[-1])

    @property
    def largest(self) -> int:
        """The size of the largest one, decompressed."""
        return int(np.diff(self.start).max())

    def at(self, position: int) -> int:
        """The frame that holds a byte."""
        return int(np.searchsorted(self.start, position, side="right")) - 1

    def edges(self, parts: int) -> list[int]:
        """Where so many parts of about one size begin and end, decompressed, each at a frame; fewer of few frames."""
        wanted = np.arange(parts) * self.size // parts
        return [int(edge) for edge in np.unique([*self.start[np.searchsorted(self.start, wanted)], self.size])]


def frames_of(file: Any) -> Frames | None:
    """The frames of a file as its table has them; None where it has no table, or frames that are too large."""
    size = int(file.size())
    if size < _HEADER.size + _FOOTER.size:
        return None
    file.seek(size - _FOOTER.size)
    count, flags, magic = _FOOTER.unpack(file.read(_FOOTER.size))
    words = 3 if flags & _HAS_CHECKSUMS else 2
    table = 4 * words * count + _FOOTER.size
    if magic != _SEEKABLE or flags & _RESERVED or not count or _HEADER.size + table > size:
        return None
    file.seek(size - table - _HEADER.size)
    found = bytes(file.read(_HEADER.size + table))
    sizes = np.frombuffer(found, "<u4", count * words, _HEADER.size).reshape(count, words)[:, :2].astype(np.int64)
    stored, start = (np.append(0, np.cumsum(column)) for column in sizes.T)
    is_whole = _HEADER.unpack_from(found) == (_SKIPPABLE, table) and stored[-1] == size - table - _HEADER.size
    return Frames(stored, start) if is_whole and sizes.max() <= MOST_FRAME_BYTES else None


class FrameStream:
    """The bytes of a file from a frame on, decompressed. Every frame must have the size that the table says."""

    def __init__(self, file: Any, frames: Frames, first: int) -> None:
        self._file, self._frames, self._next = file, frames, first
        self._rest = memoryview(b"")
        file.seek(int(frames.stored[first]))

    def readinto(self, target: memoryview) -> int:
        """Read into a buffer; 0: there is no more. Raises OSError."""
        while not self._rest and self._next + 1 < len(self._frames.start):
            stored, size = (
                offsets[self._next + 1] - offsets[self._next] for offsets in (self._frames.stored, self._frames.start)
            )
            self._rest = memoryview(pa.Codec("zstd").decompress(self._file.read(int(stored)), int(size), asbytes=True))
            self._next += 1
        count = min(len(self._rest), len(target))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
