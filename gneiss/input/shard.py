"""Shards: consecutive rows of one input file, cut by its format; what cannot be read is told apart and named."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import pyarrow as pa
import xxhash

from gneiss.errors import InputError, first_line, printable
from gneiss.input.added import Added, added_columns
from gneiss.input.columns import field_at, find_path, leaf_names
from gneiss.input.cuts import FEWEST_FILES, Cuts
from gneiss.input.files import find_files
from gneiss.input.formats import format_of, input_names, is_input
from gneiss.input.formats.format import UNREADABLE, CutFile, Format, Part
from gneiss.store.at_once import at_once
from gneiss.store.place import Address, Place
from gneiss.store.ranged import Memory
from gneiss.store.store import File
from gneiss.version import __version__

#: The most columns that a message names.
_NAMED = 20
#: The longest name of a file in most file systems.
_NAME_BYTES = 255
_log = logging.getLogger(__name__)
#: Why columns cannot be used, if they cannot.
Refusal: TypeAlias = Callable[[pa.Schema], str | None]


def refuse_none(_: pa.Schema) -> str | None:
    """No columns are refused."""
    return None


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of an input file.

    id: the path relative to the input, without suffix, and the part's name where a file has several; fingerprint: of
    id, size and whatever changes with the rows; etag: what the store knows the bytes by; added: columns beside those
    of the file.
    """

    id: str
    file: Place
    format: Format
    part: Part
    fingerprint: str
    etag: str
    added: Added

    @property
    def known_rows(self) -> int | None:
        """Rows of the shard; None where nobody has counted them yet."""
        return self.part.rows

    @property
    def rows(self) -> int:
        """Rows of the shard, or a guess of it where they are not known."""
        return self.part.likely_rows if self.known_rows is None else self.known_rows

    def counted(self, rows: int | None) -> Shard:
        """The same shard when its rows are known."""
        return self if self.known_rows == rows else replace(self, part=replace(self.part, rows=rows))

    @property
    def text_bytes(self) -> int:
        """Uncompressed bytes of text."""
        return self.part.text_bytes

    @property
    def held_bytes(self) -> int:
        """Uncompressed bytes of the other columns that are held for all its rows."""
        return self.part.held_bytes

    @property
    def table_bytes(self) -> int:
        """Uncompressed bytes of the largest table that is read of it at once."""
        return self.part.table_bytes

    def check_unchanged(self) -> None:
        """Raise InputError when its file is not the one that was cut, or cannot be read."""
        if self.file.is_in_one_version:
            return  # which whatever reads it sees to
        try:
            if (found := self.file.find()) is None:
                raise InputError(f"{self.file}: cannot read: it no longer exists")
            digest = self.format.digest(self.file) if found.etag == self.etag else ""
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        if _fingerprint(self.id.removesuffix(self.part.name), digest) != self.fingerprint:
            raise self._replaced()

    def schema(self) -> pa.Schema:
        """The columns of its file, and those that are added. Raises InputError when unreadable."""
        try:
            own = self.format.schema(self.file, self.part)
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        if both := next((name for name in self.added.types if name in own.names), None):
            raise InputError(f"{self.file}: its first lines have no {both!r}, which was added to them, and others have")
        return self.added.schema(own)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield (first row within the shard, table), in order. Raises InputError when unreadable, changed or cut.

        columns: all, or some by name or path (`metadata.url`); MADE_ID for made ids.
        """
        self.check_unchanged()
        first = 0
        numbers_rows = self.format.counts_rows
        try:
            for table in self.format.tables(self.file, self.part, self.added.read(columns, numbers_rows)):
                yield first, self.added.table(table, columns, self.part.start + first if numbers_rows else None)
                first += table.num_rows
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        if self.known_rows not in (None, first):
            raise InputError(f"{self.file}: expected {self.known_rows} rows in shard {self.id}, found {first}: damaged")

    def _unreadable(self, error: Exception) -> InputError:
        if isinstance(error, OSError) and error.errno == errno.ESTALE:
            return self._replaced()
        return InputError(f"{self.file}: cannot read: {first_line(error)}")

    def _replaced(self) -> InputError:
        return InputError(f"{self.file}: modified or replaced after the run began; run again when it is whole")


def reading_on() -> Callable[[Shard], Shard]:
    """Shards as one worker reads them: a part of a file from where the part before it ended, if it was read here.

    What comes over a network and is read again is kept, as far as it fits.
    """
    formats: dict[Format, Format] = {}
    memory = Memory()

    def of_worker(shard: Shard) -> Shard:
        if shard.format not in formats:
            formats[shard.format] = shard.format.for_worker()
        return replace(shard, format=formats[shard.format], file=shard.file.remembered_in(memory))

    return of_worker


@dataclass(frozen=True)
class UnreadableFile:
    """An input file that cannot be cut: a quarantined shard with an unknown number of rows."""

    id: str
    file: Place
    reason: str


@dataclass(frozen=True)
class Input:
    """An input: its shards in order, and unreadable files. cuts: how its files were cut, where those are many."""

    shards: tuple[Shard, ...]
    unreadable: tuple[UnreadableFile, ...]
    size_bytes: int
    cuts: Cuts | None = field(default=None, compare=False, repr=False)

    @property
    def text_bytes(self) -> int:
        """Uncompressed bytes of text."""
        return sum(shard.text_bytes for shard in self.shards)


def cut_shards(
    source: Address,
    *,
    text: str,
    required: Sequence[str] = (),
    id: str | None = None,
    hive: Mapping[str, str] | None = None,
    shard_max_bytes: int = 256_000_000,
    refusal: Refusal = refuse_none,
    kept: Place | None = None,
) -> Input:
    """Find the files of an input and cut them into shards.

    source: a file, a directory (searched for files of a known format; names starting with `_` or `.` are ignored), a
    glob, or an address of a store; of plain text, what ends in `.txt`; text: the text column, of strings; required:
    further columns that must exist; id: a column of made ids for files that lack it; hive: types of the keys in names
    of folders, if not strings; None: such keys are no columns; refusal: further reasons why columns cannot be used;
    kept: where an earlier driver kept how it cut many files, if it did.
    Columns are names, or paths such as `metadata.url`. Files that cannot be used are unreadable. Raises InputError when
    nothing is found, when columns are missing or mistyped in all files, and when two files would have the same outputs.
    """
    held = [*required, *([] if id is None else [id])]
    root, files = find_files(source, is_input, input_names())
    cuts: Cuts | None = None
    if kept is not None and len(files) >= FEWEST_FILES:
        cuts = Cuts.kept(kept, json.dumps([__version__, str(root), text, shard_max_bytes, held]))
    usable: list[tuple[str, File, Format, CutFile]] = []
    unreadable: list[UnreadableFile] = []
    refused: list[UnreadableFile] = []

    def cut_or_reason(file: File) -> CutFile | str:
        if cuts and (known := cuts.find(file)):
            return known
        try:
            return format_of(file.name, str(source)).cut(
                (root / file.name).in_version(file), text, shard_max_bytes, held
            )
        except UNREADABLE as error:
            return first_line(error)

    for file, cut in zip(files, at_once(cut_or_reason, files), strict=True):
        place, format_ = (root / file.name).in_version(file), format_of(file.name, str(source))
        id_ = _without_suffix(file.name, format_)
        if isinstance(cut, str):
            unreadable.append(UnreadableFile(id_, place, cut))
            continue
        if cuts:
            cuts.keep(file, cut)
        parts = [id_ + part.name for part in cut.parts] or [id_]
        try:
            _check_columns(cut.schema, text)
            schema = added_columns(file.name, cut.schema, hive, id).schema(cut.schema)
            _check_required(schema, required)
            if reason := refusal(schema):
                raise InputError(reason)
            _check_length(parts[-1])
        except InputError as error:
            refused.append(UnreadableFile(id_, place, str(error)))
            continue
        usable.append((id_, file, format_, cut))
    schemas: dict[Format, list[pa.Schema]] = {}
    for _, _, format_, cut in usable:
        schemas.setdefault(format_, []).append(cut.schema)
    together = {format_: format_.together(text, found) for format_, found in schemas.items()}
    own = {format_: iter(group) for format_, (_, group) in together.items()}
    shards: list[Shard] = []
    for id_, file, format_, cut in usable:
        place, fingerprint = (root / file.name).in_version(file), _fingerprint(id_, cut.digest)
        added = added_columns(file.name, next(own[format_]), hive, id)
        reader = together[format_][0]
        shards.extend(Shard(id_ + part.name, place, reader, part, fingerprint, file.etag, added) for part in cut.parts)
    if refused and not shards:
        raise InputError(f"{refused[0].file}: {refused[0].reason}")
    unusable = sorted((*unreadable, *refused), key=lambda damaged: damaged.file.path.encode())
    if unusable:
        first = unusable[0]
        more = f" and {len(unusable) - 1:,} more" if unusable[1:] else ""
        _log.warning("%s%s: quarantined: %s", printable(first.file), more, printable(first.reason))
    if made := [shard for shard in shards if shard.added.id is not None]:
        number = "row" if made[0].format.counts_rows else "byte where the row begins"
        said = "%s: no column %r; ids are made of its path and the %s"
        _log.warning(said, printable(made[0].file), made[0].added.id, number)
    if large := [shard for shard in shards if shard.known_rows is None and shard.text_bytes > 2 * shard_max_bytes]:
        _log.warning(
            "%s: %d files cannot be cut and have more than shard_max_bytes of text, such as %s with about %d MB:"
            " workers need memory for them; smaller files, or plain ones, are cut",
            *(printable(source), len(large), printable(large[0].file), large[0].text_bytes // 1_000_000),
        )
    _check_ids(source, shards, unusable)
    return Input(tuple(shards), tuple(unusable), sum(file.size_bytes for file in files), cuts)


def _fingerprint(id_: str, digest: str) -> str:
    return xxhash.xxh3_128_hexdigest(f"{id_}\0{digest}".encode())


def _without_suffix(name: str, format_: Format) -> str:
    suffix = next((end for end in format_.suffixes if name.lower().endswith(end)), os.path.splitext(name)[1])
    return name[: len(name) - len(suffix)]


def _check_ids(source: Address, shards: Sequence[Shard], unusable: Sequence[UnreadableFile]) -> None:
    """Raise InputError when two shards would have the same outputs, or one outputs in the place of another's folder."""
    files: dict[str, Place] = {}
    for id_, file in (*((shard.id, shard.file) for shard in shards), *((shard.id, shard.file) for shard in unusable)):
        if id_ in files:
            raise InputError(
                f"{files[id_]} and {file}: two files would write to the same shard {id_!r}; rename one of them, or take"
                " the files of one kind only, by a glob as input"
            )
        files[id_] = file
    written = {f"{id_}.parquet" for id_ in files}
    for id_ in files:
        if "/" in id_ and (folder := next((name for name in _folders(id_) if name in written), None)):
            raise InputError(
                f"{source}: the outputs of shard {folder.removesuffix('.parquet')!r} would lie where {id_!r} needs a"
                " folder; rename one of them"
            )


def _folders(id_: str) -> Iterator[str]:
    while id_ := id_.rpartition("/")[0]:
        yield id_


def _check_length(id_: str) -> None:
    """Raise InputError when a shard's outputs cannot have its name."""
    longest = max(len(part.encode()) for part in f"{id_}.parquet".split("/"))
    if longest > _NAME_BYTES:
        raise InputError(
            f"its outputs would have a name of {longest} bytes, and file systems take {_NAME_BYTES}; rename it"
        )


def _check_columns(schema: pa.Schema, text: str) -> None:
    """Raise InputError when the columns of a file cannot be told apart, or have no text."""
    if twice := next((name for name, count in Counter(schema.names).items() if count > 1), None):
        raise InputError(f"the column {twice!r} occurs {schema.names.count(twice)} times; keep one, or rename one")
    path = find_path(schema, text)
    if not path:
        raise _missing(schema, text)
    if not _is_text(type_ := field_at(schema, path).type):
        fields = (name for name in leaf_names(schema) if name.startswith(f"{text}."))
        field = next((name for name in fields if _is_text(field_at(schema, find_path(schema, name)).type)), None)
        hint = f"; write `text: {field}` under `input:` in the recipe for a field of it" if field else ""
        raise InputError(f"column {text!r}: expected string, found {type_}{hint}")


def _check_required(schema: pa.Schema, required: Sequence[str]) -> None:
    """Raise InputError when a column that a recipe names is not there, or has no single values."""
    for column in required:
        path = find_path(schema, column)
        if not path:
            raise _missing(schema, column)
        if pa.types.is_nested(type_ := field_at(schema, path).type):
            raise InputError(f"column {column!r}: expected strings or numbers, found {type_}")


def _missing(schema: pa.Schema, column: str) -> InputError:
    leaves = list(leaf_names(schema))
    found = ", ".join(leaves[:_NAMED]) + (f" and {len(leaves) - _NAMED} more" if leaves[_NAMED:] else "")
    return InputError(
        f"expected a column {column!r}, found {found or 'none'}; name the right one under `input:` in the recipe"
    )


def _is_text(type_: pa.DataType) -> bool:
    """Whether a column can be the text: strings in any layout, or nothing but nulls, as of an empty selection."""
    if pa.types.is_dictionary(type_):
        return not pa.types.is_null(type_.value_type) and _is_text(type_.value_type)
    kinds = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null
    return any(is_kind(type_) for is_kind in kinds)
