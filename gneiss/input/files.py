"""What an input's address names: one file, those of a folder, or those that match a pattern."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterator

from gneiss.errors import InputError, first_line
from gneiss.store.place import Address, Place, place_of
from gneiss.store.store import File, matches, may_hold

#: Parts of a name in a store that takes any, which a path does not keep.
_AWAY = frozenset({"", ".", ".."})
_log = logging.getLogger(__name__)


def find_files(
    source: Address, is_wanted: Callable[[str], bool], wanted: str, *, warn: bool = True
) -> tuple[Place, list[File]]:
    """The root of an input and its files, bytewise by name: one file, those of a folder that are wanted, or of a glob.

    is_wanted: of a name; wanted: what a message calls such files. Names in a folder that start with `_` or `.` are left
    out, but for Hive's `_column=value`; warn: say what else is passed over where some are wanted. Where a glob matches
    a folder whose name is one of wanted files, as Spark and Dask write them, it is read as a folder. Raises InputError
    when there are none, or their names cannot be used.
    """
    place = place_of(source)
    try:
        place = place.pinned() or place
        if file := place.find():
            return place.parent, [file]
        if found := list(place.files()):
            seen = [file for file in found if not _is_hidden(file.name)]
            files = [file for file in seen if is_wanted(file.name)]
            if warn and files and len(files) < len(seen):
                other = min({file.name for file in seen} - {file.name for file in files})
                left = len(seen) - len(files)
                _log.warning("%s: %d files are passed over, such as %r; expected %s", source, left, other, wanted)
        elif glob.has_magic(place.path):
            place, pattern = _fixed(place)
            files, wanted = list(_matching(place, pattern, is_wanted)), "files that match"
        else:
            raise InputError(f"{source}: no such file or directory, or an empty one")
    except OSError as error:
        where, why = (error.filename or source, error.strerror) if error.strerror else (source, first_line(error))
        raise InputError(f"{where}: cannot read: {why}") from error
    if not files:
        raise InputError(f"{source}: expected {wanted}, found none")
    for file in files:
        if any("\ud800" <= character <= "\udfff" for character in file.name):  # bytes that Python could not decode
            raise InputError(f"{os.fsencode(str(place / file.name))!r}: the name of this file is not UTF-8; rename it")
        if not _AWAY.isdisjoint(file.name.split("/")):  # in stores that take any name
            raise InputError(f"{place / file.name}: a name that leads elsewhere when it is a path; rename it")
    return place, sorted(files, key=lambda file: file.name.encode())


def can_name(source: Address, folder: Place) -> bool:
    """Whether an input's address takes in files of a folder, those that are there or will be."""
    place = place_of(source)
    if folder.is_in(place):
        return True
    if not glob.has_magic(place.path) or place.find() or next(iter(place.files()), None):
        return False
    root, pattern = _fixed(place)
    return folder.is_in(root) and may_hold(folder.path_in(root), pattern)


def _matching(root: Place, pattern: str, is_wanted: Callable[[str], bool]) -> Iterator[File]:
    """The files that match, and the wanted ones in folders that match and are named as files."""
    for file in root.files(f"{pattern}/**"):
        if matches(file.name, pattern):
            yield file
            continue
        parts = file.name.split("/")
        paths = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if folder := next((path for path in paths if matches(path, pattern) and is_wanted(path)), None):
            name = file.name[len(folder) + 1 :]
            if is_wanted(name) and not _is_hidden(name):
                yield file


def _is_hidden(name: str) -> bool:
    return any(
        part not in _AWAY and (part[0] == "." or (part[0] == "_" and "=" not in part)) for part in name.split("/")
    )


def _fixed(place: Place) -> tuple[Place, str]:
    """The folder before the first wildcard, and the pattern after it. Raises InputError for a pattern that goes up."""
    parts = place.path.split("/")
    wild = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    if ".." in parts[wild:]:
        raise InputError(f"{place}: `..` after a wildcard; write the folder that is meant")
    return Place(place.store, "/".join(parts[:wild]) or "/"), "/".join(parts[wild:])
