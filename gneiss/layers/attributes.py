"""Attributes, as Dolma, Marin and RedPajama publish them: one column that holds an annotation a field.

Marin's `attributes` is a struct of values. Dolma's `attributes` and RedPajama's `quality_signals` have for each a list
of `[start, end, score]`, a span of the text in characters and its score; RedPajama's may also be JSON in a string.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Int64Array
from gneiss.errors import InputError, first_line
from gneiss.layers.taken import Taken

#: The columns that hold attributes.
HOLDERS = ("attributes", "quality_signals")
SPANS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())]))
_TRIPLES = pa.list_(pa.list_(pa.float64()))


@dataclass(frozen=True)
class JsonAttributes:
    """A column of strings that hold JSON objects of lists of spans; names: those that are read.

    is_whole: whether there may be no others.
    """

    column: str
    names: tuple[str, ...]
    is_whole: bool

    @property
    def type(self) -> pa.DataType:
        """The struct that it is read as."""
        return pa.struct([(name, _TRIPLES) for name in self.names])

    def only(self, names: Iterable[str]) -> JsonAttributes:
        """Some of them."""
        chosen = tuple(dict.fromkeys(names))
        return JsonAttributes(self.column, chosen, is_whole={*chosen} == {*self.names})

    def parsed(self, table: pa.Table) -> pa.Table:
        """The table with this column as a struct. Raises InputError for other content, and for a name too many."""
        rows = [_object(text) for text in table[self.column].to_pylist()]
        unknown = {name for row in rows for name in row or ()} - {*self.names} if self.is_whole else set()
        if unknown:
            raise InputError(f"{self.column}: found {min(unknown)!r}, which the first rows lack; name the columns")
        try:
            lists = [
                pa.array([None if row is None else row.get(name) for row in rows], _TRIPLES) for name in self.names
            ]
        except (pa.ArrowException, TypeError) as error:
            raise InputError(f"{self.column}: expected lists of [start, end, score]: {first_line(error)}") from error
        struct = pa.StructArray.from_arrays(lists, list(self.names), mask=pa.array([row is None for row in rows]))
        return table.set_column(table.column_names.index(self.column), self.column, struct)


def json_attributes(column: str, texts: pa.ChunkedArray) -> JsonAttributes | None:
    """What strings of a column hold, by some of them; None where they are no JSON objects."""
    try:
        names = dict.fromkeys(name for text in texts.to_pylist() for name in _object(text) or ())
    except InputError:
        return None
    return JsonAttributes(column, tuple(names), is_whole=True) if names else None


def attribute_columns(holder: str, type_: pa.StructType) -> Iterator[Taken]:
    """What a layer can take of a struct of attributes: two columns of one that has spans."""
    for field in type_:
        path = f"{holder}.{field.name}"
        if _is_triples(field.type):
            yield Taken(field.name, path, pa.float64(), "the score, of a document with one span", _scores)
            yield Taken(f"{field.name}_spans", path, SPANS, "spans of the text in characters, and their scores", _spans)
        else:
            yield Taken(field.name, path, field.type)


def _object(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise InputError(f"expected JSON, found {text[:80]!r}: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"expected a JSON object, found {text[:80]!r}")
    return found


def _is_triples(type_: pa.DataType) -> bool:
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)):
        return False
    inner = type_.value_type
    if pa.types.is_null(inner):  # nothing but empty lists
        return True
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    return (pa.types.is_list(inner) or pa.types.is_large_list(inner)) and any(
        is_(inner.value_type) for is_ in is_number
    )


def _scores(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The score of each document that has one span."""
    offsets, spans, _ = _parts(column)
    is_one = pa.array(np.diff(offsets) == 1)
    places = pc.if_else(is_one, pa.array(offsets[:-1]), None)
    return pa.chunked_array([spans.field("score").take(places)])


def _spans(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The spans of each document."""
    offsets, spans, lists = _parts(column)
    made = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), spans, mask=lists.is_null())
    return pa.chunked_array([made.cast(SPANS)])


def _parts(column: pa.ChunkedArray) -> tuple[Int64Array, pa.StructArray, pa.ListArray]:
    """Where the spans of each document begin and those of the last one end, (rows + 1,); all spans; the lists."""
    lists = column.cast(_TRIPLES).combine_chunks()
    triples = lists.flatten()
    if triples.null_count or pc.any(pc.not_equal(pc.list_value_length(triples), 3)).as_py():
        raise InputError("expected lists of [start, end, score]")
    values = triples.flatten()
    start, end, score = (values.take(pa.array(np.arange(at, len(values), 3))) for at in range(3))
    columns = [start.cast(pa.int64()), end.cast(pa.int64()), score]
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return offsets, pa.StructArray.from_arrays(columns, ["start", "end", "score"]), lists
