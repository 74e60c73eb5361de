"""An output folder: it belongs to one run key, and has one driver at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType

from gneiss.errors import OutputError, first_line
from gneiss.input.files import can_name
from gneiss.input.plan import run_key
from gneiss.output import layout
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, Place

#: Parts of an identity whose names do not say what the user changed.
_SAID = {
    "corpus": "the input files, all of which a step at corpus scope compares, or output.shard_bytes lays out",
    "revision": f"the revision of the input: name the one that {layout.RUN_FILE} has",
}


@contextmanager
def claim(
    output: Place, identity: Mapping[str, object], first: Mapping[str, bytes] = MappingProxyType({})
) -> Iterator[Callable[[], None]]:
    """Hold an output for one driver. A new one gets the run key of this identity; one with another key is refused.

    first: files that an output has before its key, which may differ between runs of one key. Yields a check, which
    raises OutputError when the output is not held any more. Raises OutputError.
    """
    try:
        _refuse_foreign(output)
    except OSError as error:
        raise OutputError(f"{output}: cannot read: {first_line(error)}; check the path and its permissions") from error
    with held(output) as check:
        _check_key(output, identity, first)
        output.sweep()  # of a driver or worker that was killed
        yield check


@contextmanager
def held(output: Place) -> Iterator[Callable[[], None]]:
    """Hold an output: nobody else writes meanwhile. Yields a check; see `claim`. Raises OutputError."""
    with ExitStack() as stack:
        try:
            check = stack.enter_context((output / layout.LOCK_FILE).lock())
        except BlockingIOError as error:
            by = f" ({error.strerror})" if (error.strerror or "").startswith("held by") else ""
            raise OutputError(
                f"{output}: another run is writing here{by}; wait for it, or choose another output"
            ) from error
        yield check


def _refuse_foreign(output: Place) -> None:
    if (output / layout.RUN_FILE).find() is not None:
        return
    foreign = next((file.name for file in output.files() if not file.name.startswith(f"{layout.OWN}/")), None)
    if foreign is not None:
        raise OutputError(
            f"{output}: expected an empty folder or an output of gneiss, found {foreign!r}; choose another one"
        )


def _check_key(output: Place, identity: Mapping[str, object], first: Mapping[str, bytes]) -> None:
    place, key = output / layout.RUN_FILE, run_key(identity)
    if place.find() is None:
        _write_changed(output, first)
        write_bytes((json.dumps({"run_key": key, **identity}, indent=1) + "\n").encode(), output, layout.RUN_FILE)
        return
    try:
        found = json.loads(place.read())
        other = found["run_key"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{place}: damaged ({error}); choose another output") from error
    if other != key:
        differing = [_SAID.get(name, name) for name, value in identity.items() if found.get(name) != value]
        raise OutputError(
            f"{output}: it belongs to another run (what differs: {', '.join(differing)});"
            " choose another output, or delete this one"
        )
    _write_changed(output, first)


def _write_changed(output: Place, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        if (output / name).find() is None or (output / name).read() != content:
            write_bytes(content, output, name)


def refuse_nesting(source: Address, files: Iterable[Place], output: Place) -> None:
    """Refuse an output among the input's files: a second run would take it for input. Raises OutputError."""
    written = (output / folder for folder in (layout.DATA, layout.ANNOTATIONS, layout.QUARANTINE))
    if any(can_name(source, folder) for folder in written) or any(file.is_in(output) for file in files):
        raise OutputError(f"{output}: the output and the input {source} lie one in the other; choose another output")
