"""Last stage: what to cut from a shard, from the answers of all partitions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.dedup.anchors.resolving import resolve
from gneiss.dedup.corpus_scope.records import column, expect, places
from gneiss.dedup.corpus_scope.scheme import Scheme
from gneiss.dedup.repeats import Policy, cuts
from gneiss.dedup.units import Units

SCHEMA = pa.schema(
    [
        ("document", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("source_shard", pa.int64()),
        ("source_document", pa.int64()),
        ("source_start", pa.int64()),
    ]
)
_ROW_BITS = 32


def shard_cuts(
    shard: int,
    units: Units,
    copies: Int64Array,
    scheme: Scheme,
    answers: Iterable[pa.RecordBatch],
    policy: Policy,
    fill_gaps: float = 1.0,
    order: UInt64Array | None = None,
) -> pa.RecordBatch:
    """Map a shard: what to cut, the same as for all shards as one corpus.

    Parameters: `shard`: its index; `copies`: see `Scheme.copies`; `answers`: those of all partitions and passes for
    this shard; `fill_gaps`: see `duplicate_spans`; `order`: uint64 (documents,), as sent along with contents. Records,
    `SCHEMA`: bytes `start` to `end` of `document`, sorted, disjoint, repeat `source_document` of `source_shard` from
    unit `source_start` on; a byte, where units are bytes.
    """
    row, start, count, source_shard, source_row, source_start = _read(answers)
    last = start + count - 1 + scheme.min_length
    is_first = source_shard < 0
    own = source_shard == shard
    source_last = source_start + count - 1 + scheme.min_length
    inside = _inside(row, last, units) and _inside(source_row[own], source_last[own], units)
    in_order = order is not None or bool((source_shard <= shard).all())
    expect(inside and in_order, f"answers that do not fit shard {shard}")
    foreign = ~own & ~is_first

    # A corpus of the documents of other shards that are sources, each as long as is known of it, and all of this one,
    # in order, so that what repeats comes after what it repeats
    wanted = (source_shard << _ROW_BITS) + source_row
    documents, place = np.unique(wanted[foreign], return_inverse=True)
    lengths = np.zeros(len(documents), np.int64)
    np.maximum.at(lengths, place, source_last[foreign])
    ranked = np.arange(len(units.sizes)) if order is None else np.argsort(order, kind="stable")
    bounds = np.cumsum(np.concatenate([[0], lengths, np.diff(units.bounds)[ranked]]))
    begins = np.empty(len(ranked), np.int64)  # of the documents of this shard
    begins[ranked] = bounds[len(documents) : -1]
    start += begins[row]
    source = np.empty(len(row), np.int64)
    source[own] = begins[source_row[own]] + source_start[own]
    source[foreign] = bounds[place] + source_start[foreign]

    repeats = ~is_first
    matches = np.stack([start[repeats], count[repeats], source[repeats]], axis=1)
    moved = (begins - units.bounds[:-1])[np.searchsorted(units.bounds, copies[:, 0], side="right") - 1]
    moved_copies = np.stack([copies[:, 0] + moved, copies[:, 1], copies[:, 2] + moved], axis=1)
    matches = np.concatenate([matches, moved_copies])
    found = resolve(matches[np.argsort(matches[:, 0], kind="stable")], scheme.min_length)
    first = start[is_first]
    firsts = (first, first + count[is_first] - 1 + scheme.min_length)
    cut = cuts(found, bounds, scheme.min_length, policy, firsts, fill_gaps)

    here = np.flatnonzero(cut.document >= len(documents))
    here = here[np.argsort(ranked[cut.document[here] - len(documents)], kind="stable")]
    document = ranked[cut.document[here] - len(documents)]
    start, end = units.byte_offsets(document, cut.start[here]), units.byte_offsets(document, cut.end[here])
    of = cut.source_document[here]
    known = np.concatenate([documents, (shard << _ROW_BITS) + ranked])[of]
    source_document = known & ((1 << _ROW_BITS) - 1)
    columns = (document, start, end, known >> _ROW_BITS, source_document, cut.source_start[here])
    holds_bytes = start < end  # a token may be empty
    return pa.record_batch([values[holds_bytes] for values in columns], schema=SCHEMA)


def _inside(row: Int64Array, end: Int64Array, units: Units) -> bool:
    """Whether units before `end` are in their documents."""
    return bool((row < len(units.sizes)).all() and (end <= np.diff(units.bounds)[row]).all())


def _read(answers: Iterable[pa.RecordBatch]) -> list[Int64Array]:
    """The columns of all answers, with rows and starts as such and source_shard -1 for first windows."""
    parts: list[list[Int64Array]] = [[np.empty(0, np.int64)] for _ in range(6)]
    for batch in answers:
        row, start = places(column(batch, "row_step"), column(batch, "start_step"))
        names = ("count", "source_shard", "source_row", "source_start")
        others = [column(batch, name).astype(np.int64) for name in names]
        others[1] -= 1
        for part, values in zip(parts, (row, start, *others), strict=True):
            part.append(values)
    return [np.concatenate(part) for part in parts]
