"""Inputs and outputs of training: columns of Parquet files, text as a model sees it, the folder of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.errors import InputError, OutputError, first_line
from gneiss.input.files import find_files
from gneiss.input.formats import input_names, is_input
from gneiss.store.place import Address

CARD = "MODEL.md"
#: In prediction fastText ignores words that start with `__label__`; in training they would be labels of the document.
#: Its word separators differ from Python's \s.
_LABEL_WORD = re.compile(r"(?<![^ \n\r\t\v\f\0])__label__[^ \n\r\t\v\f\0]*")


@dataclass(frozen=True)
class Skipped:
    """Rows that training did not use, by reason."""

    null: int = 0
    not_utf8: int = 0
    repeated: int = 0
    contradictory: int = 0


def read_rows(source: Address, text: str, *others: str, also: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The requested columns of every row group, in order of files and rows; the text column as large_binary.

    Parameters: `source`: a Parquet file or a folder of them; `text`, `others`: names of columns; `also`: of columns
    that are read where they are there.
    Raises InputError when there is no file, one cannot be read or lacks a column, or its text column is not of strings.
    """
    root, files = find_files(source, is_input, input_names())
    columns = list(dict.fromkeys((text, *others)))
    for path in (root / file.name for file in files):
        try:
            with path.open() as opened, pq.ParquetFile(opened) as file:
                schema = file.schema_arrow
                for column in columns:
                    if schema.names.count(column) != 1:
                        found = f"{schema.names.count(column)} times" if column in schema.names else "not there"
                        raise InputError(f"{path}: column {column!r} is {found}; found {', '.join(schema.names)}")
                if not is_string(schema.field(text).type):
                    raise InputError(f"{path}: column {text!r}: expected strings, found {schema.field(text).type}")
                read = [*columns, *(name for name in also if schema.names.count(name) == 1 and name not in columns)]
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=read, use_threads=False)
                    if pa.types.is_dictionary(schema.field(text).type):
                        table = _replaced(table, text, pa.large_string())
                    yield _replaced(table, text, pa.large_binary())
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot read: {first_line(error)}") from error


def is_string(type_: pa.DataType) -> bool:
    """Whether a column of this type holds strings, plain or dictionary-encoded."""
    if pa.types.is_dictionary(type_):
        return is_string(type_.value_type)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def decoded(text: bytes) -> str | None:
    """A text, or None if the bytes are not UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def one_line(text: str) -> str:
    r"""A text as fastText reads it in a recipe: line breaks are spaces, and words like `__label__x` are not there.

    >>> one_line("two\nlines, one of __label__spam or x__label__y")
    'two lines, one of  or x__label__y'
    """
    return _LABEL_WORD.sub("", text.replace("\n", " "))


def claim(folder: Path, *names: str) -> None:
    """Create a folder for one model and its card. Raises OutputError when it cannot, or holds anything else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in (*names, CARD))
    except OSError as error:
        raise OutputError(f"{folder}: cannot write: {error.strerror or error}") from error
    if foreign := [name for name in foreign if not name.startswith(".")]:
        raise OutputError(
            f"{folder}: expected an empty folder, found {foreign[0]!r}; give each model a folder of its own"
        )


def markdown_table(*rows: tuple[object, ...]) -> list[str]:
    """Lines of a Markdown table, aligned for reading as plain text; the first row is the header."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(cells[0]))]
    cells.insert(1, ["-" * (width - 1) + (":" if i else "-") for i, width in enumerate(widths)])
    return [
        f"| {' | '.join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))} |"
        for row in cells
    ]


def skipped_lines(skipped: Skipped) -> Mapping[str, int]:
    """Reasons for skipped rows, in words, with their counts."""
    return {
        "rows without text or label": skipped.null,
        "rows whose text is not UTF-8": skipped.not_utf8,
        "rows that repeat the text of another": skipped.repeated,
        "texts with more than one label, left out": skipped.contradictory,
    }


def _replaced(table: pa.Table, name: str, type_: pa.DataType) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, table[name].cast(type_))
