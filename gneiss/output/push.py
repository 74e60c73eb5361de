"""Push: the files of a finished run, in a data set repository of the hub, in commits of limited size."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gneiss.errors import InputError, OutputError, first_line
from gneiss.output import layout
from gneiss.output.finished_run import open_run
from gneiss.store.hub import HubAddress, HubStore
from gneiss.store.hub_errors import HubIsBusyError, PassingError, asking_hub
from gneiss.store.local import LocalStore
from gneiss.store.place import Address, Place, place_of
from gneiss.store.store import File

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

#: What goes first: the card, which the hub checks, and the key, by which a push that was ended is known.
_FIRST = (layout.CARD_FILE, layout.REPORT_FILE, layout.MIXTURE_FILE, layout.RUN_FILE, layout.RECIPE_FILE)
_FOLDERS = tuple(f"{folder}/" for folder in (layout.DATA, layout.ANNOTATIONS, layout.QUARANTINE, layout.LAYERS))
#: What goes last: a run can be opened only with it.
_LAST = layout.STATISTICS_FILE
#: What a commit has at most, if it is more than a file; the hub takes 128 commits an hour.
_COMMIT_FILES, _COMMIT_BYTES = 250, 4 << 30
#: The largest file that the hub takes.
_MOST_BYTES = 50 * 10**9
_BLOCK_BYTES = 1 << 22
_ATTEMPTS, _BUSY_ATTEMPTS, _BUSY_SECONDS = 5, 12, 300
_SHA256_DIGITS = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pushed:
    """What is on the hub now.

    target: repository and branch; files, size_bytes: of the run; uploaded: how many of these files were not there
    before; deleted: files of an earlier push; left_out: folder or file of the output → files that stay here.
    """

    target: HubAddress
    is_private: bool
    files: int
    size_bytes: int
    uploaded: int
    deleted: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Share:
    """How much of a run is on the hub already, in files and bytes."""

    files: int
    size_bytes: int
    of_files: int
    of_bytes: int


def push(
    output: Address,
    target: str,
    *,
    public: bool = False,
    replace_run: bool = False,
    progress: Callable[[Share], None] = lambda _: None,
) -> Pushed:
    """Upload a finished run to `hf://datasets/OWNER/NAME@BRANCH`; the same call resumes.

    Parameters: `output`: of a finished run, in any store; `public`: visibility of a new repository; `replace_run`:
    replace another run in the repository; `progress`: called after each commit. Raises InputError, OutputError,
    StoreError.
    """
    at = _target(target)
    folder = open_run(output).folder
    files, left_out = _chosen(folder)
    try:
        is_private = _make(at, public)
        there = {file.name: file for file in Place(HubStore(), str(at).removeprefix("hf://")).files()}
        if not replace_run:
            _refuse_other(at, there, folder)
        stale = sorted(name for name in there.keys() - {file.name for file in files} if _is_ours(name))
        share, uploaded = Share(0, 0, len(files), sum(file.size_bytes for file in files)), 0
        for group in _groups(files):
            lacking = [file for file in group if not _is_same(folder / file.name, file, there.get(file.name))]
            with _without_bars():
                _commit(at, folder, lacking, stale if group[-1] is files[-1] else [])
            uploaded += len(lacking)
            size_bytes = share.size_bytes + sum(file.size_bytes for file in group)
            share = replace(share, files=share.files + len(group), size_bytes=size_bytes)
            progress(share)
        _check_whole(at, files)
    except OSError as error:
        raise OutputError(f"{at}: cannot push: {first_line(error)}") from error
    return Pushed(at, is_private, len(files), share.of_bytes, uploaded, len(stale), left_out)


def _target(target: str) -> HubAddress:
    at = HubAddress.parse(target)
    if at.kind != "dataset" or at.path or at.is_pinned:
        raise InputError(f"{target}: expected hf://datasets/OWNER/NAME, or hf://datasets/OWNER/NAME@BRANCH")
    return replace(at, revision=at.revision or "main")


def _is_ours(name: str) -> bool:
    return name.startswith((*_FOLDERS, f"{layout.OWN}/"))


def _chosen(folder: Place) -> tuple[list[File], Counter[str]]:
    """The files that are pushed, in order, and how many stay here, by folder. Raises InputError."""
    found = {file.name: file for file in folder.files()}
    inside = sorted((name for name in found if name.startswith(_FOLDERS)), key=str.encode)
    chosen = [found[name] for name in (*_FIRST, *inside, _LAST) if name in found]
    if large := next((file for file in chosen if file.size_bytes > _MOST_BYTES), None):
        raise InputError(f"{folder / large.name}: the hub takes files of up to {_MOST_BYTES // 10**9} GB")
    others = found.keys() - {file.name for file in chosen}
    return chosen, Counter("/".join(name.split("/")[: 1 + name.startswith(f"{layout.OWN}/")]) for name in others)


def _make(at: HubAddress, public: bool) -> bool:
    """Create the repository and the branch if they are not there; whether it is private."""
    from huggingface_hub import HfApi

    api = HfApi()
    with asking_hub(str(at)):
        api.create_repo(at.repository, repo_type=at.kind, private=not public, exist_ok=True)
        is_private = bool(api.repo_info(at.repository, repo_type=at.kind).private)
        if public and is_private:
            raise OutputError(f"{at}: it is there and private; make it public in its settings on the hub")
        if at.revision != "main":
            api.create_branch(at.repository, branch=at.revision or "", repo_type=at.kind, exist_ok=True)
    return is_private


def _refuse_other(at: HubAddress, there: Mapping[str, File], folder: Place) -> None:
    """Refuse a branch that holds another run, or data that is of no run. Raises OutputError."""
    advice = "push to another repository or branch, or put this run in its place with replace_run=True"
    if layout.RUN_FILE in there:
        other = place_of(str(replace(at, path=layout.RUN_FILE)))
        try:
            is_same = json.loads(other.read())["run_key"] == json.loads((folder / layout.RUN_FILE).read())["run_key"]
        except (ValueError, TypeError, KeyError):
            is_same = False
        if not is_same:
            raise OutputError(f"{at}: it holds another run; {advice}")
    elif foreign := next((name for name in sorted(there) if _is_ours(name)), None):
        raise OutputError(f"{at}: it holds files that are of no run, such as {foreign!r}; {advice}")


def _groups(files: Sequence[File]) -> Iterator[list[File]]:
    """Consecutive files for a commit each; those that go first and last have commits of their own."""
    group: list[File] = []
    for file in files:
        size_bytes = sum(other.size_bytes for other in group) + file.size_bytes
        is_full = len(group) == _COMMIT_FILES or size_bytes > _COMMIT_BYTES
        if group and (is_full or (group[-1].name in _FIRST) != (file.name in _FIRST) or file.name == _LAST):
            yield group
            group = []
        group.append(file)
    yield group


def _is_same(place: Place, file: File, there: File | None) -> bool:
    """Whether the hub has a file with the same bytes, by size and by its hash: that of git, or of git LFS."""
    if there is None or there.size_bytes != file.size_bytes:
        return False
    is_lfs = len(there.etag) == _SHA256_DIGITS
    digest = hashlib.sha256() if is_lfs else hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    with place.open() as opened:
        while block := opened.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest() == there.etag


def _commit(at: HubAddress, folder: Place, files: Sequence[File], stale: Sequence[str]) -> None:
    """Upload files and commit them, with patience where the hub is busy."""
    from huggingface_hub import CommitOperationDelete, HfApi

    if not files and not stale:
        return
    message = f"gneiss push: {len(files)} files" + (f", {len(stale)} deleted" if stale else "")
    attempt = 1
    while True:
        with ExitStack() as stack:
            operations = [_addition(stack, folder, file) for file in files]
            try:
                with asking_hub(str(at)):
                    HfApi().create_commit(
                        at.repository,
                        [*operations, *map(CommitOperationDelete, stale)],
                        commit_message=message,
                        repo_type=at.kind,
                        revision=at.revision,
                    )
                return
            except ValueError as error:  # what the hub says of the card
                raise OutputError(f"{at}: cannot push: {' '.join(str(error).split())[:300]}") from error
            except PassingError as error:
                if (seconds := _pause(error, attempt)) is None:
                    raise
                _log.warning("%s; going on in %d s", error, seconds)
        time.sleep(seconds)
        attempt += 1


def _pause(error: PassingError, attempt: int) -> int | None:
    """For how many seconds to wait before another attempt; None after the last one."""
    if isinstance(error, HubIsBusyError):
        return (error.seconds or _BUSY_SECONDS) if attempt < _BUSY_ATTEMPTS else None
    return int(2**attempt) if attempt < _ATTEMPTS else None


@contextmanager
def _without_bars() -> Iterator[None]:
    """Let the hub's client draw no progress of its own."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _addition(stack: ExitStack, folder: Place, file: File) -> CommitOperationAdd:
    """A file as the hub's client takes it: by a local path; that of a copy, as long as the stack is open, elsewhere."""
    from huggingface_hub import CommitOperationAdd

    place = folder / file.name
    if not isinstance(folder.store, LocalStore):
        copy = place_of(stack.enter_context(tempfile.TemporaryDirectory())) / "file"
        with place.open() as opened, copy.create() as copied:
            shutil.copyfileobj(opened, copied, _BLOCK_BYTES)
        place = copy
    try:
        return CommitOperationAdd(file.name, os.fspath(place))
    except ValueError as error:
        raise InputError(f"{folder / file.name}: the hub takes no file of this name; rename its shard") from error


def _check_whole(at: HubAddress, files: Sequence[File]) -> None:
    """Raise OutputError when a file is not there: a `.gitignore` has left it out, or it was deleted."""
    there = {file.name: file.size_bytes for file in Place(HubStore(), str(at).removeprefix("hf://")).files()}
    if missing := [file.name for file in files if there.get(file.name) != file.size_bytes]:
        raise OutputError(
            f"{at}: {len(missing)} files are not there, first {missing[0]!r}; see whether .gitignore names them"
        )
