"""The local file system: a file lies beside its place until it is whole; the kernel holds the locks."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from gneiss.errors import InputError
from gneiss.store.store import File

#: What a file is called while it is written: `.<name>.<process>.part`.
_UNFINISHED = re.compile(r"(.*/)?\.[^/]*\.\d+\.part", re.DOTALL)


@dataclass(frozen=True)
class LocalStore:
    """The file system of this machine, and what is mounted into it. An ETag is the time of modification, in ns."""

    schemes = ("", "file")

    def path(self, address: str) -> str:
        """An absolute path, since workers may live in another folder."""
        parts = urlsplit(address)
        if parts.scheme != "file":
            return str(Path(address).absolute())
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{address}: expected file:///absolute/path, found the machine {parts.netloc!r} in it")
        return str(Path(unquote(parts.path)).absolute())

    def address(self, path: str) -> str:
        """The path."""
        return path

    def resolve(self, path: str) -> str:
        """See Store."""
        return os.path.realpath(path)

    def find(self, path: str) -> File | None:
        """See Store."""
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _file(os.path.basename(path), found) if stat.S_ISREG(found.st_mode) else None

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """See Store. A link that leads nowhere counts, so that it is met when it is read; links to folders do not."""
        names = _walked(folder) if pattern is None else sorted(glob.iglob(pattern, root_dir=folder, recursive=True))
        for name in names:
            try:
                found = os.stat(os.path.join(folder, name))
            except OSError:
                yield File(name, 0, "")
                continue
            if stat.S_ISREG(found.st_mode) and not _UNFINISHED.fullmatch(name):
                yield _file(name, found)

    def open(self, path: str) -> Any:
        """See Store."""
        import pyarrow as pa

        try:
            return pa.OSFile(path)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, os.strerror(error.errno), path) from error

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """See Store."""
        final = Path(path)
        temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def delete(self, path: str) -> None:
        """See Store."""
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        """See Store."""
        for name in _walked(folder):
            if _UNFINISHED.fullmatch(name):
                Path(folder, name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """See Store. The kernel lets go of it when the process ends, however it ends."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def _file(name: str, found: os.stat_result) -> File:
    return File(name, found.st_size, str(found.st_mtime_ns))


def _walked(folder: str) -> Iterator[str]:
    """The names of all that is in a folder and in its folders, but for these."""
    for at, folders, names in os.walk(folder, onerror=_unless_missing):
        folders.sort()
        inside = os.path.relpath(at, folder)
        yield from (name if inside == "." else f"{inside}/{name}" for name in sorted(names))


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
