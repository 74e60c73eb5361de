"""The frames of zstd files: where they end, without decompressing them (RFC 8878, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

#: Of a frame, and of those that hold no data.
FRAME, _SKIPPABLE, _SKIPPABLE_KINDS = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18", range(0x50, 0x60)
#: Of both, without the first byte.
_MAGIC = (FRAME[1:], _SKIPPABLE)
#: The skippable frame in which the IIPC's archives keep the dictionary of the frames after it.
DICTIONARY = b"\x5d" + _SKIPPABLE
CHECKSUM = 4
_SINGLE_SEGMENT, _RESERVED = 32, 8
_ID_BYTES, _SIZE_BYTES = (0, 1, 2, 4), (0, 2, 4, 8)
_RUN, _NO_KIND = 1, 3
_LAST_OF_NOTHING = b"\1\0\0"
_LONGEST_BLOCK = 1 << 17
#: The offset of the first block, by the byte after the magic number.
_FIRST_BLOCK = [
    5 + (not flags & _SINGLE_SEGMENT) + _ID_BYTES[flags & 3] + (_SIZE_BYTES[flags >> 6] or flags >> 5 & 1)
    for flags in range(256)
]
#: Of the longest header, and the header of a block.
_HEAD_BYTES = 24

Peek = Callable[[int, int], bytes]


def after_empty(bytes_: bytes, at: int) -> int:
    """Where the frame at a position of some bytes ends, which may be beyond them; the position if it holds data."""
    if bytes_[at + 1 : at + 4] not in _MAGIC:
        return at
    head = bytes_[at : at + _HEAD_BYTES]
    if (size := _skipped_bytes(head)) is not None:
        return at + size
    first = _first_block(head)
    if first is None or head[first : first + 3] != _LAST_OF_NOTHING:
        return at
    return at + first + 3 + (4 if head[4] & CHECKSUM else 0)


def frame_extent(peek: Peek, start: int) -> tuple[int, bool]:
    """The end of the frame at an offset, and whether it is there; otherwise how far it could be followed.

    peek: bytes of the file by offset and size, fewer at its end. Each block but the first costs a call.
    """
    head = peek(start, _HEAD_BYTES)
    if (size := _skipped_bytes(head)) is not None:
        return start + size, size <= len(head) or bool(peek(start + size - 1, 1))
    first = _first_block(head)
    if first is None:
        return start, False
    at, block, is_last = start + first, head[first : first + 3], False
    while not is_last:
        number = int.from_bytes(block, "little")
        if len(block) < 3 or not _is_block(number):
            return at, False
        is_last = bool(number & 1)
        at += 3 + (1 if number >> 1 & 3 == _RUN else number >> 3)
        block = b"" if is_last else peek(at, 3)
    at += 4 if head[4] & CHECKSUM else 0
    return at, at - start <= len(head) or bool(peek(at - 1, 1))


def starts_with_block(head: bytes) -> bool:
    """Whether bytes start like a frame: with a header, and the header of a block."""
    at = _first_block(head)
    return at is not None and _is_block(int.from_bytes(head[at : at + 3], "little"))


def _skipped_bytes(head: bytes) -> int | None:
    """The size of a frame that is to be skipped, if bytes start with one."""
    if head[1:4] != _SKIPPABLE or head[0] not in _SKIPPABLE_KINDS or len(head) < 8:
        return None
    return 8 + int.from_bytes(head[4:8], "little")


def _first_block(head: bytes) -> int | None:
    """The offset of the first block in a frame that starts with these bytes, if one does."""
    if not head.startswith(FRAME) or len(head) < 6 or head[4] & _RESERVED:
        return None
    return _FIRST_BLOCK[head[4]]


def _is_block(number: int) -> bool:
    return number >> 1 & 3 != _NO_KIND and number >> 3 <= _LONGEST_BLOCK


def without_checksums(body: bytes) -> tuple[bytes, bool]:
    """The frames that a body starts with, without their checksums, and whether the last one is whole.

    >>> without_checksums(b"\\x28\\xb5\\x2f\\xfd\\x24\\1\\x09\\0\\0a" + b"????" + b"junk")[0].hex()
    '28b52ffd200109000061'
    """
    parts: list[bytes] = []
    at = 0
    while True:
        end, is_whole = frame_extent(lambda offset, size: body[offset : offset + size], at)
        if not is_whole:
            break
        frame = body[at:end]
        if frame.startswith(FRAME) and frame[4] & CHECKSUM:
            frame = b"%b%c%b" % (FRAME, frame[4] & ~CHECKSUM, frame[5:-4])
        parts.append(frame)
        at = end
    is_cut = body.startswith(FRAME, at)
    if is_cut:
        parts.append(body[at:])
    return b"".join(parts), not is_cut
