"""The documents of a shard as they come in: texts, ids, and what is wrong with those that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array
from gneiss.batch import TextBatch
from gneiss.input.added import MADE_ID
from gneiss.input.formats.format import MALFORMED
from gneiss.input.shard import Shard

NULL_TEXT, INVALID_TEXT = "null text", "invalid UTF-8"
#: What a reason of quarantine is counted as where it names a line, which is `line 17: …`.
_MALFORMED = "malformed line: "
_OF_LINE = re.compile(r"(line|row) \d+[^:]*: ")


@dataclass(frozen=True, eq=False)
class Documents:
    """The rows of a shard.

    inputs: other columns by what they mean (`id`, which may be made, `url`), (rows,) strings; batch: the usable texts;
    batch_rows: their rows; unusable: row → reason.
    """

    rows: int
    inputs: dict[str, pa.ChunkedArray]
    batch: TextBatch
    batch_rows: Int64Array
    unusable: dict[int, str]
    input_text_bytes: int

    @property
    def ids(self) -> pa.ChunkedArray:
        """(rows,) strings; null where the id is."""
        return self.inputs["id"]

    @classmethod
    def joined(cls, parts: Sequence[Documents]) -> Documents:
        """The rows of consecutive shards, counted through all of them."""
        if len(parts) == 1:
            return parts[0]
        firsts = np.cumsum([0, *(part.rows for part in parts[:-1])]).tolist()
        placed = list(zip(firsts, parts, strict=True))
        return cls(
            sum(part.rows for part in parts),
            {
                name: pa.chunked_array([c for part in parts for c in part.inputs[name].chunks], pa.string())
                for name in parts[0].inputs
            },
            TextBatch.of(pa.concat_arrays([part.batch.to_arrow() for part in parts])),
            np.concatenate([first + part.batch_rows for first, part in placed]),
            {first + row: reason for first, part in placed for row, reason in part.unusable.items()},
            sum(part.input_text_bytes for part in parts),
        )


def read_documents(shard: Shard, text: str, inputs: Mapping[str, str], limit: int | None = None) -> Documents:
    """Read the texts of a shard, or of its first `limit` rows, and the columns `inputs` (what it means → its name).

    Without a column for `id`, ids are made. A null id stays null, a null URL is an empty string. Raises InputError when
    the file is unreadable.
    """
    inputs = {"id": MADE_ID, **inputs}
    texts: list[pa.Array] = []
    read: dict[str, list[pa.Array]] = {name: [] for name in inputs}
    malformed: dict[int, str] = {}
    rows = 0
    said = [MALFORMED] if shard.format.finds_malformed else []
    for _, table in shard.tables(list(dict.fromkeys([text, *inputs.values(), *said]))):
        table = table.slice(0, None if limit is None else limit - rows)
        texts.extend(raw_strings(chunk) for chunk in table[text].chunks)
        for name, column in inputs.items():
            chunks = [_readable(chunk) for chunk in table[column].chunks]
            read[name].extend([chunk.fill_null("") for chunk in chunks] if name == "url" else chunks)
        for name in said:
            array = table[name].combine_chunks()
            bad = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
            malformed |= dict(zip((rows + bad).tolist(), array.take(pa.array(bad)).to_pylist(), strict=True))
        rows += table.num_rows
        if limit is not None and rows >= limit:
            break
    raw = pa.concat_arrays(texts) if texts else pa.array([], pa.large_binary())
    valid = raw.is_valid().to_numpy(zero_copy_only=False)
    unusable = dict.fromkeys(np.flatnonzero(~valid).tolist(), NULL_TEXT)
    for row in _invalid_rows(raw):
        unusable[row] = INVALID_TEXT
        valid[row] = False
    unusable |= malformed
    valid[list(malformed)] = False
    usable = raw if valid.all() else raw.filter(pa.array(valid))
    return Documents(
        rows,
        {name: pa.chunked_array(chunks, pa.string()) for name, chunks in read.items()},
        TextBatch.of(usable.view(pa.large_string())),
        np.flatnonzero(valid),
        dict(sorted(unusable.items())),
        int(pa.compute.sum(pa.compute.binary_length(raw)).as_py() or 0),
    )


def kind_of(reason: str) -> str:
    """What a reason of quarantine is counted as: without what differs from line to line.

    >>> kind_of("line 17, byte 3: not JSON")
    'malformed line: not JSON'
    """
    return _OF_LINE.sub(_MALFORMED, reason, count=1) if _OF_LINE.match(reason) else reason


def is_bad_data(kind: str) -> bool:
    """Whether a kind of reason is in the data; all others are of code that failed on a document."""
    return kind in (NULL_TEXT, INVALID_TEXT) or kind.startswith(_MALFORMED)


def raw_strings(array: pa.Array) -> pa.LargeBinaryArray:
    """Strings or bytes in any layout as bytes, which need not be UTF-8; an array of type null as nulls."""
    type_ = array.type
    if pa.types.is_dictionary(type_):
        return raw_strings(array.dictionary).take(array.indices)
    if pa.types.is_string(type_):
        array = array.view(pa.binary())
    elif pa.types.is_large_string(type_):
        array = array.view(pa.large_binary())
    return array.cast(pa.large_binary())


def _invalid_rows(raw: pa.LargeBinaryArray) -> list[int]:
    if _is_utf8(raw):
        return []
    if len(raw) == 1:
        return [0]
    half = len(raw) // 2
    return _invalid_rows(raw.slice(0, half)) + [half + row for row in _invalid_rows(raw.slice(half))]


def _is_utf8(raw: pa.LargeBinaryArray) -> bool:
    try:
        raw.view(pa.large_string()).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _readable(chunk: pa.Array) -> pa.Array:
    """Ids and URLs as strings; bytes that are not UTF-8 are shown as U+FFFD (in annotations; data keeps the bytes)."""
    type_ = chunk.type
    if isinstance(type_, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in chunk.to_pylist()], pa.string())
    if isinstance(type_, pa.BaseExtensionType):
        return _readable(chunk.storage)
    if not _holds_bytes(type_.value_type if pa.types.is_dictionary(type_) else type_):
        return chunk.cast(pa.string())
    raw = raw_strings(chunk)
    if _is_utf8(raw):
        return raw.view(pa.large_string()).cast(pa.string())
    values = raw.to_pylist()
    return pa.array([None if value is None else value.decode("utf-8", "replace") for value in values], pa.string())


def _holds_bytes(type_: pa.DataType) -> bool:
    types = pa.types
    strings = (types.is_string, types.is_large_string, types.is_string_view)
    binaries = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(is_kind(type_) for is_kind in (*strings, *binaries))
