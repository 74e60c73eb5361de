"""The compressed parts of an archive: gzip members and zstd frames, one after the other, and the bytes in them."""

from __future__ import annotations

import io
import re
import zlib
from typing import Any, BinaryIO, Protocol

from zlib_ng import zlib_ng
from zstandard import ZstdCompressionDict, ZstdDecompressor, ZstdError, frame_content_size

from gneiss.errors import first_line
from gneiss.extraction.frames import DICTIONARY, FRAME, after_empty, frame_extent

GZIP = b"\x1f\x8b\x08"
CUT_SHORT = "cut short"
_BLOCK_BYTES, _PIECE_BYTES = 1 << 20, 1 << 18
#: Members are fed in slices that grow: what follows a small member is not copied again and again.
_FIRST_SLICE, _LONGEST_SLICE = 1 << 10, 1 << 16
#: Members that inflate to no more are inflated at once.
_SMALL_BYTES = 1 << 20
_LONGEST_DICTIONARY = 1 << 24
#: Bytes of all dictionaries of an archive, each of which counts for some.
_MOST_DICTIONARIES, _LEAST_DICTIONARY = 1 << 26, 1 << 18
_LONGEST_MATCH = 64
_LONGEST_FRAME_HEADER = 24
#: Zeros, empty lines, and gzip members without data, as programs write them.
_PADDING = re.compile(rb"(?:[\0\r\n]++|\x1f\x8b\x08\0.{6}\x03\0{9})*+", re.DOTALL)


class BrokenArchiveError(Exception):
    """Bytes of an archive that cannot be read."""


class Blocks:
    """Bytes of a file by offset, read in blocks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._start, self._block = 0, b""

    def at(self, offset: int, size: int) -> bytes:
        """The bytes from an offset on; fewer at the end of the file. Raises OSError."""
        at = offset - self._start
        if at >= 0 and at + size <= len(self._block):
            return self._block[at : at + size]
        size = max(0, min(size, self.size - offset))
        if at < 0 or at + size > len(self._block):
            known = self._block[at:] if at >= 0 else b""  # a store is not asked for bytes twice
            self._file.seek(offset + len(known))
            self._start, self._block, at = offset, known + self._file.read(max(size - len(known), _BLOCK_BYTES)), 0
        return self._block[at : at + size]


class Member(Protocol):
    """A compressed part of an archive.

    reached: the offset up to which the file was read for it: its end, once `more` has given all bytes.
    """

    @property
    def reached(self) -> int:
        """See Member."""

    def more(self) -> bytes:
        """The next bytes; nothing at the end. Raises BrokenArchiveError, OSError."""


class _GzipMember:
    def __init__(self, blocks: Blocks, start: int) -> None:
        self._blocks, self.reached = blocks, start
        self._inflater = zlib.decompressobj(31)
        self._slice = _FIRST_SLICE

    def more(self) -> bytes:
        while not self._inflater.eof:
            piece = self._inflater.unconsumed_tail or self._blocks.at(self.reached, self._slice)
            if not piece:
                raise BrokenArchiveError(CUT_SHORT)
            try:
                bytes_ = self._inflater.decompress(piece, _PIECE_BYTES)
            except zlib.error as error:
                self.reached += len(piece)
                raise BrokenArchiveError(first_line(error)) from error
            left = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            self.reached += len(piece) - len(left)
            self._slice = min(8 * self._slice, _LONGEST_SLICE)
            if bytes_:
                return bytes_
        return b""


class _ZstdMember:
    def __init__(self, blocks: Blocks, start: int, decompressor: ZstdDecompressor) -> None:
        self.reached, self._is_whole = frame_extent(blocks.at, start)
        end = self.reached if self._is_whole else blocks.size
        is_short = end - start <= _BLOCK_BYTES
        stored: Any = blocks.at(start, end - start) if is_short else _Part(blocks, start, end)
        self._reader = decompressor.stream_reader(stored)

    def more(self) -> bytes:
        try:
            bytes_ = self._reader.read(_PIECE_BYTES)
        except ZstdError as error:
            raise BrokenArchiveError(first_line(error) if self._is_whole else CUT_SHORT) from error
        if not bytes_ and not self._is_whole:
            raise BrokenArchiveError(CUT_SHORT)
        return bytes_


class _Begun:
    """A member whose first bytes are known; `rest` gives the others, if there are any."""

    def __init__(self, first: bytes, reached: int, rest: Member | None = None) -> None:
        self._first, self._reached, self._rest = first, reached, rest

    @property
    def reached(self) -> int:
        return self._rest.reached if self._rest else self._reached

    def more(self) -> bytes:
        first, self._first = self._first, b""
        return first or (self._rest.more() if self._rest else b"")


class _Part(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, blocks: Blocks, start: int, end: int) -> None:
        self._blocks, self._start, self._end, self._at = blocks, start, end, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = origin + offset
        return self._at - self._start

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._at
        bytes_ = self._blocks.at(self._at, left if size < 0 else min(size, left))
        self._at += len(bytes_)
        return bytes_


class Members:
    """Opens the members of a file. It remembers the dictionary of zstd frames, which precedes them, and what it has
    just unpacked.

    dictionary: as it is stored; wasted_bytes: of the file, read by `small` in vain.
    """

    def __init__(self, blocks: Blocks, dictionary: bytes | None = None) -> None:
        self._blocks = blocks
        self.dictionary = dictionary
        self.wasted_bytes = 0
        self._small: dict[int, tuple[bytes, int]] = {}
        self._peeked: tuple[int, bytes, Member] | None = None
        self._decompressor: ZstdDecompressor | str | None = None
        self._dictionaries_left = _MOST_DICTIONARIES

    def after_padding(self, at: int) -> int:
        """The next offset that holds something: neither zeros, empty lines nor members and frames without data."""
        size = _LONGEST_MATCH
        while block := self._blocks.at(at, size):
            passed = _padding_in(block) or self._passed_frame(at, block)
            if not passed:
                break
            at += passed
            size = min(2 * size, _LONGEST_SLICE)
        return at

    def _passed_frame(self, at: int, block: bytes) -> int:
        """The size of a frame without data, if a block starts with one that is whole; a dictionary is remembered."""
        size = after_empty(block, 0)
        if at + size > self._blocks.size:
            return 0
        if block.startswith(DICTIONARY):
            self._decompressor, self.dictionary = None, self._blocks.at(at + 8, size - 8)
        return size

    def member(self, at: int) -> Member | None:
        """The member at an offset; None if there is none."""
        if (known := self._small.get(at)) and known[0]:
            return _Begun(*known)
        if self._peeked and self._peeked[0] == at:
            _, first, rest = self._peeked
            self._peeked = None
            return _Begun(first, at, rest)
        head = self._blocks.at(at, 4)
        if head.startswith(GZIP):
            return _GzipMember(self._blocks, at)
        return _ZstdMember(self._blocks, at, self.decompressor()) if head == FRAME else None

    def remember(self, at: int, first: bytes, rest: Member) -> None:
        """Have the member at an offset, of which the first bytes were read, be the next that is opened there."""
        self._peeked = (at, first, rest)

    def small(self, at: int) -> tuple[bytes, int]:
        """The bytes of a member and its end, if it is whole and small; otherwise none, and how far it was read.

        It is asked for as the next one, and as itself.
        """
        if (known := self._small.get(at)) is None:
            known = self._unzstd(at) if self._blocks.at(at, len(FRAME)) == FRAME else self._ungzipped(at)
            if len(self._small) > 1:
                del self._small[next(iter(self._small))]
            self._small[at] = known
            self.wasted_bytes += 0 if known[0] else known[1] - at
        return known

    def _ungzipped(self, at: int) -> tuple[bytes, int]:
        inflater = zlib_ng.decompressobj(31)
        parts: list[bytes] = []
        left, size = _SMALL_BYTES, _FIRST_SLICE
        try:
            while left and not inflater.eof and (piece := self._blocks.at(at, size)):
                at += len(piece)
                parts.append(inflater.decompress(piece, left))
                left -= len(parts[-1])
                size = _LONGEST_SLICE
        except zlib_ng.error:  # type: ignore[misc] # declared as an instance
            return b"", at
        return b"".join(parts) if inflater.eof else b"", at - len(inflater.unused_data)

    def _unzstd(self, at: int) -> tuple[bytes, int]:
        end, is_whole = frame_extent(self._blocks.at, at)
        if not is_whole or end - at > _SMALL_BYTES:
            return b"", at
        stored = self._blocks.at(at, end - at)
        try:
            if frame_content_size(stored) > _SMALL_BYTES:
                return b"", at
            return self.decompressor().decompress(stored, max_output_size=_SMALL_BYTES), end
        except (ZstdError, BrokenArchiveError):
            return b"", end

    def decompressor(self) -> ZstdDecompressor:
        """Of zstd frames, with the dictionary that precedes them. Raises BrokenArchiveError."""
        if self._decompressor is None:
            self._decompressor = self._new_decompressor()
        if isinstance(self._decompressor, str):
            raise BrokenArchiveError(f"its dictionary: {self._decompressor}")
        return self._decompressor

    def _new_decompressor(self) -> ZstdDecompressor | str:
        """One with the dictionary, or why there is none."""
        if not self.dictionary:
            return ZstdDecompressor()
        if self._dictionaries_left <= 0:
            return "the archive has too many"
        try:
            dictionary = _unpacked(self.dictionary)
            self._dictionaries_left -= len(dictionary) + _LEAST_DICTIONARY
            return ZstdDecompressor(dict_data=ZstdCompressionDict(dictionary))
        except ZstdError as error:
            self._dictionaries_left -= _LONGEST_DICTIONARY
            return first_line(error)


def _padding_in(block: bytes) -> int:
    """The size of the padding that a block starts with, up to a dictionary, or a frame that is not whole in it."""
    end = 0
    while True:
        start = _PADDING.match(block, end).end()  # type: ignore[union-attr]
        end = after_empty(block, start)
        if end == start or end > len(block) or block.startswith(DICTIONARY, start):
            return start


def _unpacked(dictionary: bytes) -> bytes:
    """A dictionary, which may be a zstd frame itself. Raises ZstdError."""
    if not dictionary.startswith(FRAME):
        return dictionary
    if frame_content_size(dictionary) > _LONGEST_DICTIONARY:
        raise ZstdError(f"longer than {_LONGEST_DICTIONARY} bytes")
    return ZstdDecompressor().decompress(dictionary, max_output_size=_LONGEST_DICTIONARY)
