"""The compressed parts of an archive: gzip members and zstd frames, one after the other, and the bytes in them."""

from __future__ import annotations

import io
import re
import zlib
from typing import BinaryIO, Protocol

from zlib_ng import zlib_ng

from gneiss.errors import first_line
from gneiss.extraction.frames import DICTIONARY, FRAME, frame_extent, is_empty

GZIP = b"\x1f\x8b\x08"
CUT_SHORT = "cut short"
_BLOCK_BYTES, _PIECE_BYTES = 1 << 20, 1 << 18
#: Members are fed in slices that grow: what follows a small member is not copied again and again.
_FIRST_SLICE, _LONGEST_SLICE = 1 << 10, 1 << 16
#: Members that inflate to no more are inflated at once.
_SMALL_BYTES = 1 << 20
_LONGEST_DICTIONARY = 1 << 24
_LONGEST_MATCH = 64
_LONGEST_FRAME_HEADER = 24
#: Gzip members without data, as programs write them.
_EMPTY_MEMBERS = re.compile(rb"(?:\x1f\x8b\x08\0.{6}\x03\0{9})*+", re.DOTALL)


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
        size = max(0, min(size, self.size - offset))
        at = offset - self._start
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
    def __init__(self, blocks: Blocks, start: int, dictionary: bytes | None) -> None:
        from fastwarc import ZstdReader

        self.reached, self._is_whole = frame_extent(blocks.at, start)
        end = self.reached if self._is_whole else blocks.size
        is_short = end - start <= _BLOCK_BYTES
        file = io.BytesIO(blocks.at(start, end - start)) if is_short else _Part(blocks, start, end)
        self._reader = ZstdReader(file, dictionary=dictionary)

    def more(self) -> bytes:
        try:
            bytes_: bytes = self._reader.read(_PIECE_BYTES)
        except OSError as error:
            if error.errno is not None:
                raise  # of the disk
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

    wasted_bytes: of the file, read by `small` in vain.
    """

    def __init__(self, blocks: Blocks, dictionary: bytes | None = None) -> None:
        self._blocks = blocks
        self.dictionary = dictionary
        self.wasted_bytes = 0
        self._small: dict[int, tuple[bytes, int]] = {}
        self._peeked: tuple[int, bytes, Member] | None = None

    def after_padding(self, at: int) -> int:
        """The next offset that holds something: neither zeros, empty lines nor members and frames without data."""
        size = _LONGEST_MATCH
        while at < self._blocks.size:
            block = self._blocks.at(at, size)
            padding = _EMPTY_MEMBERS.match(block).end()  # type: ignore[union-attr]
            padding = padding or len(block) - len(block.lstrip(b"\0\r\n"))
            at += padding
            if padding and block.startswith(GZIP):
                size = min(2 * size, _LONGEST_SLICE)
                continue
            if padding == len(block):
                size = min(2 * size, _LONGEST_SLICE)
                continue
            head = self._blocks.at(at, _LONGEST_FRAME_HEADER)
            end, is_whole = frame_extent(self._blocks.at, at) if is_empty(head) else (at, False)
            if not is_whole:
                return at
            if head.startswith(DICTIONARY) and end - at - 8 <= _LONGEST_DICTIONARY:
                self.dictionary = _decompressed(self._blocks.at(at + 8, end - at - 8))
            at = end
        return at

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
        return _ZstdMember(self._blocks, at, self.dictionary) if head == FRAME else None

    def remember(self, at: int, first: bytes, rest: Member) -> None:
        """Have the member at an offset, of which the first bytes were read, be the next that is opened there."""
        self._peeked = (at, first, rest)

    def small(self, at: int) -> tuple[bytes, int]:
        """The bytes of a gzip member and its end, if it is whole and small; otherwise none, and how far it was read.

        It is asked for as the next one, and as itself.
        """
        if at not in self._small:
            bytes_, reached = self._unpacked(at)
            self._small = {**dict([*self._small.items()][-1:]), at: (bytes_, reached)}
            self.wasted_bytes += 0 if bytes_ else reached - at
        return self._small[at]

    def _unpacked(self, at: int) -> tuple[bytes, int]:
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


class Window:
    """The bytes of a member, and of those after it that start no record: a record may go on in them.

    start: what a record starts like, matched at the beginning; trouble: why the member cannot be read further.
    """

    def __init__(self, members: Members, member: Member, start: re.Pattern[bytes]) -> None:
        self._members, self._member, self._start = members, member, start
        self._bytes = bytearray()
        self._is_at_end = False
        self._last_end = -1
        self.trouble = ""

    @property
    def reached(self) -> int:
        """The offset in the file up to which it was read."""
        return self._member.reached

    def peek(self, size: int) -> bytes:
        """The next bytes of the member; fewer at its end."""
        while len(self._bytes) < size and not self._is_at_end:
            try:
                piece = self._member.more()
            except BrokenArchiveError as error:
                piece, self.trouble = b"", str(error)
            self._is_at_end = not piece
            self._bytes += piece
        return bytes(self._bytes[:size])

    def drop(self, size: int) -> None:
        """Forget bytes that were peeked at."""
        del self._bytes[:size]

    def put_back(self, bytes_: bytes) -> None:
        """Have bytes that were taken come next again."""
        self._bytes[:0] = bytes_

    def skip(self, bytes_: bytes) -> bool:
        """Pass over bytes of these values; false at the end of the member."""
        while piece := self.peek(1 << 10):
            left = piece.lstrip(bytes_)
            self.drop(len(piece) - len(left))
            if left:
                return True
        return False

    def take(self, size: int, kept: int) -> tuple[bytes, int]:
        """The next bytes, only the first `kept` of them, and how many there were before the end."""
        parts: list[bytes] = []
        taken = 0
        while taken < size and (self.peek(1) or self.go_on()):
            piece = bytes(self._bytes[: size - taken])
            self.drop(len(piece))
            parts.append(piece[: max(0, kept - taken)])
            taken += len(piece)
        return b"".join(parts), taken

    def take_until(self, pattern: re.Pattern[bytes], kept: int) -> tuple[bytes, int]:
        """As `take`, the bytes of the member before the first match, with the first byte of it."""
        parts: list[bytes] = []
        taken = 0
        while piece := self.peek(_PIECE_BYTES):
            found = pattern.search(piece)
            if found:
                piece = piece[: found.start() + 1]
            elif len(piece) == _PIECE_BYTES:
                piece = piece[:-_LONGEST_MATCH]  # a match may begin there
            self.drop(len(piece))
            parts.append(piece[: max(0, kept - taken)])
            taken += len(piece)
            if found:
                break
        return b"".join(parts), taken

    def peek_until(self, pattern: re.Pattern[bytes], most: int) -> bytes:
        """The next bytes, up to the end of the first match; at most `most` if there is none."""
        size = 1 << 10
        while True:
            piece = self.peek(size)
            if found := pattern.search(piece):
                return piece[: found.end()]
            if size >= most or (len(piece) < size and not self.go_on()):
                return piece
            size = min(2 * size, most)

    def go_on(self) -> bool:
        """Go on with the next member, if it starts no record."""
        while not self.trouble and self.reached != self._last_end:
            at = self._members.after_padding(self.reached)
            following = self._members.member(at)
            if not following:
                break
            try:
                piece = following.more()
            except BrokenArchiveError:
                break
            if self._start.match(piece):
                self._members.remember(at, piece, following)
                break
            self._member, self._is_at_end = following, not piece
            self._bytes += piece
            if piece:
                return True
        self._last_end = self.reached
        return False


def _decompressed(dictionary: bytes) -> bytes:
    """A dictionary, which may be a zstd frame itself."""
    from fastwarc import ZstdReader

    if not dictionary.startswith(FRAME):
        return dictionary
    try:
        found: bytes = ZstdReader(io.BytesIO(dictionary)).read(_LONGEST_DICTIONARY)
    except OSError as error:
        raise BrokenArchiveError(f"its dictionary: {first_line(error)}") from error
    return found
