"""Records of an archive: WARC and WET, plain, gzip or zstd. Damage is reported, and reading continues after it."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from gneiss.errors import InputError, first_line
from gneiss.store.place import Place

if TYPE_CHECKING:
    from fastwarc import WarcRecord

#: The first bytes of a record, by the archive's compression.
_GZIP, _ZSTD, _PLAIN = _STARTS = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"WARC/1."
_LONGEST_HEADER = 1 << 16
_READ_BYTES = 1 << 20
#: Record types whose content is read; of all others only the headers.
_READ = {"response", "resource", "conversion", "warcinfo"}


@dataclass(frozen=True)
class Record:
    """A record as stored in the archive.

    offset: its first byte in the file; kind: WARC-Type; size_bytes: of its content, according to its header; content:
    None if it was not read, because of its kind or a size beyond the limit; is_cut: the archive holds less of it than
    its header declares, or the header declares no size.
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
    is_cut: bool = False


@dataclass(frozen=True)
class Damage:
    """Bytes of an archive in which no record can be read."""

    offset: int
    size_bytes: int
    reason: str


def read_records(path: Place, max_record_bytes: int) -> Iterator[Record | Damage]:
    """Yield the records of an archive in order, and the damage between them.

    max_record_bytes: longer contents are not read. After damage, reading continues at the next record start; in an
    archive that is one gzip or zstd stream there is none. Offsets are exact if each record is compressed separately,
    as it should be. Raises InputError when the file cannot be read or holds no record.
    """
    is_archive = False
    try:
        with path.open() as file:
            size = file.seek(0, io.SEEK_END)
            starts = re.compile(b"|".join(map(re.escape, _STARTS)))
            start: int | None = 0
            while start is not None and start < size:
                last: Record | None = None
                trouble = ""
                try:
                    for record in _records_from(file, start, max_record_bytes):
                        is_archive, last = True, record
                        yield record
                except _BrokenArchiveError as error:
                    trouble = str(error)
                is_suspect = bool(trouble) or (last is not None and last.size_bytes > max_record_bytes)
                whole = _whole_until(file, last, size, is_suspect) if last else start
                if whole is None and not trouble:
                    break
                whole = whole if whole is not None else last.offset if last else start
                starts = _starts_like(file, last) if last else starts
                start = _next_start(file, starts, max(whole, (last.offset if last else start) + 1))
                end = size if start is None else start
                if not (last and last.is_cut) and whole < end and (is_archive or start is not None):
                    yield Damage(whole, end - whole, trouble or "cut short")
            if not is_archive:
                file.seek(0)
                raise InputError(f"{path}: expected WARC records, found {file.read(16)!r} at its start")
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error


class _BrokenArchiveError(Exception):
    """fastwarc's message for a damaged archive."""


def _records_from(file: BinaryIO, start: int, max_record_bytes: int) -> Iterator[Record]:
    from fastwarc import ArchiveIterator

    file.seek(start)
    archive = iter(ArchiveIterator(file, parse_http=False, max_header_len=_LONGEST_HEADER))
    while True:
        try:
            record = next(archive, None)
        except OSError as error:
            raise _broken(error) from error
        if record is None:
            return
        its = _described(record)
        if not (its.id or its.kind) or not re.fullmatch(r"[\w-]*", its.kind):
            raise _BrokenArchiveError("a record without a header")
        if its.kind in _READ and its.size_bytes <= max_record_bytes:
            try:
                content = record.reader.read(its.size_bytes)
            except OSError as error:
                yield replace(its, is_cut=True)
                raise _broken(error) from error
            its = replace(its, content=content, is_cut=its.is_cut or len(content) < its.size_bytes)
        yield its


def _described(record: WarcRecord) -> Record:
    def header(name: str) -> str | None:
        value = record.headers.get_bytes(name.encode())
        return None if value is None else value.decode("utf-8", "replace").strip()

    url, length = header("WARC-Target-URI"), header("Content-Length") or ""
    return Record(
        record.stream_pos,
        (header("WARC-Type") or "").lower(),
        header("WARC-Record-ID"),
        url and url.strip("<>"),  # as wget writes it
        header("WARC-Date"),
        header("Content-Type") or "",
        header("WARC-Identified-Payload-Type"),
        record.content_length,
        None,
        is_cut=not (length.isdecimal() and int(length[:20]) == record.content_length),
    )


def _broken(error: OSError) -> Exception:
    """Distinguishes a failing disk from a damaged archive: only the former has an error number."""
    return error if error.errno is not None else _BrokenArchiveError(first_line(error))


def _starts_like(file: BinaryIO, last: Record) -> re.Pattern[bytes]:
    """The first bytes of records in the archive of this one, as far as known."""
    file.seek(last.offset)
    head = file.read(len(_PLAIN))
    ways = [way for way in _STARTS if head.startswith(way)] or _STARTS
    return re.compile(b"|".join(map(re.escape, ways)))


def _whole_until(file: BinaryIO, last: Record, size: int, is_suspect: bool) -> int | None:
    """The end of the last record that was read completely; None if unknown.

    is_suspect: its length may be wrong and include later records, so it ends with its own gzip member.
    """
    if last.is_cut:
        return last.offset
    file.seek(last.offset)
    head = file.read(_LONGEST_HEADER)
    if head.startswith(_GZIP):
        return _whole_members(file, last.offset, 1 if is_suspect else None)
    if head.startswith(_PLAIN):
        header = re.search(rb"\r?\n\r?\n", head)
        start = last.offset + (header.end() if header else 0)
        file.seek(end := start + last.size_bytes)
        margin = re.match(rb"(\r?\n){0,2}", file.read(4))
        return start if end > size else end + (margin.end() if margin else 0)
    return None


def _whole_members(file: BinaryIO, start: int, count: int | None) -> int:
    """The end of the last complete gzip member of a sequence from `start` on, or of its first few members."""
    file.seek(start)
    end, whole, member, waiting = start, 0, zlib.decompressobj(31), b""
    try:
        while whole != count and (block := waiting or file.read(_READ_BYTES)):
            member.decompress(block, _READ_BYTES)
            waiting = member.unconsumed_tail
            if member.eof:
                waiting = member.unused_data
                end, whole, member = file.tell() - len(waiting), whole + 1, zlib.decompressobj(31)
    except zlib.error:
        pass  # garbage; the members before it are complete
    return end


def _next_start(file: BinaryIO, starts: re.Pattern[bytes], after: int) -> int | None:
    """The start of the next readable record, or None."""
    at, kept = after, b""
    file.seek(after)
    while block := file.read(_READ_BYTES):
        window = kept + block
        for found in starts.finditer(window):
            if _is_record(file, candidate := at - len(kept) + found.start()):
                return candidate
        at += len(block)
        kept = window[-(len(_PLAIN) - 1) :]
        file.seek(at)
    return None


def _is_record(file: BinaryIO, start: int) -> bool:
    try:
        record = next(_records_from(file, start, 0), None)
    except _BrokenArchiveError:
        return False
    return record is not None and record.id is not None and bool(record.kind)
