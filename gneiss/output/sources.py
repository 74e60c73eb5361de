"""Columns of an output's documents that annotations do not hold: their texts, URLs and whatever else came with them.

They are in the input, for all rows; the output's own `data/` has those of kept documents.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array
from gneiss.errors import InputError, did_you_mean
from gneiss.input.columns import find_path, values_at
from gneiss.input.shard import Shard, cut_shards
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.layout import DATA
from gneiss.store.place import Address


@dataclass(frozen=True)
class Sources:
    """Where columns of documents are read: the shards of the input by id, or, where none is given, `data/`."""

    run: FinishedRun
    shards: Mapping[str, Shard] | None

    @property
    def has_all(self) -> bool:
        """Whether dropped documents are there too."""
        return self.shards is not None

    def schema(self, shard: FinishedShard) -> pa.Schema:
        """The columns of a shard's documents. Raises InputError."""
        return self.run.data_schema(shard) if self.shards is None else self.shards[shard.id].schema()

    def tables(self, shard: FinishedShard, columns: Sequence[str]) -> Iterator[tuple[Int64Array, pa.Table]]:
        """Rows of a shard, int64 (documents,), and these columns of theirs, in order. Raises InputError."""
        schema = self.schema(shard)
        if lacking := [name for name in columns if not find_path(schema, name)]:
            where = "the input has" if self.has_all else f"{self.run.folder / DATA} has"
            raise InputError(f"no annotation or column {lacking[0]!r}; {where}{did_you_mean(lacking[0], schema.names)}")
        if self.shards is None:
            rows, first = self.run.kept_rows(shard), 0
            for table in self.run.data_tables(shard, columns):
                yield rows[first : first + table.num_rows], _columns(table, columns)
                first += table.num_rows
            return
        for first, table in self.shards[shard.id].tables(columns):
            yield np.arange(first, first + table.num_rows), _columns(table, columns)

    def values(self, column: str, rows: Mapping[str, Collection[int]]) -> Iterator[tuple[str, int, pa.Scalar]]:
        """The values of a column in some rows of shards, by id: shard, row and value, in order; no further row is read.

        Rows that are not there are left out. Raises InputError.
        """
        for shard in self.run.shards:
            if not (wanted := set(rows.get(shard.id, ()))):
                continue
            for numbers, table in self.tables(shard, [column]):
                for position, row in enumerate(numbers.tolist()):
                    if row in wanted:
                        yield shard.id, row, table.column(0)[position]
                if numbers.size and numbers[-1] >= max(wanted):
                    break


def sources(run: FinishedRun, input: Address | None = None) -> Sources:
    """Where the columns of a run's documents are; `input`: what was given to the run. Raises InputError.

    Refused is an input that does not have the shards of the run, as they were.
    """
    if input is None:
        return Sources(run, None)
    columns = run.recipe.input
    cut = cut_shards(
        input,
        text=columns.text,
        id=run.recipe.makes_ids,
        hive=columns.hive,
        shard_max_bytes=run.recipe.shard_max_bytes,
    )
    shards = {shard.id: shard for shard in cut.shards}
    for shard in run.shards:
        if shard.id not in shards or shards[shard.id].fingerprint != shard.fingerprint:
            raise InputError(
                f"input {input}: it has no shard {shard.id!r} of {shard.rows:,} rows, as {run.folder} has; name what"
                " was given to the run, as it was"
            )
    return Sources(run, shards)


def _columns(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    return pa.table({name: values_at(table, name) for name in columns})
