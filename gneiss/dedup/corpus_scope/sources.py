"""Sources in bytes: where units are tokens, only the shard of a source knows where its tokens start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from gneiss.dedup.corpus_scope.records import column, expect
from gneiss.dedup.units import Units

REQUEST_SCHEMA = pa.schema([("document", pa.uint32()), ("unit", pa.uint32())])
ANSWER_SCHEMA = pa.schema([("start", pa.uint32())])


def source_requests(cuts: pa.RecordBatch, shards: int) -> list[pa.RecordBatch]:
    """Map a shard: the sources of its cuts, a batch for each shard that they lie in (`REQUEST_SCHEMA`)."""
    document, unit = column(cuts, "source_document"), column(cuts, "source_start")
    source_shard = column(cuts, "source_shard")
    columns = (document.astype(np.uint32), unit.astype(np.uint32))
    return [
        pa.record_batch([values[source_shard == shard] for values in columns], schema=REQUEST_SCHEMA)
        for shard in range(shards)
    ]


def source_bytes(units: Units, requests: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Answer what each shard asks of this one: the byte at which each unit starts in its document."""
    for batch in requests:
        document, unit = (column(batch, name).astype(np.int64) for name in ("document", "unit"))
        inside = (document < len(units.sizes)).all() and (unit <= np.diff(units.bounds)[document]).all()
        expect(bool(inside), "sources outside of their documents")
        yield pa.record_batch([units.byte_offsets(document, unit).astype(np.uint32)], schema=ANSWER_SCHEMA)


def in_bytes(cuts: pa.RecordBatch, answers: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """The cuts of a shard with `source_start` in bytes, from the answers of all shards."""
    source_shard, start = column(cuts, "source_shard"), np.empty(cuts.num_rows, np.int64)
    for shard, batch in enumerate(answers):
        asked = source_shard == shard
        expect(int(asked.sum()) == batch.num_rows, f"answers of shard {shard} to another question")
        start[asked] = column(batch, "start")
    return cuts.set_column(cuts.schema.get_field_index("source_start"), "source_start", pa.array(start))
