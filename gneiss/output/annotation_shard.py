"""Reading annotation shards again: which rows were kept, and what was cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
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


def kept_cuts(output: Path, shard_ids: Sequence[str], shard: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Source shard (index), source row and bytes of each piece cut from kept documents of a shard, int64 (pieces,)."""
    path = output / annotations_path(shard_ids[shard])
    if not path.is_file():
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    table = pq.read_table(path, columns=["status", "dedup_pieces"])
    pieces = pc.list_flatten(table.filter(pc.equal(table["status"], KEPT))["dedup_pieces"]).combine_chunks()
    names = pc.struct_field(pieces, "source_shard").dictionary_encode()
    index_of = {id_: index for index, id_ in enumerate(shard_ids)}
    known = np.array([index_of[name] for name in names.dictionary.to_pylist()] + [shard], np.int64)
    source_shard = known[pc.fill_null(names.indices, len(known) - 1).to_numpy()]
    start, end, row = (pc.struct_field(pieces, name).to_numpy() for name in ("start", "end", "source_row"))
    return source_shard, row, end - start
