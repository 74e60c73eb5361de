"""Third exchange, answers: what repeats what, for each shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray, Int32Array, Int64Array, UInt64Array
from gneiss.dedup.anchors.engine import find_repeats
from gneiss.dedup.corpus_scope.contents import new_table, number_contents
from gneiss.dedup.corpus_scope.records import column, differences, expect, flags_of, places
from gneiss.dedup.corpus_scope.scheme import Scheme, in_pass
from gneiss.dedup.corpus_scope.sections import Sections, collect, sections_of
from gneiss.dedup.corpus_scope.texts import super_windows
from gneiss.dedup.repeats import Policy

SCHEMA = pa.schema(
    [
        ("row_step", pa.uint32()),
        ("start_step", pa.uint32()),
        ("count", pa.uint32()),
        ("source_shard", pa.uint32()),
        ("source_row", pa.uint32()),
        ("source_start", pa.uint32()),
    ]
)


@dataclass(frozen=True, eq=False)
class _Places:
    """Where super-windows are: shard, document and unit in it; their windows. int64 (super-windows,)."""

    shard: Int64Array
    row: Int64Array
    start: Int64Array
    count: Int64Array

    @classmethod
    def of(cls, shard: int, batch: pa.RecordBatch) -> _Places:
        row, start = places(column(batch, "row_step"), column(batch, "start_step"))
        return cls(np.full(len(row), shard), row, start, column(batch, "count").astype(np.int64))

    @classmethod
    def joined(cls, parts: Sequence[_Places]) -> _Places:
        nothing = np.empty(0, np.int64)
        names = (field.name for field in fields(cls))
        return cls(*(np.concatenate([nothing, *(getattr(part, name) for part in parts)]) for name in names))

    def taken(self, which: BoolArray | Int64Array) -> _Places:
        return _Places(self.shard[which], self.row[which], self.start[which], self.count[which])


def answer_shards(
    contents: Iterable[pa.RecordBatch],
    wanted: Iterable[pa.RecordBatch],
    texts: Iterable[pa.RecordBatch],
    scheme: Scheme,
    policy: Policy,
    passes: int = 1,
    known: int = 0,
) -> Iterator[pa.RecordBatch]:
    """Reduce a partition: for each shard its repeats and its first windows, pass by pass (passes x shards batches).

    Parameters: `contents`, `wanted`, `texts`: a batch for each shard; `contents` is iterated two or three times in each
    pass, the others once; `known`: how many shards come first that are known by an index, and get no answers. Records,
    `SCHEMA`: the `count` windows from unit `start` of document `row` on repeat those of `source_shard - 1`; where
    `source_shard` is 0 they are first windows of others (left out under `union`).
    """
    for turn in range(passes):
        numbers, distinct, sections = _compare(contents, wanted, texts, scheme, turn, passes)
        yield from [pa.RecordBatch.from_pylist([], SCHEMA)] * known
        for batch, number in islice(zip(contents, numbers, strict=True), known, None):
            here = _Places.of(0, batch).taken(in_pass(column(batch, "key"), turn, passes))
            anchor, section, is_first = collect(number, sections, policy != "union")
            source = sections.source[section]
            start = here.start[anchor] + sections.offset[section]
            row_step, start_step = differences(here.row[anchor], start)
            source_start = distinct.start[source] + sections.source_offset[section]
            sources = (distinct.shard[source] + 1, distinct.row[source], source_start)
            columns = (np.where(is_first, 0, values).astype(np.uint32) for values in sources)
            count = sections.count[section].astype(np.uint32)
            yield pa.record_batch([row_step, start_step, count, *columns], schema=SCHEMA)


def _compare(
    contents: Iterable[pa.RecordBatch],
    wanted: Iterable[pa.RecordBatch],
    texts: Iterable[pa.RecordBatch],
    scheme: Scheme,
    turn: int,
    passes: int,
) -> tuple[list[Int32Array], _Places, Sections]:
    """The number of each anchor's super-window; where the distinct ones are, and their sections."""
    table = new_table()
    numbers, firsts, orders = [], [], []
    has_text, lengths, values_of = [], [], []
    for shard, (batch, bitmap, text) in enumerate(zip(contents, wanted, texts, strict=True)):
        flags = flags_of([bitmap])
        expect(len(flags) == batch.num_rows, f"a bitmap over {len(flags)} of {batch.num_rows} anchors")
        taken = in_pass(column(batch, "key"), turn, passes)
        table, number = number_contents(column(batch, "high")[taken], column(batch, "low")[taken], table)
        here = _Places.of(shard, batch)
        length = here.count + (scheme.min_length - 1)
        shard_values = super_windows(text, here.row[flags], here.start[flags], length[flags], taken[flags])
        numbers.append(number)
        firsts.append(here.taken(taken).taken(number < 0))
        if "order" in batch.schema.names:
            orders.append(column(batch, "order")[taken])
        has_text.append(flags[taken][number < 0])
        lengths.append(length[flags & taken])
        values_of.append(shard_values)
    del table
    bounds = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    texted = np.concatenate([np.empty(0, np.bool_), *has_text])
    expect(int(texted.sum()) == len(bounds) - 1, "texts of super-windows that are not the first of their kind")
    values = np.concatenate(values_of) if values_of else np.empty(0, np.uint8)
    del values_of
    distinct = _Places.joined(firsts)
    if orders:
        numbers, ranked = _in_order(numbers, orders)
        distinct = _where_first(contents, numbers, turn, passes)
        of_texts = np.cumsum(texted) - 1
        texted = texted[ranked]
        chosen = of_texts[ranked][texted]
        values = pa.LargeListArray.from_arrays(bounds, values).take(pa.array(chosen)).flatten().to_numpy()
        bounds = np.append(0, np.cumsum(np.diff(bounds)[chosen]))
    values.flags.writeable = False  # as Arrow's buffers are, so that numba compiles for one kind only
    found = find_repeats(values, bounds, scheme.min_length, scheme.hash_seed(2) >> 1)
    del values
    copied = np.zeros(len(texted), np.bool_)
    for number in numbers:
        copied[number[number >= 0]] = True
    at = np.full(len(texted), -1)
    at[texted] = bounds[:-1]
    return numbers, distinct, sections_of(at, distinct.count, copied, found)


def _in_order(numbers: Sequence[Int32Array], orders: Sequence[UInt64Array]) -> tuple[list[Int32Array], Int64Array]:
    """Super-windows renumbered, by the order of the document that comes first, and the old number of each new one.

    Parameters: `orders`: of the documents of the anchors.
    """
    number = np.concatenate(numbers)
    number = np.maximum(number, ~number)
    order = np.concatenate(orders)
    grouped = np.lexsort((order, number))
    first = grouped[np.diff(number[grouped], prepend=-1) > 0]
    del grouped
    ranked = np.lexsort((first, order[first]))
    rank = np.empty(len(ranked), np.int32)
    rank[ranked] = np.arange(len(ranked), dtype=np.int32)
    renumbered = rank[number]
    renumbered[first] = ~renumbered[first]
    return np.split(renumbered, np.cumsum([len(part) for part in numbers])[:-1]), ranked


def _where_first(contents: Iterable[pa.RecordBatch], numbers: Sequence[Int32Array], turn: int, passes: int) -> _Places:
    """Where super-windows are for the first time, by number."""
    parts = [
        _Places.of(shard, batch).taken(in_pass(column(batch, "key"), turn, passes)).taken(number < 0)
        for shard, (batch, number) in enumerate(zip(contents, numbers, strict=True))
    ]
    first = np.concatenate(numbers)
    return _Places.joined(parts).taken(np.argsort(~first[first < 0]))
