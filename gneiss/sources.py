"""Model and tokenizer files: a local path or `hf://owner/repo@revision/file`, resolved once and known by checksum."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from gneiss.errors import ModelError, first_line

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+?))?/(?P<file>[\w./ -]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelFile:
    """A resolved source: where it is on this machine, its size, the sha256 of its bytes."""

    source: str
    path: Path
    size_bytes: int
    checksum: str


def resolve(source: str, folder: Path = Path()) -> ModelFile:
    """Fetch a source (hub files are cached) and take its checksum; relative paths count from `folder`.

    Raises ModelError when it is not to be had, saying how to get it.
    """
    path = locate(source, folder)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return ModelFile(source, path, path.stat().st_size, digest.hexdigest())


def locate(source: str, folder: Path = Path()) -> Path:
    """The local path of a source, fetched from the hub where it is not cached yet. Raises ModelError."""
    if source.startswith("hf://"):
        return _from_hub(source)
    if "://" in source:
        raise ModelError(f"model {source}: expected a local path or hf://owner/repo@revision/file")
    path = (folder / source).resolve()
    if not path.is_file():
        raise ModelError(f"model {source}: no file at {path}; put it there, or name another in the recipe")
    return path


def _from_hub(source: str) -> Path:
    parts = _HUB.fullmatch(source)
    if parts is None:
        raise ModelError(f"model {source}: expected hf://owner/repo@revision/file")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, revision, file = parts["repo"], parts["revision"], parts["file"]
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error).rstrip(".")
        pin = f" --revision {revision}" if revision else ""
        raise ModelError(
            f"model {source}: not in the cache and not to be had from the hub: {reason}. Where there is a network:"
            f" `hf download {repo} {file}{pin}`, then copy the cache (HF_HOME) here, or name a local path in the recipe"
        ) from error


def is_pinned(source: str) -> bool:
    """Whether a source names bytes that cannot change under it: a local path, or a hub file at a commit."""
    parts = _HUB.fullmatch(source)
    return parts is None or bool(parts["revision"] and _COMMIT.fullmatch(parts["revision"]))
