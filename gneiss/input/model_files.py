"""Model and tokenizer files: a local path, `hf://owner/repo@revision/file` or an address of a store; resolved once.

They are identified by checksum. `package:module/file` is a file that an installed package brings along.

A path that ends in a slash is a local folder: all files in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import xxhash

from gneiss.annotation import files_of
from gneiss.errors import InputError, ModelError, StoreError, first_line
from gneiss.store.hub import HubAddress
from gneiss.store.hub_errors import asking_hub
from gneiss.store.local import LocalStore
from gneiss.store.place import place_of

#: Bytes that are copied at once.
_BLOCK_BYTES = 1 << 22
_PACKAGE = "package:"


@dataclass(frozen=True)
class ModelFile:
    """A resolved source: where it is on this machine, its size, the sha256 of its bytes.

    Of a folder: the size of all files, and the sha256 over their names and the sha256 of each.
    """

    source: str
    path: Path
    size_bytes: int
    checksum: str


def resolve(source: str, folder: Path = Path()) -> ModelFile:
    """Fetch a source (hub files are cached) and compute its checksum; relative paths are resolved against `folder`.

    Raises ModelError, with the command that fetches it, when it is unavailable.
    """
    path = locate(source, folder)
    if not path.is_dir():
        return ModelFile(source, path, path.stat().st_size, _sha256(path).hex())
    digest, files = hashlib.sha256(), files_of(path)
    for name, file in files.items():
        digest.update(os.fsencode(name) + b"\0" + _sha256(file))
    return ModelFile(source, path, sum(file.stat().st_size for file in files.values()), digest.hexdigest())


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def locate(source: str, folder: Path = Path()) -> Path:
    """The local path of a source, fetched if it is not cached. Raises ModelError."""
    if source.startswith("hf://"):
        return _from_hub(source)
    if "://" in source:
        return _from_store(source)
    if source.startswith(_PACKAGE):
        return _from_package(source)
    path = (folder / source).resolve()
    if source.endswith("/") and not path.is_dir():
        raise ModelError(f"model {source}: no folder at {path}; put it there, or name another in the recipe")
    if not source.endswith("/") and not path.is_file():
        raise ModelError(f"model {source}: no file at {path}; put it there, or name another in the recipe")
    return path


def _from_package(source: str) -> Path:
    """A file that an installed package brings along; nothing of the package is run."""
    module, _, name = source.removeprefix(_PACKAGE).partition("/")
    found = find_spec(module) if module.isidentifier() else None
    folders = (found.submodule_search_locations if found else None) or []
    path = next((path for folder in folders if (path := Path(folder) / name).is_file()), None)
    if path is None:
        raise ModelError(
            f"model {source}: " + (f"no such file in {folders[0]}" if folders else f"no package {module!r}; install it")
        )
    return path


def _from_store(source: str) -> Path:
    """A file of a store, fetched into the cache once for each ETag."""
    try:
        place = place_of(source, "model")
        if isinstance(place.store, LocalStore):
            return locate(place.path)
        if (found := place.find()) is None:
            raise ModelError(f"model {source}: no file there; put it there, or name another in the recipe")
        name = xxhash.xxh3_128_hexdigest(f"{place}\0{found.etag}\0{found.size_bytes}".encode())
        path = cache_folder() / "models" / name / os.path.basename(found.name)
        if not path.is_file() or path.stat().st_size != found.size_bytes:
            with place.open() as remote, place_of(path).create() as copy:
                shutil.copyfileobj(remote, copy, _BLOCK_BYTES)
    except (InputError, OSError, StoreError) as error:
        reason = first_line(error).removeprefix(f"model {source}: ").removeprefix(f"{source}: ")
        raise ModelError(f"model {source}: {reason}") from error
    return path


def cache_folder() -> Path:
    """The folder of fetched and converted models: GNEISS_CACHE, or gneiss/ in the user's cache folder."""
    if folder := os.environ.get("GNEISS_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gneiss"


def _from_hub(source: str) -> Path:
    at = _hub_file(source)
    if at is None:
        raise ModelError(f"model {source}: expected hf://owner/repo@revision/file")
    from huggingface_hub import hf_hub_download

    try:
        with asking_hub(source):
            return Path(hf_hub_download(at.repository, at.path, repo_type=at.kind, revision=at.revision))
    except (OSError, StoreError) as error:
        reason = getattr(error, "strerror", None) or first_line(error).removeprefix(f"{source}: ")
        pin = f" --revision {at.revision}" if at.revision else ""
        kind = f" --repo-type {at.kind}" if at.kind != "model" else ""
        raise ModelError(
            f"model {source}: neither in the cache nor available from the hub: {reason}. With network access:"
            f" `hf download {at.repository} {at.path}{kind}{pin}`, then copy the cache (HF_HOME) here, or name a local"
            " path in the recipe"
        ) from error


def _hub_file(source: str) -> HubAddress | None:
    """The address of a file in a repository of the hub, if it is one."""
    try:
        at = HubAddress.parse(source)
    except InputError:
        return None
    return at if at.path and at.kind != "bucket" and not source.endswith("/") else None


def is_pinned(source: str) -> bool:
    """Whether a source always names the same bytes: a local path, or a hub file at a commit."""
    at = _hub_file(source)
    return at is None or at.is_pinned
