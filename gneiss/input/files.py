"""What an input's address names: one file, those of a folder, or those that match a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable

from gneiss.errors import InputError, first_line
from gneiss.store.place import Address, Place, place_of
from gneiss.store.store import File


def find_files(source: Address, is_wanted: Callable[[str], bool], wanted: str) -> tuple[Place, list[File]]:
    """The root of an input and its files, bytewise by name: one file, those of a folder that are wanted, or of a glob.

    is_wanted: of a name; wanted: what a message calls such files. Names in a folder that start with `_` or `.` are left
    out. Raises InputError when there are none.
    """
    place = place_of(source)
    try:
        if file := place.find():
            return place.parent, [file]
        if found := list(place.files()):
            files = [file for file in found if is_wanted(file.name) and not _is_hidden(file.name)]
        elif glob.has_magic(place.path):
            place, pattern = _fixed(place)
            files, wanted = list(place.files(pattern)), "files that match"
        else:
            raise InputError(f"{source}: no such file or directory, or an empty one")
    except OSError as error:
        raise InputError(f"{source}: cannot read: {first_line(error)}") from error
    if not files:
        raise InputError(f"{source}: expected {wanted}, found none")
    for file in files:
        if any("\ud800" <= character <= "\udfff" for character in file.name):  # bytes that Python could not decode
            raise InputError(f"{os.fsencode(str(place / file.name))!r}: the name of this file is not UTF-8; rename it")
    return place, sorted(files, key=lambda file: file.name.encode())


def _is_hidden(name: str) -> bool:
    return any(part[0] in "._" for part in name.split("/"))


def _fixed(place: Place) -> tuple[Place, str]:
    """The folder before the first wildcard, and the pattern after it."""
    parts = place.path.split("/")
    wild = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Place(place.store, "/".join(parts[:wild]) or "/"), "/".join(parts[wild:])
