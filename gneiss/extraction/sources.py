"""What there is to extract from: archives, each a task, and groups of HTML files."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from gneiss.errors import InputError
from gneiss.extraction.records import Damage, Record, read_records
from gneiss.input.shard import find_files

_ARCHIVE = re.compile(r"\.(warc|wet|warc\.wet)(\.(gz|zst|zstd))?$", re.IGNORECASE)
_HTML = re.compile(r"\.x?html?$", re.IGNORECASE)
#: A group of HTML files ends with the file that reaches one of these.
_GROUP_FILES, _GROUP_BYTES = 5_000, 64_000_000
_EDGE_BYTES = 1 << 16


@dataclass(frozen=True)
class Source:
    """A task: an archive, or a group of HTML files.

    id: the path relative to the input, without suffix; names: paths relative to the input, as in `file_path`; paths:
    where they are; fingerprint: of names, sizes, and the two ends of each file; modified_ns: of the file last modified.
    """

    id: str
    names: tuple[str, ...]
    paths: tuple[str, ...]
    size_bytes: int
    fingerprint: str
    is_archive: bool
    modified_ns: int

    @property
    def path(self) -> str:
        """The archive, or the first file of a group."""
        return self.paths[0]


def find_sources(source: str | Path) -> list[Source]:
    """The archives and groups of HTML files of an input, bytewise by path.

    source: a file, a directory (searched for *.warc, *.wet, each plain, .gz or .zst, and *.html, *.htm, *.xhtml; names
    that start with `_` or `.` are left out), a glob, or file://. A file that is named by itself is taken for an archive
    unless its name is that of an HTML file. Raises InputError.
    """
    root, paths = find_files(source, _is_source, "files named *.warc, *.warc.gz, *.warc.zst, *.warc.wet.gz or *.html")
    sources, pages = [], []
    for path in paths:
        name = path.relative_to(root).as_posix()
        if _HTML.search(name):
            pages.append((name, path))
        else:
            found = path.stat()
            fingerprint, modified_ns = _fingerprint([(name, path)]), found.st_mtime_ns
            id_ = _ARCHIVE.sub("", name)
            sources.append(Source(id_, (name,), (str(path),), found.st_size, fingerprint, True, modified_ns))
    sources += _groups(pages)
    ids = [source.id for source in sources]
    if len(set(ids)) < len(ids):
        twice = sorted(id_ for id_ in ids if ids.count(id_) > 1)
        raise InputError(f"{source}: two files would write to the same place {twice[0]!r}; rename one of them")
    return sources


def read_source(source: Source, max_record_bytes: int) -> Iterator[tuple[str, Record | Damage]]:
    """Yield file name and record of a source, in order. Raises InputError when an archive cannot be read."""
    if source.is_archive:
        for record in read_records(Path(source.paths[0]), max_record_bytes):
            yield source.names[0], record
        return
    for name, path in zip(source.names, source.paths, strict=True):
        yield name, _read_page(name, Path(path), max_record_bytes)


def _read_page(name: str, path: Path, max_record_bytes: int) -> Record | Damage:
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= max_record_bytes else None
    except OSError as error:
        return Damage(0, 0, f"cannot read: {error.strerror}")
    seen = xxhash.xxh3_128_hexdigest(content or b"")
    id_ = f"<{uuid.uuid5(uuid.NAMESPACE_OID, f'{name} {seen}').urn}>"
    return Record(0, "resource", id_, None, None, "text/html", None, size, content)


def _is_source(path: Path) -> bool:
    return bool(_ARCHIVE.search(path.name) or _HTML.search(path.name)) and path.is_file()


def _groups(pages: Sequence[tuple[str, Path]]) -> Iterator[Source]:
    """HTML files in groups, as they are small and many."""
    group: list[tuple[str, Path]] = []
    number = size = modified_ns = 0
    for index, page in enumerate(pages):
        found = page[1].stat()
        group.append(page)
        size += found.st_size
        modified_ns = max(modified_ns, found.st_mtime_ns)
        if size >= _GROUP_BYTES or len(group) == _GROUP_FILES or index == len(pages) - 1:
            names, paths = zip(*((name, str(path)) for name, path in group), strict=True)
            yield Source(f"html-{number:05d}", names, paths, size, _fingerprint(group), False, modified_ns)
            group, size, modified_ns, number = [], 0, 0, number + 1


def _fingerprint(files: Sequence[tuple[str, Path]]) -> str:
    digest = xxhash.xxh3_128()
    for name, path in files:
        size = path.stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        try:
            with path.open("rb") as file:
                digest.update(file.read(_EDGE_BYTES))
                file.seek(max(0, size - _EDGE_BYTES))
                digest.update(file.read(_EDGE_BYTES))
        except OSError:
            digest.update(b"cannot be read")  # reading it says so again, and by name
    return digest.hexdigest()
