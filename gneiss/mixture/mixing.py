"""The work of mixing: `scatter` cuts the copies of documents by ranges of random keys, `mix` sorts those of a range.

The rows of a range are a shard of the output. Memory holds one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from gneiss.arrays import Int64Array
from gneiss.curate.measure import Measurable
from gneiss.curate.statistics import DROPPED, KEPT, QUARANTINED, Statistics
from gneiss.errors import MachineError, OutputError
from gneiss.loader.order import mixed
from gneiss.mixture.columns import OTHER, PHASE, Columns
from gneiss.mixture.survey import Source, assign
from gneiss.output import layout
from gneiss.output.data_files import DataFiles
from gneiss.output.ledger import COMMITTED, FOOTER_KEY, Receipt
from gneiss.output.matching import check_documents
from gneiss.output.parquet import WrittenFile, write_new, write_parquet
from gneiss.recipe.columns import ORIGIN
from gneiss.stages.exchange import Exchange
from gneiss.stages.rearranging import conform, raised_as_output, range_of, wide
from gneiss.store.place import Place

#: The stages.
SCATTER, MIX = "scatter", "mix"
#: Text that is cut by ranges of keys at once.
PIECE_BYTES = 64_000_000
_WRITE_ROWS = 1024
_KEY = "key"
#: The number of the shard that a row goes into.
_SHARD = "shard"


@dataclass(frozen=True)
class Group:
    """Documents that are shuffled among files of their own.

    name: the folder in `data/`, empty for all documents; first, files: numbers of the first file, and of files; tokens,
    documents: in these files; mixed_tokens, mixed_documents: in the mixture, copies included; text_bytes: of these
    files, about.
    """

    name: str
    first: int
    files: int
    tokens: int
    documents: int
    mixed_tokens: int
    mixed_documents: int
    text_bytes: int


@dataclass(frozen=True)
class MixedShard:
    """A shard to be written. file: the output, for messages; fingerprint: of all that it is made of."""

    id: str
    number: int
    file: Place
    fingerprint: str
    etag: str = ""


@dataclass(frozen=True)
class Mixing:
    """What workers need to write a mixture.

    columns, shards: of the output; copies: key of a cell → how often all of it, and below which hash again; group_of:
    key → the index of its group; is_apart: each document once, whatever its copies.
    """

    sources: tuple[Source, ...]
    columns: Columns
    shards: tuple[MixedShard, ...]
    copies: Mapping[str, tuple[int, int]]
    groups: tuple[Group, ...]
    group_of: Mapping[str, int]
    is_apart: bool
    seed: int
    output: Place

    @property
    def exchange(self) -> Exchange:
        """Where `scatter` leaves its pieces."""
        return Exchange(self.output)

    @cached_property
    def parts(self) -> list[tuple[Source, int, int]]:
        """Each shard of each source: its number there, and how many documents of the sources lie before it."""
        found, before = [], 0
        for source in self.sources:
            for number, shard in enumerate(source.run.shards):
                found.append((source, number, before + shard.first_document))
            before += source.run.documents
        return found


@dataclass(frozen=True)
class ScatterStep:
    """Number of a shard of the sources in, its copies in the exchange and a receipt out."""

    mixing: Mixing

    def open(self) -> Callable[[int], Receipt]:
        """Nothing to load."""

        def work(task: int) -> Receipt:
            batches = raised_as_output(_scattered(self.mixing, task))
            exchange, schema = self.mixing.exchange, _on_their_way(self.mixing)
            file = exchange.write(SCATTER, task, schema, batches, len(self.mixing.shards))
            return Receipt(f"{task}", COMMITTED, "", None, files=(file,), stage=SCATTER)

        return work

    def lost(self, task: int, reason: str) -> Receipt:
        """No shard can be left out. Raises MachineError."""
        raise MachineError(f"{SCATTER}, shard {task}: {reason}. Finished ones are kept: the same command resumes")


@dataclass(frozen=True)
class MixStep:
    """Shard of the output in, its files and a receipt out."""

    mixing: Mixing

    def open(self) -> Callable[[MixedShard], Receipt]:
        """Nothing to load."""
        return self._written

    def lost(self, task: MixedShard, reason: str) -> Receipt:
        """No shard can be left out. Raises MachineError."""
        raise MachineError(f"{MIX}, shard {task.id}: {reason}. Finished shards are kept: the same command resumes")

    def _written(self, shard: MixedShard) -> Receipt:
        mixing = self.mixing
        columns, output = mixing.columns, mixing.output
        rows = _gathered(mixing, shard.number)
        documents = raised_as_output(_checked(mixing, shard, rows))
        data = DataFiles().write(documents, columns.documents, output, shard.id)
        annotations = [columns.annotations_of(table, first) for first, table in _portions(rows)]
        whole = pa.concat_tables([columns.annotations.empty_table(), *annotations])
        statistics = _statistics(columns, whole, pc.sum(pc.binary_length(rows["text"])).as_py() or 0)
        files = (data, _write_statistics(statistics, output, shard.id))
        fates = {KEPT: rows.num_rows, DROPPED: 0, QUARANTINED: 0}
        receipt = Receipt(shard.id, COMMITTED, shard.fingerprint, rows.num_rows, fates, files, stage=MIX)
        path = layout.annotations_path(shard.id)
        own = write_parquet(annotations, columns.annotations, output, path, {FOOTER_KEY: receipt.footer()})
        return replace(receipt, files=(*files, own))


def _on_their_way(mixing: Mixing) -> pa.Schema:
    """The columns of rows in the exchange."""
    return pa.schema([pa.field(_KEY, pa.uint64()), *mixing.columns.scattered])


def _scattered(mixing: Mixing, task: int) -> Iterator[pa.RecordBatch]:
    """The copies of a shard's documents: batches for each new shard in turn, of about PIECE_BYTES together."""
    waiting: list[pa.Table] = []
    size = 0
    for table in _copied(mixing, task):
        waiting.append(table)
        size += table.nbytes
        if size >= PIECE_BYTES:
            yield from _cut(mixing, waiting)
            waiting, size = [], 0
    yield from _cut(mixing, waiting)


def _cut(mixing: Mixing, tables: list[pa.Table]) -> Iterator[pa.RecordBatch]:
    schema = _on_their_way(mixing)
    empty = pa.schema([pa.field(_SHARD, pa.int64()), *schema]).empty_table()
    table = pa.concat_tables([empty, *tables]).combine_chunks()
    shard = table[_SHARD].to_numpy()
    table = table.drop_columns([_SHARD])
    order = np.argsort(shard, kind="stable")
    bounds = np.searchsorted(shard[order], np.arange(len(mixing.shards) + 1))
    for number in range(len(mixing.shards)):
        rows = table.take(pa.array(order[bounds[number] : bounds[number + 1]])).combine_chunks()
        yield rows.to_batches()[0] if rows.num_rows else pa.RecordBatch.from_pylist([], schema)


def _copied(mixing: Mixing, task: int) -> Iterator[pa.Table]:
    """The documents of a shard, each as often as it is in the mixture, with their keys and the shards they go into."""
    source, number, first = mixing.parts[task]
    run, shard = source.run, source.run.shards[number]
    annotations = source.rows(shard, mixing.columns.read)
    parts = [_with_copies(mixing, source, number, table) for table in annotations]
    annotated = pa.concat_tables(parts) if parts else None
    if annotated is None or not annotated.num_rows:
        return
    at = 0
    firsts = np.array([group.first for group in mixing.groups], np.int64)
    counts = np.array([group.files for group in mixing.groups], np.int64)
    others = [field.name for field in mixing.columns.others if field.name in run.data_schema(shard).names]
    names = [run.text, *([run.id] if run.id else []), *others]
    file = run.data_file(shard)
    for table in run.data_tables(shard, list(dict.fromkeys(names))):
        rows = annotated.slice(at, table.num_rows)
        texts = check_documents(file, table, rows, run.text, run.id)
        own = wide(conform(table, pa.schema(mixing.columns.others)).rename_columns(_prefixed(mixing)))
        copies = rows["copies"].to_numpy()
        for chosen in _pieces(copies, _sizes(own, texts)):
            copy = np.arange(len(chosen)) - np.searchsorted(chosen, chosen)
            index = np.uint64(first + at) + chosen.astype(np.uint64)
            keys = mixed(mixed(index + _seeded(mixing.seed)) + copy.astype(np.uint64))
            of_rows, of_documents = rows.take(pa.array(chosen)), own.take(pa.array(chosen))
            group = of_rows["group"].to_numpy()
            columns: dict[str, Any] = {name: of_rows[name] for name in of_rows.column_names}
            columns |= {name: of_documents[name] for name in of_documents.column_names}
            columns |= {
                _SHARD: pa.array(firsts[group] + range_of(keys, counts[group])),
                _KEY: pa.array(keys),
                "text": texts.take(pa.array(chosen)),
                "source": pa.array([source.name] * len(chosen), pa.string()),
                "copy": pa.array(copy),
                **dict(zip(ORIGIN, (pa.array([shard.id] * len(chosen), pa.string()), of_rows["row"]), strict=True)),
            }
            schema = pa.schema([pa.field(_SHARD, pa.int64()), *_on_their_way(mixing)])
            yield conform(pa.table(columns), schema)
        at += table.num_rows


def _prefixed(mixing: Mixing) -> list[str]:
    return [OTHER + field.name for field in mixing.columns.others]


def _sizes(documents: pa.Table, texts: pa.ChunkedArray) -> Int64Array:
    """About how many bytes each document has: its text, and its share of all other columns."""
    own: Int64Array = pc.binary_length(texts).to_numpy().astype(np.int64)
    own += documents.nbytes // max(documents.num_rows, 1)
    return own


def _with_copies(mixing: Mixing, source: Source, number: int, table: pa.Table) -> pa.Table:
    """Rows of annotations with the number of their copies, their group, and the bucket that they are in."""
    assigned = assign(source, source.run.shards[number], table, mixing.seed)
    try:
        copies = [mixing.copies[key] for key in assigned.keys]
    except KeyError as error:
        raise OutputError(f"{source.run.folder}: it changed since it was surveyed; plan the mixture again") from error
    whole = np.array([own for own, _ in copies] or [0], np.int64)
    below = np.array([own for _, own in copies] or [0], np.uint64)
    count = whole[assigned.cell] + (assigned.hashes < below[assigned.cell])
    if mixing.is_apart:
        count = np.minimum(count, 1)
    group = np.array([mixing.group_of[key] for key in assigned.keys] or [0], np.int64)[assigned.cell]
    names = pa.array([json.loads(key)[2] for key in assigned.keys], pa.string())
    columns = {name: table[name] for name in ("row", "id", "tokens", *mixing.columns.read)}
    bucket = names.take(pa.array(assigned.cell)) if len(names) else pa.nulls(0, pa.string())
    return pa.table({**columns, "copies": pa.array(count), "group": pa.array(group), "bucket": bucket})


def _pieces(copies: Int64Array, sizes: Int64Array) -> Iterator[Int64Array]:
    """Rows as often as they have copies, cut where they reach PIECE_BYTES; the copies of a row are never cut apart."""
    ends = np.cumsum(copies * sizes)
    start, before = 0, 0
    while start < len(copies):
        end = max(int(np.searchsorted(ends, before + PIECE_BYTES, side="right")), start + 1)
        yield np.repeat(np.arange(start, end), copies[start:end])
        start, before = end, int(ends[end - 1])


def _seeded(seed: int) -> np.uint64:
    return np.uint64(xxhash.xxh3_64_intdigest(f"order\0{seed}".encode()))


def _gathered(mixing: Mixing, number: int) -> pa.Table:
    """The rows of a shard, by their keys."""
    batches = mixing.exchange.across(SCATTER, len(mixing.parts), number)
    table = pa.Table.from_batches(batches, _on_their_way(mixing)).combine_chunks()
    return table.take(pa.array(np.argsort(table[_KEY].to_numpy(), kind="stable")))


def _portions(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    for start in range(0, rows.num_rows, _WRITE_ROWS):
        yield start, rows.slice(start, _WRITE_ROWS)


def _checked(mixing: Mixing, shard: MixedShard, rows: pa.Table) -> Iterator[pa.Table]:
    """The documents of a shard, which are those that were annotated."""
    for _, table in _portions(rows):
        check_documents(shard.file, table, table.append_column("row", table[ORIGIN[1]]), "text", "id")
        yield mixing.columns.documents_of(table)


def _statistics(columns: Columns, annotations: pa.Table, text_bytes: int) -> Statistics:
    """The counts of a shard, all of whose documents are kept."""
    rows, ids = annotations.num_rows, annotations["id"].drop_null()
    everything = np.ones(rows, np.bool_)
    counts = {"rows": rows, KEPT: rows, DROPPED: 0, QUARANTINED: 0, "repeated_ids": len(ids) - len(ids.unique())}
    measured = {field.name: Measurable.of(annotations[field.name]).measured(everything) for field in columns.noted}
    return Statistics(
        Counter({**counts, "input_text_bytes": text_bytes, "kept_text_bytes": text_bytes}),
        dropped_in=Counter({PHASE: 0}),
        patterns={PHASE: Counter({"": rows} if rows else {})},
        columns=measured,
    )


def _write_statistics(statistics: Statistics, output: Place, shard_id: str) -> WrittenFile:
    content = json.dumps({"statistics": statistics.to_json(), "samples": {}}, ensure_ascii=False) + "\n"
    return write_new(content.encode(), output, layout.statistics_path(shard_id))
