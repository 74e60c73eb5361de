"""What there is to extract from: archives, each a task, and groups of HTML files."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from gneiss.errors import InputError
from gneiss.extraction.records import Damage, Record, read_records
from gneiss.input.files import find_files
from gneiss.store.place import Address, Place
from gneiss.store.store import File

_ARCHIVE = re.compile(r"\.(warc|wet|warc\.wet)(\.(gz|zst|zstd))?$", re.IGNORECASE)
_HTML = re.compile(r"\.x?html?$", re.IGNORECASE)
#: A group of HTML files ends with the file that reaches one of these.
_GROUP_FILES, _GROUP_BYTES = 5_000, 64_000_000
_EDGE_BYTES = 1 << 16


@dataclass(frozen=True)
class CrawlFiles:
    """A task: an archive, or a group of HTML files.

    id: the path relative to the input, without suffix; names: paths relative to the input, as in `file_path`; places:
    where they are; fingerprint: of names, sizes, and the two ends of each file; etag: of the archive, or of all files.
    """

    id: str
    names: tuple[str, ...]
    places: tuple[Place, ...]
    size_bytes: int
    fingerprint: str
    is_archive: bool
    etag: str

    @property
    def file(self) -> Place:
        """The archive, or the first file of a group."""
        return self.places[0]


def find_crawl_files(input: Address) -> list[CrawlFiles]:
    """The archives and groups of HTML files of an input, bytewise by path.

    input: a file, a directory (searched for *.warc, *.wet, each plain, .gz or .zst, and *.html, *.htm, *.xhtml; names
    that start with `_` or `.` are left out), a glob, or file://. A file that is named by itself is taken for an archive
    unless its name is that of an HTML file. Raises InputError.
    """
    expected = "files named *.warc, *.warc.gz, *.warc.zst, *.warc.wet.gz or *.html"
    root, files = find_files(input, _is_crawl_file, expected)
    tasks, pages = [], []
    for file in files:
        if _HTML.search(file.name):
            pages.append(file)
        else:
            tasks.append(_task(_ARCHIVE.sub("", file.name), root, [file], True))
    tasks += _groups(root, pages)
    ids = [task.id for task in tasks]
    if len(set(ids)) < len(ids):
        twice = sorted(id_ for id_ in ids if ids.count(id_) > 1)
        raise InputError(f"{input}: two files would write to the same place {twice[0]!r}; rename one of them")
    return tasks


def read_crawl_files(task: CrawlFiles, max_record_bytes: int) -> Iterator[tuple[str, Record | Damage]]:
    """Yield file name and record of a task, in order. Raises InputError when an archive cannot be read."""
    if task.is_archive:
        for record in read_records(task.places[0], max_record_bytes):
            yield task.names[0], record
        return
    for name, place in zip(task.names, task.places, strict=True):
        yield name, _read_page(name, place, max_record_bytes)


def _read_page(name: str, place: Place, max_record_bytes: int) -> Record | Damage:
    try:
        with place.open() as file:
            size = file.size()
            content = bytes(file.read()) if size <= max_record_bytes else None
    except OSError as error:
        return Damage(0, 0, f"cannot read: {error.strerror or error}")
    seen = xxhash.xxh3_128_hexdigest(content or b"")
    id_ = f"<{uuid.uuid5(uuid.NAMESPACE_OID, f'{name} {seen}').urn}>"
    return Record(0, "resource", id_, None, None, "text/html", None, size, content)


def _is_crawl_file(name: str) -> bool:
    return bool(_ARCHIVE.search(name) or _HTML.search(name))


def _groups(root: Place, pages: Sequence[File]) -> Iterator[CrawlFiles]:
    """HTML files in groups, as they are small and many."""
    group: list[File] = []
    number = 0
    for index, page in enumerate(pages):
        group.append(page)
        size = sum(file.size_bytes for file in group)
        if size >= _GROUP_BYTES or len(group) == _GROUP_FILES or index == len(pages) - 1:
            yield _task(f"html-{number:05d}", root, group, False)
            group, number = [], number + 1


def _task(id_: str, root: Place, files: Sequence[File], is_archive: bool) -> CrawlFiles:
    places = tuple(root / file.name for file in files)
    return CrawlFiles(
        id_,
        tuple(file.name for file in files),
        places,
        sum(file.size_bytes for file in files),
        _fingerprint(files, places),
        is_archive,
        files[0].etag if is_archive else xxhash.xxh3_64_hexdigest("\0".join(file.etag for file in files).encode()),
    )


def _fingerprint(files: Sequence[File], places: Sequence[Place]) -> str:
    digest = xxhash.xxh3_128()
    for file, place in zip(files, places, strict=True):
        digest.update(f"{file.name}\0{file.size_bytes}\0".encode())
        try:
            with place.open() as opened:
                digest.update(opened.read(_EDGE_BYTES))
                opened.seek(max(0, file.size_bytes - _EDGE_BYTES))
                digest.update(opened.read(_EDGE_BYTES))
        except OSError:
            digest.update(b"cannot be read")  # reading it says so again, and by name
    return digest.hexdigest()
