"""The local file system: a file lies beside its place until it is whole; the kernel holds the locks."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import xxhash

from gneiss.errors import InputError
from gneiss.store.store import File, Holder, matches, may_hold

#: What a file is called while it is written: `.<name>.<machine>.<process>.<random>.part`; once without two of them.
_UNFINISHED = re.compile(r"(.*/)?\.[^/]*\.\d+(\.[0-9a-f]{8})?\.part", re.DOTALL)
#: Bytes of a name that leave room for that: file systems take 255.
_LONG_NAME = 190
#: How often a lock is tried that somebody holds, and how long after: `holder` has it for less.
_LOOKS, _LOOK_SECONDS = 3, 0.02
#: What a file system answers that cannot do this for folders, or has no links.
_UNABLE = (errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.ENOSYS)


@dataclass(frozen=True)
class LocalStore:
    """The file system of this machine, and what is mounted into it. An ETag is the time of modification, in ns.

    changed: the folders whose names are not kept yet; None: they are kept file by file.
    """

    changed: set[str] | None = field(default=None, compare=False, repr=False)

    schemes = ("", "file")
    reads_versions = False
    files_at_once = 4  # a disk answers soon, and more threads cost a worker CPU time
    refusal = None

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

    def pin(self, path: str) -> None:
        """See Store."""

    def find(self, path: str) -> File | None:
        """See Store."""
        try:
            found = os.stat(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        return _file(os.path.basename(path), found) if stat.S_ISREG(found.st_mode) else None

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """See Store. Links to folders are followed, and no folder is entered twice.

        A link that leads nowhere, a pipe or a device counts, so that it is met when it is read.
        """
        for name in _walked(folder, lambda inner: pattern is None or may_hold(inner, pattern), follow=True):
            if _UNFINISHED.fullmatch(name) or not (pattern is None or matches(name, pattern)):
                continue
            try:
                found = os.stat(os.path.join(folder, name))
            except OSError:
                yield File(name, 0, "")
            else:
                yield _file(name, found)

    def open(self, path: str, version: File | None = None) -> Any:
        """See Store."""
        import pyarrow as pa

        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait for its writer
                raise OSError(f"{path}: expected a file, found a folder, a pipe or a device")
            return pa.OSFile(path)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, os.strerror(error.errno), path) from error

    @contextmanager
    def create(self, path: str, *, is_new: bool = False) -> Iterator[BinaryIO]:
        """See Store. It outlasts a power cut, and so do the names of new folders."""
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, _unfinished(name))
        _make_folder(folder)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _move(temporary, path, is_new)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if self.changed is None:
            _keep_names(folder)
        else:
            self.changed.add(folder)

    def together(self) -> LocalStore:
        """The same for who writes many files: their names outlast a power cut only once they are kept.

        To keep those of a folder takes as long as to keep a file.
        """
        return replace(self, changed=set())

    def keep_names(self) -> None:
        """Let the names of all files that were written outlast a power cut."""
        for folder in sorted(self.changed or ()):
            _keep_names(folder)

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
    def lock(self, path: str) -> Iterator[Callable[[], None]]:
        """See Store. The kernel lets go of it when the process ends, however it ends, and not before."""
        _make_folder(os.path.dirname(path))
        with open(path, "ab") as file:
            try:
                _flock(file)
            except BlockingIOError:
                raise
            except OSError as error:
                reason = (
                    f"its file system keeps no locks (flock: {error.strerror}); mount it so that it does"
                    " (Lustre: -o flock; NFS: a lock daemon), or choose a place on another one"
                )
                raise OSError(error.errno, reason, path) from error
            yield lambda: None

    def holder(self, path: str) -> Holder | None:
        """See Store."""
        try:
            with open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return Holder("a process")
        except (FileNotFoundError, NotADirectoryError):
            pass
        return None


def _flock(file: BinaryIO) -> None:
    """Take the lock of a file; whoever only looks at it holds it for a moment. Raises OSError."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unfinished(name: str) -> str:
    """What a file is called while it is written, however long its name is."""
    if len(os.fsencode(name)) > _LONG_NAME:
        name = xxhash.xxh3_128_hexdigest(os.fsencode(name))
    return f".{name}.{_in_a_name(socket.gethostname())}.{os.getpid()}.{secrets.token_hex(4)}.part"


@cache
def _in_a_name(machine: str) -> str:
    return re.sub(r"[^0-9A-Za-z-]", "-", machine)[:32]


def _make_folder(folder: str) -> None:
    """Make a folder, and those that it lies in, so that a power cut leaves them."""
    if not os.path.isdir(folder):
        _make_folder(os.path.dirname(folder))
        try:
            Path(folder).mkdir(exist_ok=True)
        except FileExistsError as error:  # a file
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from error
        _keep_names(os.path.dirname(folder))


def _keep_names(folder: str) -> None:
    """Let the names in a folder outlast a power cut, where its file system can do that."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    finally:
        os.close(opened)


def _move(temporary: str, final: str, is_new: bool) -> None:
    """Give a file its name; is_new: one that no file has."""
    if is_new:
        try:
            os.link(temporary, final)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            if os.path.exists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final) from error
        else:
            os.unlink(temporary)
            return
    os.replace(temporary, final)


def _file(name: str, found: os.stat_result) -> File:
    return File(name, found.st_size, str(found.st_mtime_ns))


def _walked(folder: str, enter: Callable[[str], bool] = lambda _: True, *, follow: bool = False) -> Iterator[str]:
    """The names of all that is in a folder and in its folders, but for these; `enter`: which of them, by name.

    follow: links to folders too, after all folders that are none, so that what lies in the folder has its own name.
    """
    entered: set[tuple[int, int]] = set()
    waiting, links = [""], list[str]()
    while waiting or links:
        inside = waiting.pop() if waiting else links.pop(0)
        try:
            stat = os.stat(os.path.join(folder, inside))
            if (stat.st_dev, stat.st_ino) in entered:
                continue
            entries = sorted(os.scandir(os.path.join(folder, inside)), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        entered.add((stat.st_dev, stat.st_ino))
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if not _is_folder(entry):
                yield name
            elif entry.is_symlink():
                links += [name] if follow and enter(name) else []
            elif enter(name):
                waiting.append(name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
