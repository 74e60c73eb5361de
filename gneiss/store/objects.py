"""Object stores: `s3://`, `gs://` and `az://`. A file is one object, put whole under its final name."""

from __future__ import annotations

import errno
import io
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from gneiss.errors import InputError, StoreError, printable
from gneiss.store.at_once import AT_ONCE, meanwhile
from gneiss.store.aws_profile import with_profile
from gneiss.store.lease import EXPIRY_SECONDS, Lease, leased, owner
from gneiss.store.object_errors import failing
from gneiss.store.ranged import TAIL_BYTES, open_ranges
from gneiss.store.store import File, Holder, matches

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

#: A larger file is put in parts, each a request.
_PART_BYTES = 1 << 24
#: Parts that are sent at once.
_SENDING = 2
#: What an empty object is answered by, which has no last bytes.
_NO_RANGE = ("NotPartial", "416")
_LISTED = 1000
#: How often an answer is asked for that breaks off where obstore does not notice, or not ask again.
_TRIES, _WAIT_SECONDS = 4, 0.2
#: What decides which client is made: endpoints, regions, credentials.
_SETTINGS = ("AWS_", "GOOGLE_", "AZURE_")
#: What a profile may say beside the environment, as obstore calls it.
_CONFIGURED = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_REGION": "region",
    "AWS_ENDPOINT_URL": "endpoint",
}


@dataclass(frozen=True)
class ObjectStore:
    """The buckets of one service. A path is `bucket/key`. Credentials come from the environment; see docs/stores.md."""

    scheme: str
    lease_seconds: float = EXPIRY_SECONDS

    reads_versions = True
    files_at_once = AT_ONCE
    refusal = None
    #: The Python class of each service's client.
    services: ClassVar[dict[str, str]] = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}

    @property
    def schemes(self) -> tuple[str, ...]:
        """See Store."""
        return (self.scheme,)

    def path(self, address: str) -> str:
        """See Store. Keys that are no paths are refused, with empty parts, `.` and `..`; so are credentials."""
        path = address.removeprefix(f"{self.scheme}://").rstrip("/")
        if "@" in path.partition("/")[0]:  # in no name of a bucket
            raise InputError(f"{self.scheme}://…@…: an address has no credentials; docs/stores.md says where they go")
        if not path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise InputError(f"{address}: expected {self.scheme}://bucket/key, without empty parts, `.` and `..`")
        return path

    def address(self, path: str) -> str:
        """See Store."""
        return f"{self.scheme}://{path}"

    def resolve(self, path: str) -> str:
        """See Store. There are no links."""
        return path

    def pin(self, path: str) -> str | None:
        """See Store. Objects are known by their ETags."""
        return None

    def find(self, path: str) -> File | None:
        """See Store."""
        import obstore

        client, key = self._client(path)
        try:
            with failing("HeadObject", self.address(path)):
                found = obstore.head(client, key)
        except FileNotFoundError:
            return None
        return _file(path.rpartition("/")[2], found)

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """See Store. Empty objects that stand for folders, as web consoles make them, are left out."""
        client, key = self._client(folder)
        prefix = f"{key}/" if key else ""
        last: File | None = None
        with failing("ListObjects", self.address(folder)):
            for found in _listed(client, prefix):
                file = _file(found["path"].removeprefix(prefix), found)
                if last and (last.size_bytes or not file.name.startswith(f"{last.name}/")):
                    yield from (last,) if pattern is None or matches(last.name, pattern) else ()
                last = file
        if last and (pattern is None or matches(last.name, pattern)):
            yield last

    def open(self, path: str, version: File | None = None) -> Any:
        """See Store. Without a version, the first request finds one, with the last bytes."""
        client, key = self._client(path)
        address, tail = self.address(path), None
        if version is None:
            with failing("GetObject", address):
                version, tail = self._found(client, key)
        size, etag = version.size_bytes, version.etag

        def fetch(start: int, end: int) -> Any:
            with failing("GetObject", address):
                return _whole(lambda: (end - start, _range(client, key, start, end, etag, address)))

        return open_ranges(fetch, size, tail)

    def _found(self, client: Client, key: str) -> tuple[File, Any]:
        """An object as it is found, and its last bytes, as far as they came with that."""
        import obstore
        from obstore.exceptions import GenericError

        is_counted_from_end = self.scheme != "az"
        options: Any = {"range": {"suffix": TAIL_BYTES} if is_counted_from_end else (0, TAIL_BYTES)}
        try:
            found = obstore.get(client, key, options=options)
            file, content = _file(key, found.meta), found.bytes()
        except GenericError as error:
            if not any(answer in str(error) for answer in _NO_RANGE):
                raise
            file = _file(key, obstore.head(client, key))
            return file, None if file.size_bytes else b""
        is_tail = is_counted_from_end or file.size_bytes <= TAIL_BYTES
        return file, content if is_tail and len(content) == min(file.size_bytes, TAIL_BYTES) else None

    @contextmanager
    def create(self, path: str, *, is_new: bool = False) -> Iterator[BinaryIO]:
        """See Store."""
        client, key = self._client(path)
        upload = _Upload(client, key, self.address(path), is_new)
        try:
            yield upload  # type: ignore[misc]  # as far as it is written to
        except BaseException as error:
            upload.give_up(error)
            raise
        upload.finish()

    def delete(self, path: str) -> None:
        """See Store. A folder is all that has its name before a slash."""
        import obstore

        client, key = self._client(path)
        with failing("DeleteObject", self.address(path)):
            with meanwhile(lambda: self.find(path)) as found:
                names = [f"{path}/{file.name}" for file in self.files(path)]
            for first in range(0, len(names), _LISTED):
                obstore.delete(client, [self._client(name)[1] for name in names[first : first + _LISTED]])
            if found():  # what is not there needs no right to delete
                obstore.delete(client, key)

    def sweep(self, folder: str) -> None:
        """See Store. What a killed process has sent of an object in parts is no file; buckets expire it by a rule."""

    @contextmanager
    def lock(self, path: str) -> Iterator[Callable[[], None]]:
        """See Store. The object is a lease."""
        cell = _Cell(*self._client(path), self.address(path), "version" if self.scheme == "gs" else "e_tag")
        with leased(Lease(cell, self.address(path), self.lease_seconds)) as check:
            yield check

    def holder(self, path: str) -> Holder | None:
        """See Store. How long it was not renewed is by the clocks of the store and of this machine: for messages."""
        import obstore

        client, key = self._client(path)
        try:
            with failing("GetObject", self.address(path)):
                found = obstore.get(client, key)
                renewed, name = found.meta["last_modified"], owner(bytes(found.bytes()))
        except FileNotFoundError:
            return None
        return Holder(name, max(0.0, time.time() - renewed.timestamp())) if name else None

    def _client(self, path: str) -> tuple[Client, str]:
        """The client of a path's bucket in this process, and its key."""
        bucket, _, key = path.partition("/")
        settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
        return _client(self.scheme, bucket, frozenset(settings.items()), os.getpid()), key


@cache
def _client(scheme: str, bucket: str, settings: frozenset[tuple[str, str]], process: int) -> Client:
    """A client, which keeps its connections and renews its credentials."""
    from obstore import store

    given = with_profile(dict(settings)) if scheme == "s3" else dict(settings)
    endpoints = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "GOOGLE_BASE_URL", "AZURE_ENDPOINT")
    service = getattr(store, ObjectStore.services[scheme])
    options: dict[str, str | bool] = {"timeout": "10min", "read_timeout": "60s", "connect_timeout": "10s"}
    named = {name: given[name] for name in endpoints if given.get(name)}
    if wrong := next((name for name, url in named.items() if not url.startswith(("http://", "https://"))), None):
        raise StoreError(f"{wrong}: expected http://… or https://…, found {printable(named[wrong])!r}")
    if any(url.startswith("http://") for url in named.values()):
        options["allow_http"] = True
    retries = int(given.get("AWS_MAX_ATTEMPTS", 11)) - 1
    own = {_CONFIGURED[name]: value for name, value in given.items() if name in _CONFIGURED} if scheme == "s3" else {}
    client: Client = service(bucket, config=own, client_options=options, retry_config={"max_retries": retries})
    return client


def _listed(client: Client, prefix: str) -> Iterator[Any]:
    """What a bucket holds below a prefix; where an answer breaks off, it is asked for what comes after."""
    import obstore
    from obstore.exceptions import GenericError

    after: str | None = None
    left = _TRIES
    while left:
        try:
            for page in obstore.list(client, prefix or None, offset=after, chunk_size=_LISTED):
                for found in page:
                    yield found
                    after = found["path"]
            return
        except GenericError as error:
            left -= 1
            if not left or "response body" not in str(error):
                raise
            time.sleep(_WAIT_SECONDS)


def _whole(read: Callable[[], tuple[int, Any]]) -> Any:
    """Bytes that were read; read: how many there should be, and what came; again where some are missing."""
    for _ in range(_TRIES):
        expected, found = read()
        if len(found) == expected:
            return found
    raise OSError(errno.EIO, f"expected {expected} bytes, found {len(found)}: cut short")


def _range(client: Client, key: str, start: int, end: int, etag: str, address: str) -> Any:
    """Bytes of an object in the version of an ETag. Raises OSError with ESTALE where it is another one."""
    import obstore
    from obstore.exceptions import PreconditionError

    options: Any = {"range": (start, end)}
    if etag.startswith('"'):  # no weak one, and no time, which are no conditions
        options["if_match"] = etag
    with suppress(PreconditionError):
        found = obstore.get(client, key, options=options)
        if _etag(found.meta) == etag:
            return found.bytes()
    raise OSError(errno.ESTALE, "replaced after it was found", address)


def _file(name: str, found: Any) -> File:
    return File(name, found["size"], _etag(found))


def _etag(found: Any) -> str:
    """The ETag of an object, or when it was modified: in quotes, which the lists of Azure leave out."""
    etag = found["e_tag"]
    return str(found["last_modified"]) if etag is None else etag if etag.endswith('"') else f'"{etag}"'


@dataclass(frozen=True)
class _Cell:
    """See Cell. tag: by which of its tags the service compares objects."""

    client: Client
    key: str
    address: str
    tag: str

    def get(self) -> tuple[bytes, str] | None:
        """See Cell."""
        import obstore

        try:
            with failing("GetObject", self.address):
                found = obstore.get(self.client, self.key)
                meta: Any = found.meta
                return bytes(found.bytes()), meta[self.tag]
        except FileNotFoundError:
            return None

    def put(self, content: bytes, etag: str | None) -> str | None:
        """See Cell."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if etag is None else {self.tag: etag}
        try:
            with failing("PutObject", self.address), suppress(AlreadyExistsError, PreconditionError):
                written: Any = obstore.put(self.client, self.key, content, mode=mode)
                return str(written[self.tag])
        except FileExistsError:  # two at once
            return None
        except FileNotFoundError:
            if etag is None:
                raise
        return None


class _Upload(io.RawIOBase):
    """An object that is being written: one put when it is small, else parts, sent while the rest is written."""

    def __init__(self, client: Client, key: str, address: str, is_new: bool) -> None:
        self.etag: str | None = None
        self._is_new = is_new
        self._client = client
        self._key = key
        self._address = address
        self._waiting = bytearray()
        self._parts: queue.Queue[bytes | BaseException | None] = queue.Queue(1)
        self._sender: threading.Thread | None = None
        self._failure: BaseException | None = None

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes at the end."""
        self._waiting += data
        if len(self._waiting) >= _PART_BYTES and not self._is_new:
            if self._sender is None:
                self._sender = threading.Thread(target=self._send, daemon=True)
                self._sender.start()
            self._hand_over(bytes(self._waiting))
            self._waiting.clear()
        return memoryview(data).nbytes

    def finish(self) -> None:
        """Let the object be there."""
        if self._sender is None:
            self._put(bytes(self._waiting))
            return
        if self._waiting:
            self._hand_over(bytes(self._waiting))
        self._hand_over(None)
        self._sender.join()
        if self._failure:
            raise self._failure

    def give_up(self, error: BaseException) -> None:
        """Let nothing be there, not even parts of it."""
        if self._sender is not None and self._sender.is_alive():
            with suppress(OSError, StoreError):
                self._hand_over(error)
            self._sender.join()

    def _hand_over(self, part: bytes | BaseException | None) -> None:
        while self._failure is None:
            with suppress(queue.Full):
                self._parts.put(part, timeout=0.5)
                return
        raise self._failure

    def _send(self) -> None:
        try:
            self._put(self._handed_over())
        except BaseException as error:  # noqa: BLE001  # is raised where the object is written
            self._failure = error

    def _handed_over(self) -> Iterator[bytes]:
        while (part := self._parts.get()) is not None:
            if isinstance(part, BaseException):
                raise part  # which lets the parts that were sent be deleted
            yield part

    def _put(self, content: bytes | Iterator[bytes]) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        options: Any = {"mode": "create"} if self._is_new else {"max_concurrency": _SENDING}
        with failing("PutObject", self._address):
            try:
                found = obstore.put(self._client, self._key, content, chunk_size=_PART_BYTES, **options)
                self.etag = found["e_tag"]
            except AlreadyExistsError:
                if obstore.get(self._client, self._key).bytes() != content:  # else it is here, but the answer was lost
                    raise
