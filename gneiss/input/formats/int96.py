"""INT96 timestamps, Spark's default for long: days and nanoseconds, which Arrow holds in units of one or the other.

In nanoseconds there are the years 1677 to 2262 only, and others wrap around without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

#: Milliseconds from 1970 that nanoseconds and microseconds can count in 64 bits.
_IN_NS, _IN_US = 9_223_372_036_000, 9_223_372_036_854_000


def int96_unit(file: Any, metadata: pq.FileMetaData, columns: Sequence[str] | None = None) -> Literal["ns", "us"]:
    """The unit that holds all INT96 timestamps of a file as they are. Raises OSError when there is none.

    columns: those that are read, if not all.
    """
    leaves = [metadata.schema.column(leaf) for leaf in range(metadata.num_columns)]
    paths = [leaf.path for leaf in leaves if leaf.physical_type == "INT96"]
    if not any(columns is None or f"{path}.".startswith(tuple(f"{name}." for name in columns)) for path in paths):
        return "ns"
    largest = max((int(np.abs(values).max()) for values in _timestamps(file, paths, "ms")), default=0)
    if largest < _IN_NS:
        return "ns"
    if largest >= _IN_US:
        raise OSError(f"{', '.join(paths)}: INT96 timestamps beyond all years that Arrow can count; drop the column")
    for in_us, in_ns in zip(_timestamps(file, paths, "us"), _timestamps(file, paths, "ns"), strict=True):
        if (in_ns % 1000 != 0)[np.abs(in_us) < _IN_NS * 1000].any():
            raise OSError(
                f"{', '.join(paths)}: INT96 timestamps beyond the years 1677 to 2262 beside others finer than"
                " microseconds, which no Arrow type holds; write them as INT64"
            )
    return "us"


def _timestamps(file: Any, paths: list[str], unit: str) -> Iterator[np.ndarray]:
    """The INT96 timestamps of some columns as numbers in a unit, (values,), no nulls, and none without values."""
    parquet = pq.ParquetFile(file, coerce_int96_timestamp_unit=unit)
    for batch in parquet.iter_batches(columns=paths, use_threads=False):
        for column in batch.columns:
            for leaf in _leaves(column):
                if leaf.type.unit == unit and len(values := leaf.drop_null()):
                    yield values.cast(pa.int64()).to_numpy()


def _leaves(array: pa.Array) -> Iterator[pa.TimestampArray]:
    if pa.types.is_timestamp(array.type):
        yield array
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(array.type):
        for child in (array.keys, array.items):
            yield from _leaves(child)
    elif pa.types.is_nested(array.type):
        yield from _leaves(array.flatten())
