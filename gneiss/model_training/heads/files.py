"""Files of heads, and the texts that a pair of networks is merged by."""

from __future__ import annotations

from pathlib import Path

from gneiss.errors import InputError
from gneiss.model_training.heads.building import HELD_OUT, TEXTS
from gneiss.model_training.heads.head import Head, packed_head
from gneiss.model_training.source import decoded, read_rows
from gneiss.output.parquet import write_new
from gneiss.store.place import Address, place_of


def write_head(head: Head, path: Path) -> None:
    """Write a head's file, whole or not at all. Raises OutputError."""
    write_new(packed_head(head), place_of(path.parent, "output"), path.name)


def first_texts(source: Address, text: str, count: int = TEXTS + HELD_OUT) -> list[str]:
    """The first texts of Parquet files. Raises InputError where there is none, or no such column."""
    found: list[str] = []
    for table in read_rows(source, text):
        for raw in table[text]:
            if raw.is_valid and (content := decoded(raw.as_py())) is not None:
                found.append(content)
            if len(found) == count:
                return found
    if not found:
        raise InputError(f"{source}: no text in the column {text!r}")
    return found
