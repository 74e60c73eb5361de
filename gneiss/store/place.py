"""Places: files and folders by address, whichever store they are in."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import urlsplit

import xxhash

from gneiss.errors import InputError, OutputError
from gneiss.store.hub import HubStore
from gneiss.store.local import LocalStore
from gneiss.store.objects import ObjectStore
from gneiss.store.ranged import Memory, ranges_of
from gneiss.store.store import File, Holder, Store
from gneiss.store.web import WebStore

#: All stores, a line each.
STORES: tuple[Store, ...] = (
    LocalStore(),
    *(ObjectStore(scheme) for scheme in ObjectStore.services),
    HubStore(),
    WebStore("https"),
    WebStore("http"),
)
_BLOCK_BYTES = 1 << 22
_FULL = "free some space and run again: finished shards are kept"
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    errno.ESTALE: "run again: finished shards are kept",
}
#: How users name a file or folder: a path, an address of a store, or a Place.
Address: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A file or a folder of a store, there or not; `place / "name"` lies in it.

    What fails in reading raises OSError, since only the reader knows what was read; writing raises OutputError. A store
    that refuses or cannot be reached raises StoreError. version: a file's, in which it is read, or not at all where
    the store can see to that; memory: what a worker keeps of it between two times that it is opened.
    """

    store: Store
    path: str
    version: File | None = None
    memory: Memory | None = field(default=None, compare=False, repr=False)

    def __truediv__(self, name: str) -> Place:
        return Place(self.store, f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.store.address(self.path)

    def __fspath__(self) -> str:
        """For what can read and write local files only. Raises InputError elsewhere."""
        if not isinstance(self.store, LocalStore):
            raise InputError(f"{self}: expected a local path or file://")
        return self.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Place:
        """The folder that it lies in."""
        return Place(self.store, self.path.rpartition("/")[0] or "/")

    def is_in(self, folder: Place) -> bool:
        """Whether it is that folder or lies in it, however deep, also by way of links."""
        inner, outer = (place.store.resolve(place.path).rstrip("/") for place in (self, folder))
        return self.store == folder.store and f"{inner}/".startswith(f"{outer}/")

    def path_in(self, folder: Place) -> str:
        """Its path in a folder that it lies in."""
        inner, outer = (place.store.resolve(place.path).rstrip("/") for place in (self, folder))
        return inner[len(outer) + 1 :]

    def pinned(self) -> Place | None:
        """The same place in its revision of now; None where the store keeps no revisions. Raises OSError."""
        pinned = self.store.pin(self.path)
        return None if pinned is None else Place(self.store, pinned)

    def in_version(self, version: File) -> Place:
        """The same file in the version that was found, and no other one."""
        return replace(self, version=version)

    def remembered_in(self, memory: Memory) -> Place:
        """The same file for one worker, who keeps some of it; only where it has a version that its store sees to."""
        return replace(self, memory=memory) if self.is_in_one_version else self

    @property
    def is_in_one_version(self) -> bool:
        """Whether whatever is read of it is of one version."""
        return self.version is not None and self.store.reads_versions

    def find(self) -> File | None:
        """The file, if it is one."""
        return self.store.find(self.path)

    def etag(self) -> str | None:
        """What its store knows the bytes of the file by; None where there is no file."""
        found = self.find()
        return found.etag if found else None

    def files(self, pattern: str | None = None) -> Iterator[File]:
        """All files in a folder and in its folders, or those whose names match a pattern; see `matches`."""
        return self.store.files(self.path, pattern)

    def open(self) -> Any:
        """Open a file for reads of any range, as a `pyarrow.NativeFile`."""
        file = self.store.open(self.path, self.version)
        if self.memory is not None and (ranges := ranges_of(file)):
            ranges.kept = self.memory.of((self.store, self.path, self.version))
        return file

    def read(self) -> bytes:
        """All bytes of a file."""
        with self.open() as file:
            return bytes(file.read())

    def checksum(self) -> str:
        """xxh3-128 of the bytes of a file, in hexadecimal digits."""
        digest = xxhash.xxh3_128()
        with self.open() as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def create(self, *, is_new: bool = False) -> Iterator[Sink]:
        """Write a file, which appears whole when the block ends well, and not at all otherwise. Raises OutputError.

        is_new: it replaces none; raises FileExistsError where there is one.
        """
        with self._written(), self.store.create(self.path, is_new=is_new) as file:
            sink = Sink(file)
            yield sink
        sink.etag = getattr(file, "etag", None) or self.etag()

    @contextmanager
    def together(self) -> Iterator[Place]:
        """The same folder, for who writes many files: they are safe from a power cut when the block ends, not before.

        Raises OutputError.
        """
        if not isinstance(self.store, LocalStore):
            yield self
            return
        store = self.store.together()
        yield replace(self, store=store)
        with self._written():
            store.keep_names()

    def put(self, file: Path) -> None:
        """Copy a file of this machine here: what a library can write to a local path only. Raises OutputError."""
        with self.create() as target, file.open("rb") as source:
            shutil.copyfileobj(source, target, _BLOCK_BYTES)

    def delete(self) -> None:
        """Delete a file, or a folder with all that is in it, if it is there. Raises OutputError."""
        with self._written():
            self.store.delete(self.path)

    def sweep(self) -> None:
        """Remove files in a folder that were never finished; nobody else may be writing there. Raises OutputError."""
        with self._written():
            self.store.sweep(self.path)

    @contextmanager
    def lock(self) -> Iterator[Callable[[], None]]:
        """Hold it, for one process at a time. Raises BlockingIOError while another one does, OutputError.

        Yields a check, which raises OutputError when it is not held any more.
        """
        with ExitStack() as held:
            try:
                check = held.enter_context(self.store.lock(self.path))
            except BlockingIOError:
                raise
            except OSError as error:
                raise self._refused(error) from error

            def checked() -> None:
                with self._written():
                    check()

            yield checked

    def holder(self) -> Holder | None:
        """Who holds it, as far as one look can tell. Raises OSError."""
        return self.store.holder(self.path)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, FileExistsError):
                raise
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> InputError | OutputError:
        if error.errno == errno.ENAMETOOLONG:  # a fault of the input's name, which other files do not have
            return InputError(f"{self}: cannot write: a name or path longer than the file system allows; shorten it")
        advice = _ADVICE.get(error.errno or 0, "check the path and its permissions")
        return OutputError(f"{self}: cannot write: {error.strerror or error}; {advice}")


class Sink(io.RawIOBase):
    """A file that is being written: its size, checksum (xxh3-128) and ETag are known when it is whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = xxhash.xxh3_128()
        self.size_bytes = 0
        self.etag: str | None = None

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """How much is written."""
        return self.size_bytes

    def write(self, data: Any) -> int:
        """Write bytes at the end."""
        self._file.write(data)
        self._digest.update(data)
        size = memoryview(data).nbytes
        self.size_bytes += size
        return size

    @property
    def checksum(self) -> str:
        """xxh3-128 of what is written, in hexadecimal digits."""
        return self._digest.hexdigest()


def local_paths(addresses: Iterable[Address]) -> list[str]:
    """Those of some addresses that name a path of this machine."""
    return [str(place) for place in map(place_of, addresses) if isinstance(place.store, LocalStore)]


def place_of(address: Address, what: str = "input") -> Place:
    """The place that an address names: a path, or an address with a scheme of `STORES`.

    what: what messages call it. Raises InputError for a scheme that no store has, OutputError for an `output` where
    nothing can be written.
    """
    if isinstance(address, Place):
        return address
    address = os.fspath(address)
    scheme = urlsplit(address).scheme
    known = [scheme for store in STORES for scheme in store.schemes if scheme]
    if "://" not in address and scheme != "file":
        if scheme in known and address[len(scheme) :].startswith(":/"):  # a path there would be a folder of that name
            raise InputError(f"{what} {address}: expected {scheme}://…; pathlib makes one slash of two: give a string")
        scheme = ""  # a colon in a name
    address = scheme + address[len(scheme) :]
    for store in STORES:
        if scheme in store.schemes:
            if what == "output" and store.refusal:
                raise OutputError(f"output {address}: {store.refusal}")
            return Place(store, store.path(address))
    expected = ", ".join(f"{scheme}://" for scheme in known)
    raise InputError(
        f"{what} {address}: no store has the scheme {scheme}://; expected a local path, or one of {expected}"
    )
