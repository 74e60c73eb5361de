"""Reading annotation shards again: which rows were kept, and what was cut from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gneiss.arrays import Int64Array
from gneiss.curate.curate import KEPT
from gneiss.output.layout import annotations_path


def kept_rows(output: Path, shard_id: str) -> Int64Array:
    """The rows of a shard that were kept, int64; none for a shard that is not there."""
    path = output / annotations_path(shard_id)
    if not path.is_file():
        return np.empty(0, np.int64)
    status = pq.read_table(path, columns=["status"])["status"]
    return np.flatnonzero(pc.equal(status, KEPT).to_numpy())


def kept_cuts(output: Path, shard_id: str) -> tuple[pa.DictionaryArray, Int64Array, Int64Array]:
    """Each cut of the kept documents of a shard: source shard (its id, or null: the same shard), row, bytes; (cuts,).

    None for a shard that is not there.
    """
    path = output / annotations_path(shard_id)
    if not path.is_file():
        return pa.array([], pa.string()).dictionary_encode(), np.empty(0, np.int64), np.empty(0, np.int64)
    table = pq.read_table(path, columns=["status", "dedup_pieces"])
    pieces = pc.list_flatten(table.filter(pc.equal(table["status"], KEPT))["dedup_pieces"]).combine_chunks()
    sources = pc.struct_field(pieces, "source_shard").dictionary_encode("encode")
    start, end, row = (pc.struct_field(pieces, name).to_numpy() for name in ("start", "end", "source_row"))
    return sources, row, end - start
