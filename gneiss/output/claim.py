"""An output folder: it belongs to one run key, and has one driver at a time, or one for each share of the run."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from gneiss.errors import OutputError, first_line
from gneiss.input.files import can_name
from gneiss.input.plan import run_key
from gneiss.output import layout
from gneiss.output.parquet import write_bytes, write_new
from gneiss.store.place import Address, Place

#: Parts of an identity whose names do not say what the user changed.
_SAID = {
    "corpus": "the input files, all of which a step at corpus scope compares, or output.shard_bytes lays out",
    "indexes": "the indexes of `against`, which have grown or were made again",
    "revision": f"the revision of the input: name the one that {layout.RUN_FILE} has",
}


#: How long a driver of a share waits for others that are about to begin or to end.
PATIENCE_SECONDS = 600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """The share of a run that belongs to driver number `task` of `of` independent drivers.

    >>> Share(1, 3).has(4), str(Share(1, 3))
    (True, '1-of-3')
    """

    task: int
    of: int

    def __post_init__(self) -> None:
        """Raises OutputError for a task that there is not."""
        if not 0 <= self.task < self.of:
            raise OutputError(f"task {self.task} of {self.of}: expected a number from 0 to {self.of - 1}")

    def has(self, number: int) -> bool:
        """Whether a task of a stage is part of it, by its number."""
        return number % self.of == self.task

    def __str__(self) -> str:
        return f"{self.task}-of-{self.of}"


@contextmanager
def claim(
    output: Place,
    identity: Mapping[str, object],
    first: Mapping[str, bytes] = MappingProxyType({}),
    share: Share | None = None,
    patience_seconds: float = 0.0,
    noted: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Callable[[], None]]:
    """Hold an output for one driver. A new one gets the run key of this identity; one with another key is refused.

    Parameters: `first`: files that an output has before its key, which may differ between runs of one key; `share`:
    hold only this share of it, while drivers of others hold theirs; `patience_seconds`: how long to wait for who holds
    it now; `noted`: what the file of its key says besides. Yields a check, which raises OutputError when it is not held
    any more. Raises OutputError.
    """
    try:
        _refuse_foreign(output)
    except OSError as error:
        raise OutputError(f"{output}: cannot read: {first_line(error)}; check the path and its permissions") from error
    with ExitStack() as stack:
        with ExitStack() as whole:
            check = _patiently(lambda: whole.enter_context(held(output, share)), patience_seconds)
            _check_key(output, identity, first, noted)
            if share is None:
                output.sweep()  # of a driver or worker that was killed
                stack.enter_context(whole.pop_all())
            else:
                check = stack.enter_context(
                    _locked(output, layout.share_lock(f"{share}"), f"another task {share.task}")
                )
        yield check


@contextmanager
def held(output: Place, share: Share | None = None) -> Iterator[Callable[[], None]]:
    """Hold an output: nobody else writes meanwhile, but drivers of other shares that are cut alike.

    Yields a check; see `claim`. Raises OutputError.
    """
    with _locked(output, layout.LOCK_FILE, "another run") as check:
        for name in layout.share_locks(output):
            if share is None or not name.endswith(f"-of-{share.of}"):
                with _locked(output, layout.share_lock(name), f"task {name.replace('-', ' ')} of a run"):
                    pass
                (output / layout.share_lock(name)).delete()  # which nobody takes while the output is held
        yield check


def _patiently(hold: Callable[[], Callable[[], None]], seconds: float) -> Callable[[], None]:
    """Hold an output, and where somebody else does, try again after a second or so."""
    end, jitter = time.monotonic() + seconds, random.SystemRandom()
    while True:
        try:
            return hold()
        except OutputError as error:
            if not isinstance(error.__cause__, BlockingIOError) or time.monotonic() >= end:
                raise
            _log.info("waiting: %s", error)
        time.sleep(jitter.uniform(0.2, 2.0))


@contextmanager
def _locked(output: Place, lock: str, owner: str) -> Iterator[Callable[[], None]]:
    with ExitStack() as stack:
        try:
            check = stack.enter_context((output / lock).lock())
        except BlockingIOError as error:
            by = f" ({error.strerror})" if (error.strerror or "").startswith("held by") else ""
            raise OutputError(
                f"{output}: {owner} is writing here{by}; wait for it, or choose another output"
            ) from error
        yield check


def _refuse_foreign(output: Place) -> None:
    def is_ours() -> bool:
        return (output / layout.RUN_FILE).find() is not None

    if is_ours():
        return
    foreign = next((file.name for file in output.files() if not file.name.startswith(f"{layout.OWN}/")), None)
    if foreign is not None and not is_ours():  # another driver may have begun meanwhile
        raise OutputError(
            f"{output}: expected an empty folder or an output of gneiss, found {foreign!r}; choose another one"
        )


def _check_key(
    output: Place, identity: Mapping[str, object], first: Mapping[str, bytes], noted: Mapping[str, object]
) -> None:
    place, key = output / layout.RUN_FILE, run_key(identity)
    try:
        found = json.loads(place.read())
        other = found["run_key"]
    except FileNotFoundError:
        written = json.dumps({"run_key": key, **noted, **identity}, indent=1)
        for name, content in {**first, layout.RUN_FILE: f"{written}\n".encode()}.items():
            write_new(content, output, name)
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{place}: damaged ({error}); choose another output") from error
    if other != key:
        differing = [_SAID.get(name, name) for name, value in identity.items() if found.get(name) != value]
        raise OutputError(
            f"{output}: it belongs to another run (what differs: {', '.join(differing)});"
            " choose another output, or delete this one"
        )
    for name, content in first.items():
        write_bytes(content, output, name)


def refuse_nesting(source: Address, files: Iterable[Place], output: Place) -> None:
    """Refuse an output among the input's files: a second run would take it for input. Raises OutputError."""
    written = (output / folder for folder in (layout.DATA, layout.ANNOTATIONS, layout.QUARANTINE))
    folders = {file.parent for file in files}
    if any(can_name(source, folder) for folder in written) or any(folder.is_in(output) for folder in folders):
        raise OutputError(f"{output}: the output and the input {source} overlap; choose another output")
