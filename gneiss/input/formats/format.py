"""What a format is: how its files are cut into parts, and how the rows of a part are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from gneiss.store.place import Place

#: The column, int64, that says where in its file each row begins, where parts count something other than rows.
POSITION = "\0position"
#: The column, of strings, that says what is wrong with rows that are malformed, whose text is what stands there.
MALFORMED = "\0malformed"
#: What reading a file that is damaged, or no file of its format, raises; the last for names of columns.
UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a file, from `start` to `end` (exclusive), in whatever a format counts: rows, or bytes.

    name: what tells it from the other parts of its file, sorted as they are; empty for a whole file. rows: None where
    only reading them tells how many there are, and likely_rows a guess; text_bytes: size of its texts, uncompressed and
    decoded, or a guess of it; held_bytes: the same for other columns that are held for all its rows; table_bytes: for
    all columns of the largest table that is read of it at once; table_rows: how many rows that has at most, if the
    format is to know.
    """

    name: str
    start: int
    end: int
    rows: int | None
    text_bytes: int
    held_bytes: int = 0
    table_bytes: int = 0
    table_rows: int | None = None
    likely_rows: int = 0


@dataclass(frozen=True)
class CutFile:
    """A file as it was cut: its columns, its parts in order, and a digest that changes with its rows."""

    schema: pa.Schema
    parts: tuple[Part, ...]
    digest: str


class Format(Protocol):
    """How the files of a format are read. A value that travels to workers.

    Files are opened with `Place.open` and read as Arrow columns; whatever cannot be read raises UNREADABLE. The
    same file gives the same parts and the same tables every time.
    """

    @property
    def suffixes(self) -> Sequence[str]:
        """How the names of its files end, with the dot, in small letters."""

    @property
    def counts_rows(self) -> bool:
        """Whether parts count rows; if not, its tables have the column POSITION where it or all are asked for."""

    @property
    def finds_malformed(self) -> bool:
        """Whether rows can be malformed: its tables then have the column MALFORMED where it is asked for."""

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        """Cut a file into parts with at most this many decoded bytes in the column `text`, as far as its rows allow.

        held: other columns that are read for all rows of a part. A file has one part at least. Where there is no such
        column, parts do not matter: the caller refuses the file.
        """

    def together(self, text: str, schemas: Sequence[pa.Schema]) -> tuple[Format, Sequence[pa.Schema]]:
        """The format as it reads the files of one input, by their columns as they were cut, and their columns then."""

    def digest(self, file: Place) -> str:
        """The digest of `cut`, to tell whether a file is still the one that was cut."""

    def schema(self, file: Place, part: Part) -> pa.Schema:
        """The columns of a part of a file, with whatever metadata they have."""

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """The rows of a part, in order, all columns or some, in tables that fit into memory.

        columns: names, and paths of fields in structs, such as `metadata.url`: all of `metadata` may be read for it.
        """

    def for_worker(self) -> Format:
        """The format as one worker reads, which may keep a file open to go on with its next part; or itself."""
