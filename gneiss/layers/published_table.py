"""A table of annotations that others published: files of any format, in any store, and what a layer takes of them."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from gneiss.errors import InputError, did_you_mean, first_line
from gneiss.input.added import added_columns
from gneiss.input.columns import field_at, find_path, values_at
from gneiss.input.files import find_files
from gneiss.input.formats import format_of, input_names, is_input
from gneiss.input.formats.format import MALFORMED, UNREADABLE
from gneiss.input.shard import Shard, cut_shards
from gneiss.layers.attributes import HOLDERS, JsonAttributes, attribute_columns, json_attributes
from gneiss.layers.keys import Key, comparable, is_text, parse_keys
from gneiss.layers.taken import Taken, layer_type
from gneiss.output.annotation_tables import IDENTITY
from gneiss.store.at_once import at_once
from gneiss.store.place import Address

#: Decoded bytes of the keys of a file that are read as one part of it.
_PART_BYTES = 64_000_000
#: Progress is logged after this many rows.
_LOGGED_ROWS = 10_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedTable:
    """A table as it is joined: its files, the keys, and the columns that a layer takes.

    reads: columns of its files; json: those of strings that are read as attributes; left_out: columns that the
    documents have themselves and nobody named.
    """

    address: str
    shards: tuple[Shard, ...]
    keys: tuple[Key, ...]
    taken: tuple[Taken, ...]
    reads: tuple[str, ...]
    json: tuple[JsonAttributes, ...]
    left_out: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 over its files, as far as their footers, or their sizes, first and last bytes, tell them apart."""
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(f"{shard.id}\0{shard.fingerprint}\0".encode())
        return digest.hexdigest()

    def rows(self) -> Iterator[tuple[list[pa.Array], list[pa.Array]]]:
        """Keys and values of consecutive rows, an array a column. Raises InputError naming the file."""
        seen = 0
        for shard in self.shards:
            finds_malformed = shard.format.finds_malformed
            for first, table in shard.tables([*self.reads, MALFORMED] if finds_malformed else self.reads):
                try:
                    if finds_malformed and len(wrong := table[MALFORMED].drop_null()):
                        raise InputError(f"a malformed row: {wrong[0].as_py()}")
                    for column in self.json:
                        table = column.parsed(table)
                    keys = [comparable(values_at(table, key.in_table)) for key in self.keys]
                    values = [column.values(table) for column in self.taken]
                except (pa.ArrowException, InputError) as error:
                    raise InputError(f"{shard.file}: row {first:,} or one after it: {first_line(error)}") from error
                yield keys, values
                if seen // _LOGGED_ROWS < (seen + table.num_rows) // _LOGGED_ROWS:
                    _log.info("%s: %s rows are read", self.address, f"{seen + table.num_rows:,}")
                seen += table.num_rows


def open_table(
    address: Address, on: Sequence[str], columns: Sequence[str] | None, own: Collection[str]
) -> PublishedTable:
    """Find the files of a table, its keys and what a layer takes of it.

    Parameters: `on`: see `parse_keys`; `columns`: names, by default all but those in `own`, which the documents have
    themselves. Raises InputError.
    """
    of = str(address)
    first = _first_schema(address)
    keys = parse_keys(on, first, of)
    names = [key.in_table for key in keys]
    texts = [name for name in names if is_text(field_at(first, find_path(first, name)).type)]
    if not texts:
        raise InputError(f"{of}: {', '.join(names)}: expected strings, found times; join on a column of strings too")
    found = cut_shards(address, text=texts[0], required=names, hive={}, shard_max_bytes=_PART_BYTES)
    if found.unreadable:
        file = found.unreadable[0]
        raise InputError(f"{file.file}: {file.reason}; a table is joined whole: repair this file, or leave it out")
    schema, wrong = _schema(found.shards)
    if bad := [name for name in wrong if (name not in own if columns is None else name in columns)]:
        raise InputError(f"{of}: column {bad[0]!r}: {wrong[bad[0]]}; name columns without it, or join files one by one")
    json = list(_json(found.shards[0], schema))
    for holder in json:
        schema = schema.set(schema.get_field_index(holder.column), pa.field(holder.column, holder.type))
    offers = list(_offers(schema))
    left_out = () if columns is not None else tuple(offer.name for offer in offers if offer.name in {*own} - {*names})
    if columns is None:
        columns = [offer.name for offer in offers if offer.name not in own and offer.path not in names]
    taken = tuple(_take(of, schema, offers, name) for name in dict.fromkeys(columns))
    if twice := next(
        (name for name, times in Counter(column.name.lower() for column in taken).items() if times > 1), None
    ):
        raise InputError(f"{of}: columns that differ in capitals only, {twice!r}; name those to take, or rename one")
    if not taken:
        raise InputError(f"{of}: no column beside {', '.join([*names, *left_out])}; name those to take")
    paths = [find_path(schema, path) for path in (*names, *(column.path for column in taken))]
    reads = tuple(dict.fromkeys(path[0] for path in paths))
    used = tuple(
        column.only([path[1] for path in paths if path[0] == column.column])
        for column in json
        if column.column in reads
    )
    return PublishedTable(of, found.shards, keys, taken, reads, used, left_out)


def _first_schema(address: Address) -> pa.Schema:
    """The columns of the first file, to say early what is wrong."""
    root, files = find_files(address, is_input, input_names())
    file = (root / files[0].name).in_version(files[0])
    try:
        schema = format_of(files[0].name, str(address)).cut(file, "", _PART_BYTES).schema
    except UNREADABLE as error:
        raise InputError(f"{file}: cannot read: {first_line(error)}") from error
    return added_columns(files[0].name, schema, {}, None).schema(schema)


def _schema(shards: Sequence[Shard]) -> tuple[pa.Schema, dict[str, str]]:
    """The columns of all files, each of a type that holds the values of all; the others, and what is wrong of them."""
    schemas = list(at_once(lambda shard: shard.schema().remove_metadata(), shards))
    fields: list[pa.Field] = []
    wrong: dict[str, str] = {}
    for name in dict.fromkeys(name for schema in schemas for name in schema.names):
        if lacking := next(
            (shard.file for shard, found in zip(shards, schemas, strict=True) if name not in found.names), None
        ):
            wrong[name] = f"{lacking} has none"
            continue
        own = list(dict.fromkeys(pa.schema([schema.field(name)]) for schema in schemas))
        try:
            fields.append(pa.unify_schemas(own, promote_options="permissive").field(0))
        except pa.ArrowException as error:
            wrong[name] = f"files have different types: {first_line(error)}"
    return pa.schema(fields), wrong


def _json(shard: Shard, schema: pa.Schema) -> Iterator[JsonAttributes]:
    """The columns that hold attributes as JSON, by the first rows."""
    texts = [name for name in HOLDERS if name in schema.names and is_text(schema.field(name).type)]
    if texts and (table := next((table for _, table in shard.tables(texts)), None)) is not None:
        yield from filter(None, (json_attributes(name, table[name]) for name in texts))


def _offers(schema: pa.Schema) -> Iterator[Taken]:
    """What a layer can take of a table with these columns."""
    for field in schema:
        if field.name in HOLDERS and pa.types.is_struct(field.type):
            yield from attribute_columns(field.name, field.type)
        else:
            yield Taken(field.name, field.name, field.type)


def _take(of: str, schema: pa.Schema, offers: Sequence[Taken], name: str) -> Taken:
    """The column of a name that is offered, or the field that a path leads to. Raises InputError."""
    named = [offer for offer in offers if offer.name == name]
    if not named and (path := find_path(schema, name)):
        named = [Taken(path[-1], name, field_at(schema, path).type)]
    if not named:
        raise InputError(f"{of}: no column {name!r}{did_you_mean(name, [offer.name for offer in offers])}")
    if len(named) > 1:
        raise InputError(f"{of}: {named[0].path!r} and {named[1].path!r} would both be {name!r}; rename one of them")
    if named[0].name in IDENTITY:
        raise InputError(f"{of}: every layer has a column {name!r}; name the columns to take, without it, or rename it")
    return replace(named[0], type=layer_type(named[0].type, f"{of}: column {name!r}"))
