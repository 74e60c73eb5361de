"""Shards: consecutive rows of one input file, cut by its format; what cannot be read is told apart and named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import xxhash

from gneiss.errors import InputError, first_line
from gneiss.input.files import find_files
from gneiss.input.formats import format_of, input_names, is_input
from gneiss.input.formats.format import Format, Part
from gneiss.store.place import Address, Place


@dataclass(frozen=True)
class Shard:
    """A part of an input file.

    id: the path relative to the input, without suffix, and the part's name where a file has several; fingerprint: of
    id, size and whatever changes with the rows; etag: what the store knows the bytes by.
    """

    id: str
    file: Place
    format: Format
    part: Part
    fingerprint: str
    etag: str

    @property
    def rows(self) -> int:
        """Rows of the shard."""
        return self.part.rows

    @property
    def text_bytes(self) -> int:
        """Uncompressed bytes of text."""
        return self.part.text_bytes

    def schema(self) -> pa.Schema:
        """The columns of its file. Raises InputError when unreadable."""
        try:
            return self.format.schema(self.file)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.file}: cannot read: {first_line(error)}") from error

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield (first row within the shard, table), in order. Raises InputError when unreadable or not whole."""
        first = 0
        try:
            for table in self.format.tables(self.file, self.part, columns):
                yield first, table
                first += table.num_rows
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.file}: cannot read: {first_line(error)}") from error
        if first != self.rows:
            raise InputError(f"{self.file}: expected {self.rows} rows in shard {self.id}, found {first}: damaged")


@dataclass(frozen=True)
class UnreadableFile:
    """An input file that cannot be cut: a quarantined shard with an unknown number of rows."""

    id: str
    file: Place
    reason: str


@dataclass(frozen=True)
class Input:
    """An input: its shards in order, and unreadable files."""

    shards: tuple[Shard, ...]
    unreadable: tuple[UnreadableFile, ...]
    size_bytes: int

    @property
    def text_bytes(self) -> int:
        """Uncompressed bytes of text."""
        return sum(shard.text_bytes for shard in self.shards)


def cut_shards(
    source: Address,
    *,
    text: str,
    required: Sequence[str] = (),
    shard_max_bytes: int = 256_000_000,
) -> Input:
    """Find the files of an input and cut them into shards.

    source: a file, a directory (searched for files of a known format; names starting with `_` or `.` are ignored), a
    glob, or an address of a store; text: the text column, a string column; required: further columns that must exist.
    Raises InputError when nothing is found, and when a column is missing or mistyped in any file.
    """
    root, files = find_files(source, is_input, input_names())
    shards: list[Shard] = []
    unreadable: list[UnreadableFile] = []
    for file in files:
        place, format_ = root / file.name, format_of(file.name)
        id_ = _without_suffix(file.name, format_)
        try:
            cut = format_.cut(place, text, shard_max_bytes)
        except (OSError, pa.ArrowException) as error:
            unreadable.append(UnreadableFile(id_, place, first_line(error)))
            continue
        _check_columns(place, cut.schema, text, required)
        fingerprint = xxhash.xxh3_128_hexdigest(f"{id_}\0{cut.digest}".encode())
        shards.extend(Shard(id_ + part.name, place, format_, part, fingerprint, file.etag) for part in cut.parts)
    ids = Counter([shard.id for shard in shards] + [file.id for file in unreadable])
    if twice := sorted(id_ for id_, count in ids.items() if count > 1):
        raise InputError(f"{source}: two files would write to the same shard {twice[0]!r}; rename one of them")
    return Input(tuple(shards), tuple(unreadable), sum(file.size_bytes for file in files))


def _without_suffix(name: str, format_: Format) -> str:
    suffix = next((suffix for suffix in format_.suffixes if name.endswith(suffix)), os.path.splitext(name)[1])
    return name.removesuffix(suffix)


def _check_columns(file: Place, schema: pa.Schema, text: str, required: Sequence[str]) -> None:
    for column in dict.fromkeys((text, *required)):
        if column not in schema.names:
            raise InputError(
                f"{file}: expected a column {column!r}, found {', '.join(schema.names)};"
                " name the right one under `input:` in the recipe"
            )
        if schema.names.count(column) > 1:
            raise InputError(f"{file}: the column {column!r} occurs {schema.names.count(column)} times; keep one")
    for column in required:
        if pa.types.is_nested(schema.field(column).type):
            raise InputError(
                f"{file}: column {column!r}: expected strings or numbers, found {schema.field(column).type}"
            )
    if not (pa.types.is_string(schema.field(text).type) or pa.types.is_large_string(schema.field(text).type)):
        raise InputError(f"{file}: column {text!r}: expected string, found {schema.field(text).type}")
