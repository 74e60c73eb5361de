"""What a store is: the verbs that everything that reads or writes files is built of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class File:
    """A file of a store. name: relative to the folder that was listed; etag: another one whenever the bytes change."""

    name: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Holder:
    """Who holds a path: a process, for messages; quiet_seconds: since it last said so, where it must now and then."""

    name: str
    quiet_seconds: float | None = None


class Store(Protocol):
    """Where bytes lie. A value that travels to workers, so it holds no connection.

    A path is what `path` makes of an address; names in it are joined by `/`, and folders need not exist for themselves.
    A file is there only when it is whole. Whatever fails raises OSError, FileNotFoundError where nothing is there,
    StoreError where the store refuses or cannot be reached, whatever the file.
    """

    @property
    def schemes(self) -> Sequence[str]:
        """What stands before `://` in its addresses."""

    @property
    def refusal(self) -> str | None:
        """Why nothing can be written, and what to do instead; None where it can."""

    @property
    def reads_versions(self) -> bool:
        """Whether a file that is opened in a version is read in that version, or not at all."""

    @property
    def files_at_once(self) -> int:
        """How many files a worker reads or writes at once, which is more where each waits for a network."""

    def path(self, address: str) -> str:
        """The path that an address names. Raises InputError."""

    def address(self, path: str) -> str:
        """The address of a path, as messages show it."""

    def resolve(self, path: str) -> str:
        """The path by which a file is known that has several, where there are links."""

    def pin(self, path: str) -> str | None:
        """The path by which the files of now are found later too; None where the store keeps no revisions of them."""

    def find(self, path: str) -> File | None:
        """The file at a path, if there is one."""

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """All files in a folder and in its folders, or those whose names match a pattern as `matches` defines it."""

    def open(self, path: str, version: File | None = None) -> Any:
        """Open a file for reads of any range of it, as a `pyarrow.NativeFile`.

        version: what was found there; where the store `reads_versions`, opening or reading another one raises OSError
        with ESTALE.
        """

    def create(self, path: str, *, is_new: bool = False) -> AbstractContextManager[BinaryIO]:
        """Write a file, which replaces one that was there when the block ends well, and never is there in part.

        is_new: it replaces none; raises FileExistsError where there is one. An `etag` that what is yielded has in the
        end is the file's.
        """

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with all that is in it; nothing may be there."""

    def sweep(self, folder: str) -> None:
        """Remove what killed processes have left in a folder of files that they were writing; nobody may be writing."""

    def lock(self, path: str) -> AbstractContextManager[Callable[[], None]]:
        """Hold a path, for one process at a time. Raises BlockingIOError while another one holds it.

        Yields a check, which raises OSError when it is not held any more: before anything is written that nobody else
        may write meanwhile.
        """

    def holder(self, path: str) -> Holder | None:
        """Who holds a path, as far as one look can tell; it stays held, or free."""


def matches(name: str, pattern: str) -> bool:
    """Whether a name with folders matches a pattern: `*`, `?` and `[…]` within a part of it, `**` for any folders.

    As in `glob`, wildcards do not match a dot at the start of a part.

    >>> matches("crawl/2024/a.parquet", "**/*.parquet"), matches("crawl/a.parquet", "*.parquet")
    (True, False)
    """
    return _match(name.split("/"), pattern.split("/"))


def may_hold(folder: str, pattern: str) -> bool:
    """Whether files in a folder, or in its folders, can match a pattern as `matches` defines it.

    >>> may_hold("crawl/2024", "**/*.parquet"), may_hold("crawl/2024", "*/*.parquet"), may_hold("crawl", "*/*.parquet")
    (True, False, True)
    """
    return _may_match(folder.split("/"), pattern.split("/"))


def _may_match(parts: list[str], patterns: list[str]) -> bool:
    if not parts or not patterns:
        return bool(patterns)
    part, pattern = parts[0], patterns[0]
    is_hidden = part.startswith(".") and not pattern.startswith(".")
    if pattern == "**":
        return _may_match(parts, patterns[1:]) or (not is_hidden and _may_match(parts[1:], patterns))
    return not is_hidden and fnmatchcase(part, pattern) and _may_match(parts[1:], patterns[1:])


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns or not parts:
        return not parts and patterns in ([], ["**"])
    part, pattern = parts[0], patterns[0]
    is_hidden = part.startswith(".") and not pattern.startswith(".")
    if pattern == "**":
        return _match(parts, patterns[1:]) or (not is_hidden and _match(parts[1:], patterns))
    return not is_hidden and fnmatchcase(part, pattern) and _match(parts[1:], patterns[1:])
