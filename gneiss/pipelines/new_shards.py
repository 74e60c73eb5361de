"""New shards of a finished run: its rows laid out again, in their order or shuffled, documents beside annotations.

Every row of the run is in one new shard. Its annotations say where it was: `gneiss_shard` and `gneiss_row`. In order, a
new shard is a stretch of documents, each followed by the rows after it that were not kept. Shuffled, a row has a random
key, and a new shard the rows of a range of keys, sorted by them: `scatter` cuts the rows of a shard by ranges into
pieces, compressed; `gather` sorts the pieces of a range, one after the other, so that memory holds a shard compressed
and one piece of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import xxhash

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.errors import DefectError, MachineError
from gneiss.loader.order import mixed
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.data_files import DataFiles
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.layout import annotations_path
from gneiss.output.ledger import COMMITTED, FOOTER_KEY, Receipt
from gneiss.output.matching import check_documents
from gneiss.output.parquet import write_parquet
from gneiss.recipe.columns import ORIGIN
from gneiss.stages.exchange import Exchange
from gneiss.stages.rearranging import conform, raised_as_output, range_of, wide
from gneiss.store.place import Place

#: The stages of a reshard.
SCATTER, RESHARD = "scatter", "reshard"
#: Where a row was in the run as it was curated; the first reshard adds them, and later ones keep them.
ORIGIN_COLUMNS = pa.schema(list(zip(ORIGIN, (pa.string(), pa.int64()), strict=True)))
#: What `scatter` writes: for each new shard a batch, with a row for each piece of it.
PIECES = pa.schema([pa.field("annotations", pa.large_binary()), pa.field("data", pa.large_binary())])
_KEY = "gneiss_key"
_WRITE_ROWS = 1024


@dataclass(frozen=True)
class NewShard:
    """A shard to be written. documents: dense indices of the run's documents, in order; file: the run, for messages."""

    id: str
    number: int
    documents: range
    file: Place
    fingerprint: str
    etag: str = ""


@dataclass(frozen=True)
class NewShards:
    """How the rows of a run are laid out: in new shards of these data files. A value that workers open.

    seed: of a shuffle, else None; pieces: of a shard that is shuffled; columns: of all documents, annotations: of all
    rows.
    """

    run: FinishedRun
    output: Place
    files: DataFiles
    shards: tuple[NewShard, ...]
    seed: int | None
    pieces: int
    columns: pa.Schema
    annotations: pa.Schema

    @property
    def exchange(self) -> Exchange:
        """Where `scatter` leaves its pieces."""
        return Exchange(self.output)

    @cached_property
    def written(self) -> pa.Schema:
        """The columns of the new annotations."""
        own = [field for field in ORIGIN_COLUMNS if field.name not in self.annotations.names]
        return pa.schema([*self.annotations, *own])

    @cached_property
    def first_rows(self) -> Int64Array:
        """How many rows lie before each shard of the run."""
        return np.cumsum([0, *(shard.rows for shard in self.run.shards)], dtype=np.int64)


@dataclass(frozen=True)
class ScatterStep:
    """Number of a shard of the run in, its pieces in the exchange and a receipt out."""

    new: NewShards

    def open(self) -> Callable[[int], Receipt]:
        """Nothing to load."""

        def work(task: int) -> Receipt:
            batches = raised_as_output(_scattered(self.new, task))
            file = self.new.exchange.write(SCATTER, task, PIECES, batches)
            return Receipt(f"{task}", COMMITTED, "", None, files=(file,), stage=SCATTER)

        return work

    def lost(self, task: int, reason: str) -> Receipt:
        """No shard can be left out. Raises MachineError."""
        raise MachineError(f"{SCATTER}, shard {self.new.run.shards[task].id}: {reason}")


@dataclass(frozen=True)
class ReshardStep:
    """New shard in, its files and a receipt out."""

    new: NewShards

    def open(self) -> Callable[[NewShard], Receipt]:
        """Nothing to load."""

        def work(shard: NewShard) -> Receipt:
            rows: Rows = _InOrder(self.new, shard) if self.new.seed is None else _Gathered(self.new, shard)
            return _written(self.new, shard, rows)

        return work

    def lost(self, task: NewShard, reason: str) -> Receipt:
        """No shard can be left out. Raises MachineError."""
        raise MachineError(f"{RESHARD}, shard {task.id}: {reason}. Finished shards are kept: the same command resumes")


class Rows(Protocol):
    """The rows of a new shard."""

    def documents(self) -> Iterator[pa.Table]:
        """The kept documents, checked against their annotations."""

    def annotations(self) -> Iterator[pa.Table]:
        """All rows, in order, with their origin."""


def _written(new: NewShards, shard: NewShard, rows: Rows) -> Receipt:
    data = new.files.write(raised_as_output(rows.documents()), new.columns, new.output, shard.id)
    counts: dict[str, int] = {}

    def numbered() -> Iterator[pa.Table]:
        total = 0
        for table in rows.annotations():
            for status in table["status"].value_counts().to_pylist():
                counts[status["values"]] = counts.get(status["values"], 0) + status["counts"]
            numbers = pa.array(np.arange(total, total + table.num_rows))
            total += table.num_rows
            yield table.set_column(table.schema.get_field_index("row"), new.written.field("row"), numbers)

    tables = list(raised_as_output(numbered()))
    fates = {name: counts.get(name, 0) for name in ("kept", "dropped", "quarantined")}
    if data.rows != fates["kept"]:
        raise DefectError(f"shard {shard.id}: {data.rows} documents written, {fates['kept']} kept; please report it")
    receipt = Receipt(shard.id, COMMITTED, shard.fingerprint, sum(fates.values()), fates, (data,), stage=RESHARD)
    own = write_parquet(
        tables,
        new.written,
        new.output,
        annotations_path(shard.id),
        {FOOTER_KEY: receipt.footer(), **new.files.noted(new.columns)},
    )
    return replace(receipt, files=(data, own))


@dataclass(frozen=True)
class _InOrder:
    new: NewShards
    shard: NewShard

    def documents(self) -> Iterator[pa.Table]:
        run, wanted = self.new.run, self.shard.documents
        for shard in self._shards():
            start = max(wanted.start - shard.first_document, 0)
            stop = min(wanted.stop - shard.first_document, shard.kept)
            if start >= stop:
                continue
            kept = _kept(run, shard)
            for table in run.data_tables(shard, run.data_schema(shard).names, start):
                table = table.slice(0, stop - start)
                check_documents(run.data_file(shard), table, kept.slice(start, table.num_rows), run.text, run.id)
                yield conform(table, self.new.columns)
                start += table.num_rows
                if start == stop:
                    break

    def annotations(self) -> Iterator[pa.Table]:
        wanted = self.shard.documents
        for shard in self._shards():
            for first, table in self.new.run.batches(shard):
                last_kept = np.maximum(first + np.cumsum(kept_mask(table)) - 1, 0)
                rows = np.flatnonzero((wanted.start <= last_kept) & (last_kept < wanted.stop))
                if len(rows):
                    part = table.slice(int(rows[0]), len(rows))  # which are consecutive
                    yield conform(with_origin(part, shard.id), self.new.written)

    def _shards(self) -> Iterator[FinishedShard]:
        """The shards of the run that have rows of it."""
        for shard in self.new.run.shards:
            first = max(shard.first_document - 1, 0)
            last = max(shard.first_document + shard.kept - 1, 0)
            if first < self.shard.documents.stop and last >= self.shard.documents.start:
                yield shard


@dataclass(frozen=True)
class _Gathered:
    new: NewShards
    shard: NewShard

    def documents(self) -> Iterator[pa.Table]:
        run = self.new.run
        for noted, data in self._pieces(with_data=True):
            for start in range(0, data.num_rows, _WRITE_ROWS):
                table, rows = data.slice(start, _WRITE_ROWS), noted.slice(start, _WRITE_ROWS)
                check_documents(self.shard.file, table, rows, run.text, run.id)
                yield conform(table, self.new.columns)

    def annotations(self) -> Iterator[pa.Table]:
        for noted, _ in self._pieces(with_data=False):
            yield conform(noted, self.new.written)

    def _pieces(self, *, with_data: bool) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Sorted rows, piece by piece: of kept documents only, with their data, or all without."""
        batches = list(self.new.exchange.across(SCATTER, len(self.new.run.shards), self.shard.number))
        for piece in range(self.new.pieces):
            rows = _read_pieces(batch["annotations"][piece] for batch in batches)
            kept = kept_mask(rows)
            order = np.argsort(rows[_KEY].to_numpy(), kind="stable")
            if not with_data:
                yield rows.take(order), rows.slice(0, 0)
                continue
            data = _read_pieces(batch["data"][piece] for batch in batches)
            order = order[kept[order]]
            yield rows.take(order), data.take((np.cumsum(kept) - 1)[order])


def _scattered(new: NewShards, number: int) -> Iterator[pa.RecordBatch]:
    """The rows of a shard of the run, sorted by their keys and cut by new shards, and by the pieces of each."""
    run, shard = new.run, new.run.shards[number]
    empty = conform(new.annotations.empty_table(), new.written)
    parts = [conform(with_origin(table, shard.id), new.written) for _, table in run.batches(shard)]
    rows = wide(pa.concat_tables([empty, *parts])).combine_chunks()
    kept = kept_mask(rows)
    names = run.data_schema(shard).names
    tables = [conform(table, new.columns) for table in run.data_tables(shard, names)]
    data = wide(pa.concat_tables([new.columns.empty_table(), *tables])).combine_chunks()
    assert new.seed is not None
    keys = row_keys(new.seed, int(new.first_rows[number]), shard.rows)
    order = np.argsort(keys, kind="stable")
    count = len(new.shards) * new.pieces
    bounds = np.searchsorted(range_of(keys[order], count), np.arange(count + 1))
    rows, document = rows.append_column(_KEY, pa.array(keys)), np.cumsum(kept) - 1
    for first in range(0, count, new.pieces):
        pieces = [order[bounds[i] : bounds[i + 1]] for i in range(first, first + new.pieces)]
        annotations = [_piece(rows.take(piece)) for piece in pieces]
        documents = [_piece(data.take(document[piece[kept[piece]]])) for piece in pieces]
        yield pa.record_batch(
            [pa.array(pieces, pa.large_binary()) for pieces in (annotations, documents)], schema=PIECES
        )


def row_keys(seed: int, first: int, rows: int) -> UInt64Array:
    """The keys of rows of a run by which it is shuffled: of `rows` from `first` on; no two are equal.

    >>> row_keys(1, 0, 4)[2:].tolist() == row_keys(1, 2, 2).tolist()
    True
    """
    key = np.uint64(xxhash.xxh3_64_intdigest(f"reshard\0{seed}".encode()))
    return mixed(np.arange(first, first + rows, dtype=np.uint64) + key)


def with_origin(table: pa.Table, shard_id: str) -> pa.Table:
    """Annotations with the shard and the row that they are of, unless they say so already."""
    if ORIGIN_COLUMNS.names[0] in table.column_names:
        return table
    shards = pa.array([shard_id] * table.num_rows, pa.string())
    return table.append_column(ORIGIN_COLUMNS.field(0), shards).append_column(ORIGIN_COLUMNS.field(1), table["row"])


def _kept(run: FinishedRun, shard: FinishedShard) -> pa.Table:
    """Row, id and hash of a shard's kept documents."""
    tables = (table for _, table in run.batches(shard, ["content_hash"]))
    return pa.concat_tables([table.filter(pa.array(kept_mask(table))) for table in tables])


def _piece(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    table = table.combine_chunks()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def _read_pieces(pieces: Iterator[pa.LargeBinaryScalar]) -> pa.Table:
    return pa.concat_tables([pa.ipc.open_stream(piece.as_buffer()).read_all() for piece in pieces]).combine_chunks()
