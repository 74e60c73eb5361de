"""An output folder: it belongs to one run key, and has one driver at a time."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from gneiss.errors import OutputError
from gneiss.input.plan import run_key
from gneiss.output import layout
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Place, place_of


@contextmanager
def claim(
    output: Path, identity: Mapping[str, object], first: Mapping[str, bytes] = MappingProxyType({})
) -> Iterator[None]:
    """Hold an output for one driver. A new one gets the run key of this identity; one with another key is refused.

    first: files that a new output gets before its key. Raises OutputError.
    """
    try:
        _refuse_foreign(output)
        (output / layout.OWN).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot write: {error.strerror}; check the path and its permissions") from error
    with held(output):
        _check_key(output, identity, first)
        for leftover in output.rglob(".*.part"):  # of a driver or worker that was killed
            leftover.unlink(missing_ok=True)
        yield


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Hold an output that is there: nobody else writes meanwhile. Raises OutputError."""
    try:
        lock = (output / layout.LOCK_FILE).open("a")
    except OSError as error:
        raise OutputError(f"{output}: cannot write: {error.strerror}; check the path and its permissions") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"{output}: another run is writing here; wait for it, or choose another output"
            ) from error
        yield


def _refuse_foreign(output: Path) -> None:
    foreign = sorted(entry.name for entry in output.iterdir() if entry.name != layout.OWN) if output.is_dir() else []
    if foreign and not (output / layout.RUN_FILE).is_file():
        raise OutputError(
            f"{output}: expected an empty folder or an output of gneiss, found {foreign[0]!r}; choose another one"
        )


def _check_key(output: Path, identity: Mapping[str, object], first: Mapping[str, bytes]) -> None:
    path, key = output / layout.RUN_FILE, run_key(identity)
    if not path.is_file():
        for name, content in first.items():
            write_bytes(content, output, name)
        write_bytes((json.dumps({"run_key": key, **identity}, indent=1) + "\n").encode(), output, layout.RUN_FILE)
        return
    try:
        found = json.loads(path.read_text("utf-8"))
        other = found["run_key"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{path}: damaged ({error}); choose another output") from error
    if other != key:
        differing = [name for name, value in identity.items() if found.get(name) != value]
        raise OutputError(
            f"{output}: it belongs to another run (what differs: {', '.join(differing)});"
            " choose another output, or delete this one"
        )


def refuse_nesting(source: str | Path, files: Iterable[str | Place], output: Path) -> None:
    """Refuse an output among the input's files: a second run would take it for input. Raises OutputError."""
    folder = place_of(output, "output")
    if folder.is_in(place_of(source)) or any(place_of(file).is_in(folder) for file in files):
        raise OutputError(f"{output}: the output and the input {source} lie one in the other; choose another output")
