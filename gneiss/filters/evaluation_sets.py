"""Evaluation sets as files: the texts that no training document should contain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gneiss.annotation import files_of
from gneiss.errors import ModelError, RecipeError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".parquet", ".txt")


def set_name(file: str) -> str:
    """The name of a file's set: its own without the suffix. Raises ModelError for other suffixes.

    >>> set_name("mmlu/anatomy.jsonl")
    'mmlu/anatomy'
    """
    name = next((file.removesuffix(suffix) for suffix in SUFFIXES if file.endswith(suffix)), None)
    if not name:
        raise ModelError(f"{file}: expected an evaluation set in a file that ends in {', '.join(SUFFIXES)}")
    return name


class SetText(NamedTuple):
    """A text of a set: the row that it is in (of a text file the line), from 0, and the field, "" in a .txt."""

    row: int
    field: str
    text: str


def set_sources(sets: Mapping[str, str], folder: str | None) -> tuple[str, ...]:
    """The files of the sets, without repeats, and the folder, with a slash."""
    return tuple(dict.fromkeys((*sets.values(), *(() if folder is None else (_as_folder(folder),)))))


def refuse_no_sets(key: str, sets: Mapping[str, str], folder: str | None) -> None:
    """Raise RecipeError where an annotator has no sets, or a folder that is not local."""
    if not set_sources(sets, folder):
        raise RecipeError(f"{key}: expected evaluation sets: `sets`, `folder` or both")
    if folder is not None and "://" in folder:
        raise RecipeError(f"{key}: folder: expected a local folder, found {folder}")


def set_paths(sets: Mapping[str, str], folder: str | None, files: Mapping[str, Path]) -> dict[str, Path]:
    """The file of each set, by name: those named, and all below the folder. Raises ModelError.

    Parameters: `files`: source → local path; the folder's source ends in a slash.
    """
    paths = {name: files[source] for name, source in sets.items()}
    if folder is not None:
        for file, path in files_of(files[_as_folder(folder)]).items():
            name = set_name(file)
            if name in paths:
                raise ModelError(f"{path}: there is another evaluation set {name!r}: {paths[name]}; rename one")
            paths[name] = path
    return paths


def _as_folder(folder: str) -> str:
    return f"{folder.rstrip('/')}/"


def read_texts(path: Path, fields: Sequence[str]) -> dict[str, list[str]]:
    """The texts of a set, by field: those of a .jsonl, or columns of a .parquet; the lines of a .txt are under "".
    Raises what `read_rows` raises.
    """
    texts: dict[str, list[str]] = {"": []} if path.suffix == ".txt" else {field: [] for field in fields}
    for row in read_rows(path, fields):
        texts[row.field].append(row.text)
    return texts


def read_rows(path: Path, fields: Sequence[str]) -> list[SetText]:
    """The texts of a set, in order of rows in a .jsonl or .txt, of fields and rows in a .parquet.

    Lines end at LF, CRLF or CR only. A row needs one of the fields, and each string in one is a separate text, in lists
    and in nested fields too. Other values are ignored.
    Raises ModelError for a file that cannot be read, lacks the fields, or has no text.
    """
    set_name(path.name)
    try:
        if path.suffix == ".txt":
            lines = path.read_text("utf-8-sig").split("\n")
            texts = [SetText(row, "", line) for row, line in enumerate(lines)]
        else:
            texts = list((_of_json_lines if path.suffix == ".jsonl" else _of_parquet)(path, fields))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as an evaluation set: {first_line(error)}") from error
    if not any(text.text.strip() for text in texts):
        raise ModelError(f"{path}: expected the texts of an evaluation set, found none")
    return texts


def _of_json_lines(path: Path, fields: Sequence[str]) -> Iterator[SetText]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ModelError(f"{path}, line {number}: no valid JSON: {first_line(error)}") from error
            if not isinstance(row, dict) or not any(field in row for field in fields):
                raise ModelError(f"{path}, line {number}: expected an object with one of {', '.join(fields)}")
            for field in fields:
                yield from (SetText(number - 1, field, text) for text in _strings(row.get(field)))


def _of_parquet(path: Path, fields: Sequence[str]) -> Iterator[SetText]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path).names
        present = [field for field in fields if field in found]
        if not present:
            raise ModelError(f"{path}: expected one of the columns {', '.join(fields)}, found {', '.join(found)}")
        table: pa.Table = pq.read_table(path, columns=present)
    except pa.ArrowException as error:
        raise ModelError(f"{path}: cannot be read as Parquet: {first_line(error)}") from error
    for column in present:
        for row, value in enumerate(table[column].to_pylist()):
            yield from (SetText(row, column, text) for text in _strings(value))


def _strings(value: object) -> Iterator[str]:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item.encode("utf-8", "replace").decode()  # JSON can escape a lone surrogate
        elif isinstance(item, dict | list):
            left += reversed(list(item.values()) if isinstance(item, dict) else item)
