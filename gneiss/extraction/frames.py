"""The frames of zstd files: where they end, without decompressing them (RFC 8878, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

#: Of a frame, and of those that hold no data.
FRAME, _SKIPPABLE, _SKIPPABLE_KINDS = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18", range(0x50, 0x60)
#: The skippable frame in which the IIPC's archives keep the dictionary of the frames after it.
DICTIONARY = b"\x5d" + _SKIPPABLE
CHECKSUM = 4
_SINGLE_SEGMENT, _RESERVED = 32, 8
_ID_BYTES, _SIZE_BYTES = (0, 1, 2, 4), (0, 2, 4, 8)
_RUN, _NO_KIND = 1, 3
_LAST_OF_NOTHING = 1
_LONGEST_BLOCK = 1 << 17

Peek = Callable[[int, int], bytes]


def is_empty(head: bytes) -> bool:
    """Whether a frame that starts with these bytes (nine or more, where there are any) holds no data."""
    if head[1:4] == _SKIPPABLE:
        return head[0] in _SKIPPABLE_KINDS
    first = _first_block(head)
    return first is not None and int.from_bytes(head[first : first + 3], "little") == _LAST_OF_NOTHING


def frame_extent(peek: Peek, start: int) -> tuple[int, bool]:
    """The end of the frame at an offset, and whether it is there; otherwise how far it could be followed.

    peek: bytes of the file by offset and size, fewer at its end. Each block costs a call.
    """
    head = peek(start, 9)
    if head[1:4] == _SKIPPABLE and head[0] in _SKIPPABLE_KINDS:
        at = start + 8 + int.from_bytes(head[4:8], "little")
        return at, len(head) >= 8 and (at == start + 8 or bool(peek(at - 1, 1)))
    first = _first_block(head)
    if first is None:
        return start, False
    at = start + first
    is_last = False
    while not is_last:
        block = peek(at, 3)
        number = int.from_bytes(block, "little")
        if len(block) < 3 or not _is_block(number):
            return at, False
        is_last = bool(number & 1)
        at += 3 + (1 if number >> 1 & 3 == _RUN else number >> 3)
    at += 4 if head[4] & CHECKSUM else 0
    return at, bool(peek(at - 1, 1))


def starts_with_block(head: bytes) -> bool:
    """Whether bytes start like a frame: with a header, and the header of a block."""
    at = _first_block(head)
    return at is not None and _is_block(int.from_bytes(head[at : at + 3], "little"))


def _first_block(head: bytes) -> int | None:
    """The offset of the first block in a frame that starts with these bytes, if one does."""
    if not head.startswith(FRAME) or len(head) < 6 or head[4] & _RESERVED:
        return None
    flags = head[4]
    is_single = bool(flags & _SINGLE_SEGMENT)
    return 5 + (not is_single) + _ID_BYTES[flags & 3] + (_SIZE_BYTES[flags >> 6] or is_single)


def _is_block(number: int) -> bool:
    return number >> 1 & 3 != _NO_KIND and number >> 3 <= _LONGEST_BLOCK


def without_checksums(body: bytes) -> bytes:
    """The frames of a file without their checksums, up to the first that is cut or not a frame, which is left as it is.

    >>> without_checksums(b"\\x28\\xb5\\x2f\\xfd\\x24\\1\\x09\\0\\0a" + b"????" + b"junk").hex()
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
    if body.startswith(FRAME, at):
        parts.append(body[at:])
    return b"".join(parts)
