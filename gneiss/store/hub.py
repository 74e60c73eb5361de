"""The hub: repositories and buckets at `hf://`, read by ranges, at a commit where there are commits."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, unquote

from gneiss.errors import InputError
from gneiss.store.at_once import AT_ONCE
from gneiss.store.hub_errors import asking_hub
from gneiss.store.ranged import TAIL_BYTES, open_ranges
from gneiss.store.store import File, matches

if TYPE_CHECKING:
    from huggingface_hub.file_download import HfFileMetadata

_KINDS = {"datasets": "dataset", "models": "model", "spaces": "space", "buckets": "bucket"}
_ADDRESS = re.compile(
    r"hf://(?:(?P<kind>datasets|models|spaces|buckets)/)?(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(?P<path>.*))?",
    re.ASCII | re.DOTALL,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: Of a file that the hub serves itself, which is small, each range would count as a request to it: all is read.
_WHOLE_BYTES = 1 << 24
#: The hub signs where the bytes of a file lie for an hour.
_SIGNED_SECONDS = 1800
_REMEMBERED = 4096
_PARTIAL = 206
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubAddress:
    """An address of the hub. kind: `dataset`, `model`, `space` or `bucket`; path: in the repository; empty: all of it.

    >>> HubAddress.parse("hf://datasets/owner/name@main/data/a.parquet").path
    'data/a.parquet'
    """

    kind: str
    repository: str
    revision: str | None
    path: str

    @classmethod
    def parse(cls, address: str) -> HubAddress:
        """Raises InputError for what is no address of the hub, and for paths with empty parts, `.` and `..`."""
        found = _ADDRESS.fullmatch(address)
        path = (found["path"] or "").rstrip("/") if found else ""
        is_path = not path or {"", ".", ".."}.isdisjoint(path.split("/"))
        is_whole = found is not None and not (found["kind"] is None and found["repository"].split("/")[0] in _KINDS)
        if found is None or not is_path or not is_whole or (found["kind"] == "buckets" and found["revision"]):
            raise InputError(
                f"{address}: expected hf://datasets/OWNER/NAME@REVISION/path, hf://OWNER/NAME@REVISION/path of a model,"
                " or hf://buckets/OWNER/NAME/path, without empty parts, `.` and `..`"
            )
        revision = unquote(found["revision"]) if found["revision"] else None
        return cls(_KINDS[found["kind"] or "models"], found["repository"], revision, path)

    def __str__(self) -> str:
        kind = "" if self.kind == "model" else f"{self.kind}s/"
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"hf://{kind}{self.repository}{revision}{self.path and '/'}{self.path}"

    @property
    def is_pinned(self) -> bool:
        """Whether it always names the same bytes: its revision is a commit."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    @property
    def url(self) -> str:
        """Where the hub serves the file, or says where it lies."""
        from huggingface_hub import HfApi

        kind = "" if self.kind == "model" else f"{self.kind}s/"
        revision = "" if self.kind == "bucket" else f"/{quote(self.revision or 'main', safe='')}"
        return f"{HfApi().endpoint}/{kind}{self.repository}/resolve{revision}/{quote(self.path)}"


@dataclass(frozen=True)
class HubStore:
    """The hub that HF_ENDPOINT names. A path is an address without `hf://`; an ETag is the hash of the bytes."""

    schemes = ("hf",)
    reads_versions = True
    files_at_once = AT_ONCE
    refusal = "an output is not written to the hub: write to a folder or an object store, then `gneiss push OUT hf://…`"

    def path(self, address: str) -> str:
        """See Store."""
        return str(HubAddress.parse(address)).removeprefix("hf://")

    def address(self, path: str) -> str:
        """See Store."""
        return f"hf://{path}"

    def resolve(self, path: str) -> str:
        """See Store. There are no links."""
        return path

    def pin(self, path: str) -> str | None:
        """See Store. Repositories have revisions, buckets have none."""
        from huggingface_hub import HfApi

        at = _parsed(path)
        if at.kind == "bucket":
            return None
        if at.is_pinned:
            return path
        with asking_hub(str(at)):
            info = HfApi().repo_info(at.repository, repo_type=at.kind, revision=at.revision)
            if getattr(info, "gated", None):  # which shows only when a file is read
                HfApi().auth_check(at.repository, repo_type=at.kind)
        return str(replace(at, revision=info.sha)).removeprefix("hf://")

    def find(self, path: str) -> File | None:
        """See Store."""
        at, name = _parsed(path), path.rpartition("/")[2]
        if not at.path:
            return None
        if at.kind == "bucket":
            return next((replace(file, name=name) for file in _in_bucket(at, is_file=True)), None)
        try:
            found = _described(at)
        except FileNotFoundError:
            return None
        return File(name, found.size or 0, found.etag or "")

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """See Store."""
        at = _parsed(folder)
        start = at.path and f"{at.path}/"
        for file in _in_bucket(at) if at.kind == "bucket" else _in_repository(at):
            name = file.name.removeprefix(start)
            if file.name.startswith(start) and (pattern is None or matches(name, pattern)):
                yield replace(file, name=name)

    def open(self, path: str, version: File | None = None) -> Any:
        """See Store. It is asked once where the bytes lie, and then read from there, under their hash."""
        at = _parsed(path)
        if version is not None and not at.is_pinned and ((now := self.find(path)) is None or now.etag != version.etag):
            raise OSError(errno.ESTALE, "replaced after it was found", str(at))
        found = _described(at)
        if found.size is None:
            raise OSError(errno.EIO, "the hub does not say how large it is", str(at))

        def fetch(start: int, end: int) -> bytes:
            with asking_hub(str(at)):
                return _fetched(at.url, found.location, start, end)

        return open_ranges(fetch, found.size, tail_bytes=TAIL_BYTES if found.location != at.url else _WHOLE_BYTES)

    @contextmanager
    def create(self, path: str, *, is_new: bool = False) -> Iterator[BinaryIO]:
        """See Store. Raises OSError."""
        raise self._refused(path)
        yield

    def delete(self, path: str) -> None:
        """See Store. Raises OSError."""
        raise self._refused(path)

    def sweep(self, folder: str) -> None:
        """See Store. Raises OSError."""
        raise self._refused(folder)

    @contextmanager
    def lock(self, path: str) -> Iterator[Callable[[], None]]:
        """See Store. Raises OSError."""
        raise self._refused(path)
        yield

    def holder(self, path: str) -> None:
        """See Store. Nothing can be held."""

    def _refused(self, path: str) -> OSError:
        return OSError(errno.EROFS, self.refusal, self.address(path))


def _parsed(path: str) -> HubAddress:
    return HubAddress.parse(f"hf://{path}")


def _in_repository(at: HubAddress) -> Iterator[File]:
    """All files in a folder, named from the root of the repository on."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    with asking_hub(str(at)), suppress(EntryNotFoundError):
        for found in HfApi().list_repo_tree(
            at.repository, at.path or None, recursive=True, revision=at.revision, repo_type=at.kind
        ):
            if isinstance(found, RepoFile):
                identity = (found.lfs.size, found.lfs.sha256) if found.lfs else (found.size, found.blob_id)
                yield File(found.path, *identity)


def _in_bucket(at: HubAddress, *, is_file: bool = False) -> Iterator[File]:
    """All files whose names begin with a path, or the file at it."""
    from huggingface_hub import BucketFile, HfApi

    api = HfApi()
    with asking_hub(str(at)):
        for found in (
            api.get_bucket_paths_info(at.repository, [at.path])
            if is_file
            else api.list_bucket_tree(at.repository, at.path or None, recursive=True)
        ):
            if isinstance(found, BucketFile):
                yield File(found.path, found.size, found.xet_hash)


def _described(at: HubAddress) -> HfFileMetadata:
    """Size and hash of a file, and where its bytes lie."""
    if not at.is_pinned:
        return _headers(at.url, str(at))
    return _remembered(at.url, str(at), int(time.monotonic() // _SIGNED_SECONDS), os.getpid())


def _headers(url: str, address: str) -> HfFileMetadata:
    from huggingface_hub import constants, get_hf_file_metadata

    with asking_hub(address):
        return get_hf_file_metadata(url, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, retry_on_errors=True)


@lru_cache(_REMEMBERED)
def _remembered(url: str, address: str, period: int, process: int) -> HfFileMetadata:
    """The same of a file at a commit, which is asked for once a period."""
    return _headers(url, address)


def _fetched(url: str, location: str, start: int, end: int) -> bytes:
    """Bytes of a file from where they lie; where that fails or has expired, the hub is asked again, with patience."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the client that it uses
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        hf_raise_for_status,
        http_backoff,
    )

    headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    if location != url:
        try:
            answer = get_session().get(location, headers=headers, timeout=timeout)
            if answer.status_code == _PARTIAL:
                return answer.content
        except HTTPError as error:
            _log.info("asked again for bytes of %s: %s", url, type(error).__name__)
    answer = http_backoff("GET", url, headers={**build_hf_headers(), **headers}, timeout=timeout)
    hf_raise_for_status(answer)
    return answer.content if answer.status_code == _PARTIAL else answer.content[start:end]
