"""Records of an archive: WARC and WET, plain, gzip or zstd. Damage is reported, and reading continues after it."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gneiss.errors import InputError
from gneiss.extraction.content import MARGIN_BYTES, MARGIN_OF, content_in, content_of, margin_bytes, why_none_ends
from gneiss.extraction.frames import FRAME, starts_with_block
from gneiss.extraction.members import CUT_SHORT, GZIP, Blocks, BrokenArchiveError, Members
from gneiss.extraction.record import (
    END_OF_HEADER,
    LONGEST_HEADER,
    NO_RECORD_THERE,
    STARTS_LIKE,
    Content,
    Record,
    header_in,
    record_of,
)
from gneiss.extraction.window import Window
from gneiss.store.place import Address, Place, place_of

#: Why bytes are in quarantine.
DAMAGED, NO_RECORD = "damaged archive", "no record"
_SHORT_HEADER = 1 << 12
#: Where a record may start, by the archive's compression.
_CANDIDATES = {
    GZIP: rb"(?=\x1f\x8b\x08[\0-\x1f].{4}[\0\2\4][\0-\x0d\xff])",
    FRAME: rb"(?=\x28\xb5\x2f\xfd[^\x08-\x0f\x18-\x1f\x28-\x2f\x38-\x3f\x48-\x4f\x58-\x5f\x68-\x6f\x78-\x7f])",
    b"": rb"(?=[Ww][Aa][Rr][Cc]/\d\.\d+[ \t]*+\r*+\n[^\r\n:]{1,200}:)",
}
_FIRST_SEARCHED, _LONGEST_SEARCHED, _PROBED_BYTES = 1 << 12, 1 << 18, 1 << 10
#: What reading after damage may cost: this many bytes for each of the file, and some more. A failure counts as a few.
_MOST_READINGS, _FREE_BYTES, _FAILURE_BYTES = 16, 1 << 25, 1 << 12


@dataclass(frozen=True)
class Damage:
    """Bytes of an archive in which no record can be read. kind: DAMAGED; or NO_RECORD, if an index led there."""

    offset: int
    size_bytes: int
    reason: str
    kind: str = DAMAGED


@dataclass(frozen=True)
class ByteRange:
    """A part of an archive: the records that start from one offset on and before another; None: to the end.

    first: where the first of them starts, if that is known; otherwise it is searched for.
    """

    start: int = 0
    end: int | None = None
    first: int | None = None


WHOLE = ByteRange()


def read_records(archive: Place, max_record_bytes: int) -> Iterator[Record | Damage]:
    """Yield the records of an archive in order, and the damage between them; see RangeReader."""
    return iter(RangeReader(archive, max_record_bytes))


def read_record(archive: Address, offset: int, length: int, max_record_bytes: int = 10_000_000) -> Record:
    """Fetch one record of an archive again, by a read of its bytes and hardly any others.

    archive: a local file, or one of any store; offset, length: in bytes, as the columns `warc_offset` and `warc_length`
    have them; max_record_bytes: longer contents are not read. Raises InputError where something else is there.
    """
    place = place_of(archive)
    try:
        with place.open() as file:
            file.seek(offset)
            stored = bytes(file.read(length))
            whole = Members(Blocks(file))
            if stored.startswith(FRAME):
                whole.after_padding(0)  # which knows the dictionary then
        return record_in(stored, offset, length, max_record_bytes, whole.dictionary)
    except BrokenArchiveError as error:
        raise InputError(f"{place}: expected a record in the {length} bytes from {offset} on: {error}") from error
    except OSError as error:
        raise InputError(f"{place}: cannot read: {error.strerror or error}") from error


def record_in(
    stored: bytes, offset: int, length: int, max_record_bytes: int, dictionary: bytes | None = None
) -> Record:
    """The record in the bytes of an archive from an offset on. Raises BrokenArchiveError where that is not all."""
    blocks = Blocks(io.BytesIO(stored))
    reader = _Archive(blocks, Members(blocks, dictionary), max_record_bytes)
    found = list(reader.records_at(0))
    if len(found) != 1 or reader.members.after_padding(reader.end) < len(stored):
        raise BrokenArchiveError("there are several")
    if found[0].cut_short or len(stored) < length:
        raise BrokenArchiveError(CUT_SHORT)
    return replace(found[0], offset=offset)


class RangeReader:
    """The records of an archive that start in a range of its bytes, in order, and the damage between them: an iterable.

    max_record_bytes: longer contents are not read. A record ends with its gzip member or zstd frame, whatever length
    its header declares. After damage, reading continues at the next record start; in an archive that is one stream
    there is none. Padding is passed over. Iterating raises InputError when the file cannot be read, or holds no record.

    Any cut of an archive into ranges gives the records of the whole, if each range starts with what the one before it
    ended at. Where a range starts first is a guess: what looks like a record there may lie in the content of another.

    first: where reading started in the range, None if nothing does; end: where it would go on after the range, once it
    has been read; info: the first record before the range, which may be a warcinfo.
    """

    def __init__(self, archive: Place, max_record_bytes: int, range: ByteRange = WHOLE) -> None:
        self._file, self._max_record_bytes, self._range = archive, max_record_bytes, range
        self.first: int | None = None
        self.end = 0
        self.info: Record | None = None

    def __iter__(self) -> Iterator[Record | Damage]:
        try:
            with self._file.open() as file:
                yield from self._read(Blocks(file))
        except OSError as error:
            raise InputError(f"{self._file}: cannot read: {error.strerror or error}") from error

    def _read(self, blocks: Blocks) -> Iterator[Record | Damage]:
        archive = _Archive(blocks, Members(blocks), self._max_record_bytes)
        at = archive.members.after_padding(0)
        end = blocks.size if self._range.end is None else min(self._range.end, blocks.size)
        is_archive = self._range.start > 0
        if is_archive:
            self.info = archive.first_record(at, self._range.start)
            at = archive.candidate(self._range.start, end) if self._range.first is None else self._range.first
        self.first = at if at < end else None
        first_trouble = ""
        while at < end:
            last: Record | None = None
            trouble = ""
            try:
                for record in archive.records_at(at):
                    is_archive, last = True, record
                    yield record
            except BrokenArchiveError as error:
                trouble = str(error)
                first_trouble = first_trouble or trouble
            after = archive.next_start(at) if trouble else archive.end
            if trouble and not (last and last.is_cut) and (is_archive or after < blocks.size):
                yield Damage(at, after - at, trouble)
            at = archive.members.after_padding(after)
        if not is_archive and at >= blocks.size:
            beginning = _beginning(blocks)
            is_arc = beginning.startswith(b"filedesc:")
            why = "`warcio recompress` converts ARC files to WARC" if is_arc else first_trouble or NO_RECORD_THERE
            raise InputError(f"{self._file}: expected WARC records, found {beginning!r} at its start; {why}")
        self.end = at


def _beginning(blocks: Blocks) -> bytes:
    head = blocks.at(0, 16)
    try:
        member = Members(blocks).member(0)
        return (member.more() if member else head)[:16]
    except BrokenArchiveError:
        return head


class _Archive:
    """Reads records at offsets of a file, and finds the next ones after damage.

    end: of what was read last, or how far it could be read.
    """

    def __init__(self, blocks: Blocks, members: Members, max_record_bytes: int) -> None:
        self.blocks, self.members, self.max_record_bytes = blocks, members, max_record_bytes
        self.end = 0
        self._compression: bytes | None = None
        self._read_after_damage = 0

    def records_at(self, at: int) -> Iterator[Record]:
        """The records of the member at an offset, or the one record that lies there. Raises BrokenArchiveError."""
        self.end = at
        head = self.blocks.at(at, MARGIN_BYTES)
        compression = next((magic for magic in (GZIP, FRAME) if head.startswith(magic)), b"")
        if compression and (record := self._alone(at, compression)):
            yield record
        elif member := self.members.member(at):
            window = Window(self.members, member, STARTS_LIKE)
            try:
                yield from self._packed(window, at, compression)
            finally:
                self.end = window.reached
        elif STARTS_LIKE.match(head):
            yield from self._plain(at)
        else:
            raise BrokenArchiveError(NO_RECORD_THERE)

    def next_start(self, after: int) -> int:
        """The next offset after one that could not be read where a record may start; the end of the file if none."""
        self._read_after_damage += max(0, self.end - after) + _FAILURE_BYTES
        # whoever nests starts in what cannot be read has it read no more often than this
        read = self._read_after_damage + self.members.wasted_bytes
        return self.candidate(max(after + 1, (read - _FREE_BYTES) // _MOST_READINGS))

    def candidate(self, at: int, end: int | None = None) -> int:
        """The first offset from one on where a record may start; `end` (default: of the file) if there is none."""
        end = self.blocks.size if end is None else end
        patterns = _CANDIDATES.values() if self._compression is None else [_CANDIDATES[self._compression]]
        candidates = re.compile(b"|".join(patterns), re.DOTALL)
        searched = _FIRST_SEARCHED
        while at < end:
            block = self.blocks.at(at, searched + _PROBED_BYTES)
            for found in candidates.finditer(block):
                if found.start() >= searched:
                    break
                if _may_be_record(block[found.start() : found.start() + _PROBED_BYTES]):
                    return at + found.start()
            at += searched
            searched = min(2 * searched, _LONGEST_SEARCHED)
        return end

    def first_record(self, at: int, end: int) -> Record | None:
        """The first record from an offset on that starts before another, damaged or not; its compression is known then.

        Few bytes are looked at, if there is none.
        """
        end = min(end, at + _FREE_BYTES)
        while at < end:
            try:
                if record := next(self.records_at(at), None):
                    return record
            except BrokenArchiveError:
                at = self.members.after_padding(self.next_start(at))
            else:
                at = self.members.after_padding(self.end)
        return None

    def _alone(self, at: int, compression: bytes) -> Record | None:
        """The record in a small member, if it is the only one there and another member follows, as nearly all are.

        All others are left to `_packed`, which reads these alike, but at a third of the speed.
        """
        found, end = self.members.small(at)
        if not found.startswith(b"WARC/") or not (
            end == self.blocks.size or STARTS_LIKE.match(self.members.small(end)[0])
        ):
            return None
        try:
            header = header_in(found)
        except BrokenArchiveError:
            return None
        content = content_of(found[header.size_bytes :], header.length, self.max_record_bytes)
        if content is None:
            return None
        self._compression, self.end = compression, end
        return record_of(at, header, content, self.max_record_bytes, end - at)

    def _plain(self, at: int) -> Iterator[Record]:
        """The record at an offset. A length is believed if a record can end there."""
        head = self.blocks.at(at, _SHORT_HEADER)
        if not END_OF_HEADER.search(head):
            head = self.blocks.at(at, LONGEST_HEADER)
        self.end = at + len(head)
        header = header_in(head)
        self._compression = b""
        start = self.end = at + header.size_bytes
        size = header.length or 0
        end = start + size
        cut_short = "its header declares no length" if header.length is None else why_none_ends(self.blocks, start, end)
        if cut_short:
            yield record_of(at, header, Content(b"", size, cut_short), 0, None)
            raise BrokenArchiveError(cut_short)
        content = self.blocks.at(start, size) if header.is_read and size <= self.max_record_bytes else b""
        length = end - at + margin_bytes(self.blocks, end)
        yield record_of(at, header, Content(content, size), self.max_record_bytes, length)
        self.end = end

    def _packed(self, window: Window, at: int, compression: bytes) -> Iterator[Record]:
        """The records in a window."""
        is_first = True
        while window.skip(MARGIN_OF):
            if not STARTS_LIKE.match(window.peek(MARGIN_BYTES)):
                raise BrokenArchiveError(NO_RECORD_THERE)
            header = header_in(window.peek_until(END_OF_HEADER, LONGEST_HEADER))
            self._compression = compression
            window.drop(header.size_bytes)
            content = content_in(window, header.length, self.max_record_bytes)
            is_only = is_first and not window.skip(MARGIN_OF)
            is_first = False
            yield record_of(at, header, content, self.max_record_bytes, window.reached - at if is_only else None)
        if window.trouble:
            raise BrokenArchiveError(window.trouble)


def _may_be_record(head: bytes) -> bool:
    """Whether a record may start with these bytes; of a compressed one, the first bytes in it are looked at."""
    if head.startswith(GZIP):
        try:
            return bool(STARTS_LIKE.match(zlib.decompressobj(31).decompress(head, MARGIN_BYTES)))
        except zlib.error:
            return False
    return not head.startswith(FRAME) or starts_with_block(head)
