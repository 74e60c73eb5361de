"""Records of an archive: WARC and WET, plain, gzip or zstd. Damage is reported, and reading continues after it."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gneiss.errors import InputError
from gneiss.extraction.frames import FRAME, starts_with_block
from gneiss.extraction.members import CUT_SHORT, GZIP, Blocks, BrokenArchiveError, Members, Window
from gneiss.store.place import Address, Place, place_of

#: Record types whose content is read; of all others only the headers.
_READ = {"response", "resource", "conversion", "warcinfo"}
#: Why bytes are in quarantine.
DAMAGED, NO_RECORD = "damaged archive", "no record"
_NO_RECORD = "no record where one should start"
_LONGEST_HEADER = 1 << 16
_SHORT_HEADER = 1 << 12
_STARTS_LIKE = re.compile(rb"[\r\n\0]*+WARC/\d", re.IGNORECASE)
_END_OF_HEADER = re.compile(rb"\n\r*+\n")
_ANOTHER = re.compile(rb"\nWARC/\d\.\d+[ \t]*+\r*+\n", re.IGNORECASE)
_LENGTH = re.compile("[0-9]{1,18}")
_MARGIN = re.compile(rb"(?:\r*+\n){2}")
_LAST_MARGIN = re.compile(rb"(?:\r?\n){2}\Z")
_MARGIN_OF, _MARGIN_BYTES = b"\r\n\0", 16
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
class Record:
    """A record as stored in the archive.

    offset: its first byte in the file; kind: WARC-Type; size_bytes: of its content; content: None if it was not read,
    because of its kind or a size beyond the limit; cut_short: why the content is not whole, if it is not; segment: its
    WARC-Segment-Number: it is not whole either; has_wrong_length: its header declares another size than its gzip member
    or zstd frame has; length: bytes of the file from its offset on that hold it, compressed as they are, and nothing
    else; None where other records share its member.
    """

    offset: int
    kind: str
    id: str | None
    url: str | None
    date: str | None
    content_type: str
    payload_type: str | None
    size_bytes: int
    content: bytes | None
    cut_short: str = ""
    segment: str | None = None
    has_wrong_length: bool = False
    length: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether its content is not whole."""
        return bool(self.cut_short)


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
        while at < end:
            last: Record | None = None
            trouble = ""
            try:
                for record in archive.records_at(at):
                    is_archive, last = True, record
                    yield record
            except BrokenArchiveError as error:
                trouble = str(error)
            after = archive.next_start(at) if trouble else archive.end
            if trouble and not (last and last.is_cut) and (is_archive or after < blocks.size):
                yield Damage(at, after - at, trouble)
            at = archive.members.after_padding(after)
        if not is_archive and at >= blocks.size:
            beginning = _beginning(blocks)
            arc = "; `warcio recompress` converts ARC files to WARC" if beginning.startswith(b"filedesc:") else ""
            raise InputError(f"{self._file}: expected WARC records, found {beginning!r} at its start{arc}")
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
        head = self.blocks.at(at, _MARGIN_BYTES)
        if (is_gzip := head.startswith(GZIP)) and (record := self._intact(at)):
            yield record
        elif member := self.members.member(at):
            window = Window(self.members, member, _STARTS_LIKE)
            try:
                yield from self._packed(window, at, GZIP if is_gzip else FRAME)
            finally:
                self.end = window.reached
        elif _STARTS_LIKE.match(head):
            yield from self._plain(at)
        else:
            raise BrokenArchiveError(_NO_RECORD)

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

    def _intact(self, at: int) -> Record | None:
        """The record in a gzip member, where it is a small and flawless one that another follows, as nearly all are.

        All others are left to `_packed`, which reads these alike, but at half the speed.
        """
        found, end = self.members.small(at)
        if not found.startswith(b"WARC/") or not (
            end == self.blocks.size or _STARTS_LIKE.match(self.members.small(end)[0])
        ):
            return None
        try:
            header = _header_in(found[:_SHORT_HEADER])
            record, length = _described(at, header)
        except BrokenArchiveError:
            return None
        if length is None or len(found) != len(header) + length + 4 or not found.endswith(b"\r\n\r\n"):
            return None
        self._compression, self.end = GZIP, end
        is_read = record.kind in _READ and length <= self.max_record_bytes
        return replace(record, content=found[len(header) : -4] if is_read else None, length=end - at)

    def _plain(self, at: int) -> Iterator[Record]:
        """The record at an offset. A length is believed if a record can end there."""
        head = self.blocks.at(at, _SHORT_HEADER)
        if not _END_OF_HEADER.search(head):
            head = self.blocks.at(at, _LONGEST_HEADER)
        self.end = at + len(head)
        header = _header_in(head)
        record, length = _described(at, header)
        self._compression = b""
        start = self.end = at + len(header)
        end = start + (length or 0)
        cut_short = "its header declares no length" if length is None else _why_none_ends(self.blocks, start, end)
        if cut_short:
            yield replace(record, cut_short=cut_short)
            raise BrokenArchiveError(cut_short)
        if record.kind in _READ and end - start <= self.max_record_bytes:
            record = replace(record, content=self.blocks.at(start, end - start))
        margin = _MARGIN.match(self.blocks.at(end, _MARGIN_BYTES))
        yield replace(record, length=end - at + (margin.end() if margin else 0))
        self.end = end

    def _packed(self, window: Window, at: int, compression: bytes) -> Iterator[Record]:
        """The records in a window."""
        is_first = True
        while window.skip(_MARGIN_OF):
            if not _STARTS_LIKE.match(window.peek(_MARGIN_BYTES)):
                raise BrokenArchiveError(_NO_RECORD)
            header = _header_in(window.peek_until(_END_OF_HEADER, _LONGEST_HEADER))
            record, length = _described(at, header)
            self._compression = compression
            window.drop(len(header))
            limit = self.max_record_bytes if record.kind in _READ else 0
            its = _content_in(window, length, limit)
            is_read = record.kind in _READ and its.size_bytes <= limit and not its.cut_short
            is_only = is_first and not window.skip(_MARGIN_OF)
            is_first = False
            yield replace(
                record,
                size_bytes=its.size_bytes,
                content=its.bytes if is_read else None,
                cut_short=its.cut_short,
                has_wrong_length=its.has_wrong_length,
                length=window.reached - at if is_only else None,
            )
        if window.trouble:
            raise BrokenArchiveError(window.trouble)


@dataclass(frozen=True)
class _Content:
    """The content of a record: its first bytes, its size, and whether they are what the header declares."""

    bytes: bytes
    size_bytes: int
    cut_short: str = ""
    has_wrong_length: bool = False


def _content_in(window: Window, length: int | None, limit: int) -> _Content:
    """The content after a header, about `limit` bytes of it. It ends with its member, unless a record follows in it."""
    limit += _MARGIN_BYTES
    content, size = window.take(length or 0, limit)
    is_right = size == length and _is_between_records(window)
    if window.trouble not in ("", CUT_SHORT) or (window.trouble and not is_right):
        return _Content(content, length or size, f"{size} of {_or_unknown(length)} bytes: {window.trouble}")
    if is_right:
        return _Content(content, size)
    if found := _ANOTHER.search(content):
        window.put_back(content[found.start() + 1 :] if size == len(content) else b"")
        return _Content(
            content, length or size, f"another record starts after {found.start() + 1} of {_or_unknown(length)} bytes"
        )
    more, more_size = window.take_until(_ANOTHER, limit - size)
    content, size = content + more, size + more_size
    margin = _LAST_MARGIN.search(content) if size == len(content) else None
    is_whole = not window.trouble and not window.peek(1) and (bool(margin) or size >= (length or 0))
    if not is_whole:
        return _Content(content, length or size, f"{size} bytes, but {_or_unknown(length)} by its header")
    content = content[: margin.start()] if margin else content
    return _Content(content, size - (len(margin[0]) if margin else 0), has_wrong_length=True)


def _or_unknown(length: int | None) -> str:
    return "an unknown number of" if length is None else str(length)


def _is_between_records(window: Window) -> bool:
    """Whether what follows is the end of a member, or another record."""
    while True:
        head = window.peek(_SHORT_HEADER).lstrip(_MARGIN_OF)
        if not head or _STARTS_LIKE.match(head):
            return True
        if len(head) >= _MARGIN_BYTES or not window.go_on():
            return False


def _why_none_ends(blocks: Blocks, start: int, end: int) -> str:
    """Why no record can end at an offset, if it cannot."""
    if end > blocks.size:
        return f"{blocks.size - start} of {end - start} bytes"
    after = blocks.at(end, _MARGIN_BYTES)
    can_end = not after.strip(_MARGIN_OF) or _MARGIN.match(after) or _STARTS_LIKE.match(after)
    return "" if can_end else f"no record ends after the {end - start} bytes that its header declares"


def _header_in(head: bytes) -> bytes:
    """The header of a record with the empty line after it, or what is left of it. Raises BrokenArchiveError."""
    if not _STARTS_LIKE.match(head):
        raise BrokenArchiveError(_NO_RECORD)
    found = _END_OF_HEADER.search(head)
    end = found.end() if found else len(head)
    if end == _LONGEST_HEADER or _ANOTHER.search(head, 0, end):
        raise BrokenArchiveError("a record without the end of its header")
    return head[:end]


def _described(at: int, header: bytes) -> tuple[Record, int | None]:
    """A record without its content, and the length of that, if its header declares one. Raises BrokenArchiveError."""
    fields = _fields(header)
    id_, kind = fields.get("warc-record-id"), fields.get("warc-type", "").lower()
    if not (id_ or kind) or not re.fullmatch(r"[\w-]*", kind):
        raise BrokenArchiveError("a record without a header")
    url, length = fields.get("warc-target-uri"), fields.get("content-length", "")
    declared = int(length) if _LENGTH.fullmatch(length) else None
    record = Record(
        at,
        kind,
        id_,
        url and url.strip("<>"),  # as wget writes it
        fields.get("warc-date"),
        fields.get("content-type", ""),
        fields.get("warc-identified-payload-type"),
        declared or 0,
        None,
        segment=fields.get("warc-segment-number"),
    )
    return record, declared


def _fields(header: bytes) -> Mapping[str, str]:
    """The first of each field of a header by its name in lower case; what is not a field is passed over."""
    fields: dict[str, str] = {}
    name = ""
    for line in header.decode("utf-8", "replace").split("\n")[1:]:
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] = f"{fields[name]} {line.strip()}".strip()
            continue
        its, colon, value = line.partition(":")
        name = its.strip().lower() if colon else ""
        if name in fields:
            name = ""
        if name:
            fields[name] = value.strip()
    return fields


def _may_be_record(head: bytes) -> bool:
    """Whether a record may start with these bytes; of a compressed one, the first bytes in it are looked at."""
    if head.startswith(GZIP):
        try:
            return bool(_STARTS_LIKE.match(zlib.decompressobj(31).decompress(head, _MARGIN_BYTES)))
        except zlib.error:
            return False
    return not head.startswith(FRAME) or starts_with_block(head)
