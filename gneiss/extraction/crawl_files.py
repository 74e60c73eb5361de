"""What there is to extract from: archives, each a task, and groups of HTML files."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import xxhash

from gneiss.errors import InputError
from gneiss.extraction.record import Record
from gneiss.extraction.records import WHOLE, ByteRange, Damage, RangeReader
from gneiss.extraction.selection import Selected, lines_of, path_in, read_index, read_selected
from gneiss.input.files import find_files
from gneiss.store.local import LocalStore
from gneiss.store.place import Address, Place, place_of
from gneiss.store.store import File

_ARCHIVE = re.compile(r"\.(?:warc\.(?=wet))?(warc|wet)(?:\.(?:gz|zst|zstd))?$", re.IGNORECASE)
_HTML = re.compile(r"\.x?html?$", re.IGNORECASE)
#: A group of HTML files ends with the file that reaches one of these.
_GROUP_FILES, _GROUP_BYTES = 5_000, 64_000_000
#: Selected records of a task: they lie in as many archives, at worst.
_GROUP_RECORDS = 2_000
#: Archives of a list that are looked for at once.
_LOOKS = 32
_EDGE_BYTES = 1 << 16
#: Of the end of a name that is not read, how it is reported.
_ENDING = re.compile(r"(?:\.\w{1,8}){1,2}$", re.ASCII)
#: Longer names leave no room for the suffixes of the output's files.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class CrawlFiles:
    """A task: an archive or a range of its bytes, a group of HTML files, or records that an index selects.

    id: the path relative to the input, without suffix, and which range of how many it is; names: paths relative to the
    input, as in `file_path`; places: where they are; fingerprint: of names, sizes, and the two ends of each file; etag:
    of the archive, or of all files; range: of the archive, if it is not the whole; selected: the records that are read,
    if an index selects them: of files in the first place.
    """

    id: str
    names: tuple[str, ...]
    places: tuple[Place, ...]
    size_bytes: int
    fingerprint: str
    is_archive: bool
    etag: str
    range: ByteRange = WHOLE
    selected: tuple[Selected, ...] = ()

    @property
    def file(self) -> Place:
        """The archive, or the first file of a group."""
        return self.places[0]

    def check_unchanged(self) -> None:
        """Raise InputError when a file is not the one that was found. Selected records are looked at one by one."""
        if self.selected:
            return
        found = [place.find() for place in self.places]
        if _etag([file.etag if file else "" for file in found], self.is_archive) != self.etag:
            raise InputError(
                f"{self.file}: modified or replaced after the extraction began; run again when it is whole"
            )


@dataclass(frozen=True)
class CrawlInput:
    """The tasks of an input, and how many files of its folder are none, by the end of their names."""

    tasks: list[CrawlFiles]
    passed_over: Counter[str]


def find_crawl_files(input: Address, task_max_bytes: int | None = None) -> CrawlInput:
    """The archives and groups of HTML files of an input, bytewise by path.

    input: a file, a directory (searched for *.warc, *.wet, each plain, .gz or .zst, and *.html, *.htm, *.xhtml; names
    that start with `_` or `.` are left out), a glob, or file://. A file that is named by itself is taken for an archive
    unless its name is that of an HTML file. task_max_bytes: longer archives are cut into ranges of equal length, each a
    task. Raises InputError.
    """
    others: set[str] = set()

    def is_crawl_file(name: str) -> bool:
        is_one = bool(_ARCHIVE.search(name) or _HTML.search(name))
        if not is_one and not any(part[0] in "._" for part in name.split("/")):
            others.add(name)
        return is_one

    wanted = "files named *.warc, *.warc.gz, *.warc.zst, *.warc.wet.gz or *.html"
    try:
        root, files = find_files(input, is_crawl_file, wanted, warn=False)
    except InputError as error:
        if not others:
            raise
        raise InputError(f"{error}. It holds {describe_passed_over(_by_ending(others))}") from error
    passed_over = _by_ending(others if root in (place_of(input), place_of(input).pinned()) else ())
    tasks: list[CrawlFiles] = []
    pages: list[File] = []
    for file in files:
        if _HTML.search(file.name):
            pages.append(file)
        else:
            tasks += _ranges(_task(_id_of(file.name), root, [file], True), task_max_bytes or file.size_bytes)
    tasks += _groups(root, pages)
    _refuse_twins(input, tasks)
    return CrawlInput(tasks, passed_over)


def find_listed(base: Address, paths: Address, task_max_bytes: int | None = None) -> CrawlInput:
    """The archives that a list names, such as Common Crawl's `warc.paths.gz`: a path a line, relative to a base.

    One that is not there is found out when it is read. Raises InputError.
    """
    root, listed = place_of(base), place_of(paths, "list")
    names: dict[str, None] = {}
    for number, line in lines_of(listed):
        try:
            names |= {path_in(line): None} if line else {}
        except ValueError as error:
            raise InputError(f"{listed}, line {number}: {error}") from error
    if not names:
        raise InputError(f"{listed}: expected a path of an archive on each line, found none")

    def task(name: str) -> CrawlFiles:
        try:
            found = (root / name).find()
        except OSError:  # reading it says so again
            found = None
        return _task(_id_of(name), root, [replace(found, name=name) if found else File(name, 0, "")], True)

    with ThreadPoolExecutor(_LOOKS) as pool:
        tasks = [
            part
            for whole in pool.map(task, sorted(names, key=str.encode))
            for part in _ranges(whole, task_max_bytes or whole.size_bytes)
        ]
    _refuse_twins(paths, tasks)
    return CrawlInput(tasks, Counter())


def find_selected(base: Address, index: Address) -> CrawlInput:
    """The records that an index names, in groups; see `read_index`. Raises InputError."""
    root, selected = place_of(base), read_index(index)
    tasks: list[CrawlFiles] = []
    start = size = 0
    for at, record in enumerate(selected, 1):
        size += record.length
        if at - start == _GROUP_RECORDS or size >= _GROUP_BYTES or at == len(selected):
            some = tuple(selected[start:at])
            digest = xxhash.xxh3_128_hexdigest(repr([(one.file, one.offset, one.length) for one in some]).encode())
            id_ = f"selected-{len(tasks):05d}"
            tasks.append(CrawlFiles(id_, (), (root,), size, digest, False, digest, selected=some))
            start, size = at, 0
    return CrawlInput(tasks, Counter())


def _refuse_twins(input: Address, tasks: Iterable[CrawlFiles]) -> None:
    ids = Counter(task.id for task in tasks)
    twice = sorted(id_ for id_, count in ids.items() if count > 1)
    if twice:
        raise InputError(f"{input}: two files would write to the same place {twice[0]!r}; rename one of them")


def _by_ending(names: Iterable[str]) -> Counter[str]:
    endings = (_ENDING.search(name) for name in names)
    return Counter(f"*{found[0].lower()}" if found else "names without an ending" for found in endings)


def describe_passed_over(files: Counter[str]) -> str:
    """Files that are not read, in words.

    >>> describe_passed_over(Counter({"*.txt": 1, "*.arc.gz": 2}))
    '2 *.arc.gz, 1 *.txt (`warcio recompress` converts ARC files to WARC)'
    """
    by_count = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count:,} {ending}" for ending, count in by_count[:5])
    more = f" and {len(files) - 5} other kinds" if len(files) > 5 else ""
    has_arc = any(re.search(r"\.arc(\.|$)", ending) for ending in files)
    return shown + more + (" (`warcio recompress` converts ARC files to WARC)" if has_arc else "")


class CrawlReader:
    """The records of a task, each with the name of its file, in order: an iterable.

    archive: knows where it was read; None of HTML files and selected records. Iterating raises InputError when an
    archive cannot be read.
    """

    def __init__(self, task: CrawlFiles, max_record_bytes: int) -> None:
        self._task, self._max_record_bytes = task, max_record_bytes
        self.archive = RangeReader(task.file, max_record_bytes, task.range) if task.is_archive else None
        self.is_of_archives = task.is_archive or bool(task.selected)

    def __iter__(self) -> Iterator[tuple[str, Record | Damage]]:
        for record in self.archive or ():
            yield self._task.names[0], record
        if self._task.selected:
            yield from read_selected(self._task.file, self._task.selected, self._max_record_bytes)
            return
        for name, place in zip(self._task.names, self._task.places, strict=True) if self.archive is None else ():
            yield name, _read_page(name, place, self._max_record_bytes)


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


def _id_of(name: str) -> str:
    """A name without the suffixes of archives; WET files keep `.wet`: there may be a WARC file of the same name."""
    found = _ARCHIVE.search(name)
    id_ = name[: found.start()] + (".wet" if found[1].lower() == "wet" else "") if found else name
    folder, slash, last = id_.rpartition("/")
    if len(last.encode()) > _LONGEST_NAME:
        beginning = last.encode()[: _LONGEST_NAME - 20].decode(errors="ignore")
        last = f"{beginning}-{xxhash.xxh3_64_hexdigest(last.encode())}"
    return folder + slash + last


def _ranges(archive: CrawlFiles, max_bytes: int) -> Iterator[CrawlFiles]:
    """An archive, in ranges of equal length that are no longer; which derive from its size and nothing else."""
    size = archive.size_bytes
    count = max(1, -(-size // max(1, max_bytes)))
    if count == 1:
        yield archive
        return
    edges = [number * size // count for number in range(count + 1)]
    for number, (start, end) in enumerate(pairwise(edges), 1):
        id_ = f"{archive.id}.{number:0{len(str(count))}}-of-{count}"
        fingerprint = f"{archive.fingerprint}-{start}-{end}"
        yield replace(archive, id=id_, size_bytes=end - start, fingerprint=fingerprint, range=ByteRange(start, end))


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
        _etag([file.etag for file in files], is_archive),
    )


def _etag(etags: Sequence[str], is_archive: bool) -> str:
    return etags[0] if is_archive else xxhash.xxh3_64_hexdigest("\0".join(etags).encode())


def _fingerprint(files: Sequence[File], places: Sequence[Place]) -> str:
    digest = xxhash.xxh3_128()
    for file, place in zip(files, places, strict=True):
        digest.update(f"{file.name}\0{file.size_bytes}\0".encode())
        if not isinstance(place.store, LocalStore):
            digest.update(file.etag.encode())  # other stores change it only with the bytes, and may count requests
            continue
        try:
            with place.open() as opened:
                digest.update(opened.read(_EDGE_BYTES))
                opened.seek(max(0, file.size_bytes - _EDGE_BYTES))
                digest.update(opened.read(_EDGE_BYTES))
        except OSError:
            digest.update(b"cannot be read")  # reading it says so again, and by name
    return digest.hexdigest()
