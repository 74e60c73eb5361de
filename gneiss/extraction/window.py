"""The bytes of a record as they come out of the members of an archive."""

from __future__ import annotations

import re

from gneiss.extraction.members import BrokenArchiveError, Member, Members

_PIECE_BYTES = 1 << 18
_LONGEST_MATCH = 64


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
            try:
                following = self._members.member(at)
                if not following:
                    break
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
