"""Whether documents are those that were annotated: by their ids, and by hashes of their texts."""

from __future__ import annotations

import pyarrow as pa
import xxhash

from gneiss.batch import TextBatch
from gneiss.errors import InputError
from gneiss.input.columns import values_at
from gneiss.output.layout import BASE
from gneiss.store.place import Place


def check_documents(file: Place, data: pa.Table, rows: pa.Table, text: str, id: str | None) -> pa.ChunkedArray:
    """The texts of documents, which are those of annotation rows of kept documents, in order.

    rows: with `row`, `id` and `content_hash`; text, id: the columns of `data`. Raises InputError naming the file and
    the row whose id or text is another one.
    """
    if id is not None:
        ids, expected = _strings(values_at(data, id)), rows["id"].to_pylist()
        if ids != expected:
            at = next(i for i in range(len(ids)) if ids[i] != expected[i])
            raise _mismatch(file, "id", rows["row"][at], expected[at], ids[at])
    texts = values_at(data, text).cast(pa.large_string())
    batch = TextBatch.of(texts)
    bounds, raw = batch.offsets.tolist(), batch.data.data
    for at, digest in enumerate(rows["content_hash"].to_pylist()):
        if xxhash.xxh3_128_digest(raw[bounds[at] : bounds[at + 1]]) != digest:
            raise _mismatch(file, "text (its hash)", rows["row"][at], digest.hex(), "another one")
    return texts


def _strings(ids: pa.ChunkedArray) -> list[str | None]:
    """Ids as annotations have them: bytes that are not UTF-8 as U+FFFD."""
    type_ = ids.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        binary = pa.large_binary() if pa.types.is_large_string(type_) else pa.binary()
        ids = pa.chunked_array([chunk.view(binary) for chunk in ids.chunks], binary)
    elif not (pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_)):
        as_text: list[str | None] = ids.cast(pa.string()).to_pylist()
        return as_text
    return [None if value is None else value.decode("utf-8", "replace") for value in ids.to_pylist()]


def _mismatch(path: Place, what: str, row: object, expected: object, found: object) -> InputError:
    return InputError(
        f"{path}: the {what} of row {row} is {expected} in {BASE}, but {found} here; the files are not of"
        " one run: restore them, or run again into another output"
    )
