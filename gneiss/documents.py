"""The documents of a shard as they come in: ids, texts, and what is wrong with those that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gneiss.batch import TextBatch
from gneiss.shard import Shard

NULL_TEXT, INVALID_TEXT = "null text", "invalid UTF-8"


@dataclass(frozen=True, eq=False)
class Documents:
    """The rows of a shard.

    ids: (rows,) strings or nulls; batch: the usable texts; batch_rows: their rows; unusable: row → reason.
    """

    rows: int
    ids: pa.ChunkedArray
    batch: TextBatch
    batch_rows: npt.NDArray[np.int64]
    unusable: dict[int, str]
    input_text_bytes: int

    def by_row(self) -> TextBatch:
        """The texts of all rows, over the same bytes; an unusable one is empty."""
        sizes = np.zeros(self.rows, np.int64)
        sizes[self.batch_rows] = np.diff(self.batch.offsets)
        first = int(self.batch.offsets[0])
        return TextBatch(self.batch.data, np.cumsum(np.append(first, sizes)))


def read_documents(shard: Shard, text: str, id_: str | None, limit: int | None = None) -> Documents:
    """Read ids and texts of a shard, or of its first `limit` rows. Raises InputError when the file is unreadable."""
    texts: list[pa.Array] = []
    ids: list[pa.Array] = []
    rows = 0
    for _, table in shard.tables([text, id_] if id_ else [text]):
        table = table.slice(0, None if limit is None else limit - rows)
        texts.extend(chunk.view(_binary_like(chunk.type)).cast(pa.large_binary()) for chunk in table[text].chunks)
        ids.extend(_readable_ids(chunk) for chunk in table[id_].chunks) if id_ else ids.append(
            pa.nulls(table.num_rows, pa.string())
        )
        rows += table.num_rows
        if limit is not None and rows >= limit:
            break
    raw = pa.concat_arrays(texts) if texts else pa.array([], pa.large_binary())
    valid = raw.is_valid().to_numpy(zero_copy_only=False)
    unusable = dict.fromkeys(np.flatnonzero(~valid).tolist(), NULL_TEXT)
    for row in _invalid_rows(raw):
        unusable[row] = INVALID_TEXT
        valid[row] = False
    usable = raw if valid.all() else raw.filter(pa.array(valid))
    return Documents(
        rows,
        pa.chunked_array(ids, pa.string()),
        TextBatch.of(usable.view(pa.large_string())),
        np.flatnonzero(valid),
        dict(sorted(unusable.items())),
        int(pa.compute.sum(pa.compute.binary_length(raw)).as_py() or 0),
    )


def _binary_like(string_type: pa.DataType) -> pa.DataType:
    return pa.large_binary() if pa.types.is_large_string(string_type) else pa.binary()


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


def _readable_ids(chunk: pa.Array) -> pa.Array:
    """Ids as strings; bytes of an id that are not UTF-8 are shown as U+FFFD (in annotations; data keeps the bytes)."""
    type_ = chunk.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        chunk = chunk.view(_binary_like(type_))
    elif not (pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_)):
        return chunk.cast(pa.string())
    large = chunk.cast(pa.large_binary())
    if _is_utf8(large):
        return large.view(pa.large_string()).cast(pa.string())
    raw = chunk.to_pylist()
    return pa.array([None if value is None else value.decode("utf-8", "replace") for value in raw], pa.string())
