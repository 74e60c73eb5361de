"""Parquet: parts are consecutive row groups, cut from the footer alone; a row group that is too large is split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from gneiss.input.formats.format import CutFile, Part
from gneiss.store.place import Place

_MAGIC = b"PAR1"
_SPLIT_ROWS = 1024


@dataclass(frozen=True)
class Parquet:
    """Parquet files. Parts count rows."""

    suffixes = (".parquet",)

    def cut(self, file: Place, text: str, part_max_bytes: int) -> CutFile:
        """See Format."""
        with file.open() as opened:
            size = opened.size()
            digest = xxhash.xxh3_128(size.to_bytes(8, "little"))
            digest.update(_footer(opened, size))
            metadata = pq.read_metadata(opened)
        schema = metadata.schema.to_arrow_schema()
        parts = tuple(_cut(metadata, text, part_max_bytes)) if text in schema.names else ()
        return CutFile(schema, parts, digest.hexdigest())

    def schema(self, file: Place) -> pa.Schema:
        """See Format."""
        with file.open() as opened:
            return pq.read_schema(opened)

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """See Format."""
        with file.open() as opened, pq.ParquetFile(opened) as parquet:
            at = 0
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                start, end = max(at, part.start), min(at + size, part.end)
                if end - start == size > 0:
                    yield parquet.read_row_group(group, columns=columns, use_threads=False)
                elif start < end:
                    yield _split(parquet, group, columns, start - at, end - at)
                at += size


def _footer(file: Any, size: int) -> bytes:
    if size < 12:
        raise OSError(f"expected a Parquet file, found {size} bytes")
    file.seek(size - 8)
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - 12:
        raise OSError("expected a Parquet file, found no Parquet footer at its end (another format, or cut short)")
    file.seek(size - 8 - length)
    return bytes(file.read(length))


def _cut(metadata: pq.FileMetaData, text: str, part_max_bytes: int) -> Iterator[Part]:
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    columns = range(metadata.num_columns)
    column = next((i for i in columns if groups and groups[0].column(i).path_in_schema == text), 0)
    sizes = [group.column(column).total_uncompressed_size for group in groups]
    rows = [group.num_rows for group in groups]
    if not groups:
        yield Part("", 0, 0, 0, 0)
    first = at = 0
    while first < len(groups):
        last, size, count = first + 1, sizes[first], min(rows[first], -(-sizes[first] // part_max_bytes))
        if count > 1:  # one row group is too large
            for low, high in pairwise(number * rows[first] // count for number in range(count + 1)):
                name = f".g{first:05d}.r{low:09d}"
                yield Part(name, at + low, at + high, high - low, size * (high - low) // rows[first])
        else:
            while last < len(groups) and size + sizes[last] <= part_max_bytes:
                size, last = size + sizes[last], last + 1
            name = "" if (first, last) == (0, len(groups)) else f".g{first:05d}"
            yield Part(name, at, at + sum(rows[first:last]), sum(rows[first:last]), size)
        at += sum(rows[first:last])
        first = last


def _split(file: pq.ParquetFile, group: int, columns: Sequence[str] | None, start: int, end: int) -> pa.Table:
    """Rows start to end of a row group that may be too large to hold."""
    batches: list[pa.RecordBatch] = []
    at = 0
    for batch in file.iter_batches(_SPLIT_ROWS, row_groups=[group], columns=columns, use_threads=False):
        if at < end and at + batch.num_rows > start:
            batches.append(batch.slice(max(start - at, 0), min(end - at, batch.num_rows) - max(start - at, 0)))
        at += batch.num_rows
        if at >= end:
            break
    return pa.Table.from_batches(batches)
