"""Columns of a run's documents that its annotations lack, row by row beside them.

They are read from `data/`, which has only the documents that were kept, or from the input of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.errors import InputError, did_you_mean
from gneiss.input.columns import field_at, find_path, leaf_names, valid_strings, values_at
from gneiss.input.shard import Shard, cut_shards
from gneiss.layers.keys import comparable, is_text
from gneiss.output.finished_run import FinishedRun, FinishedShard, kept_mask
from gneiss.output.layout import BASE
from gneiss.output.rows import Rows
from gneiss.store.place import Address


@dataclass(frozen=True)
class DocumentColumns:
    """Columns of the documents of a run: those that the annotations have, and others, which are read beside them.

    annotations: name → that of the annotation; others: name → that in the documents; input: the shards of the run's
    input by id; None: others are read from `data/`.
    """

    run: FinishedRun
    annotations: Mapping[str, str]
    others: Mapping[str, str]
    input: Mapping[str, Shard] | None

    @property
    def are_of_kept(self) -> bool:
        """Whether some are known of kept documents only."""
        return bool(self.others) and self.input is None

    def types(self) -> dict[str, pa.DataType]:
        """The types by name. Raises InputError for a column that is not there."""
        schema = self.run.annotation_schema()
        found = {name: schema.field(own).type for name, own in self.annotations.items()}
        if self.others:
            schema, of = self._other_schema()
            for name, own in self.others.items():
                if not (path := find_path(schema, own)):
                    raise InputError(f"{of}: no column {own!r}{did_you_mean(own, leaf_names(schema))}")
                found[name] = field_at(schema, path).type
        return found

    def batches(self, shard: FinishedShard) -> Iterator[tuple[pa.Table, dict[str, pa.ChunkedArray]]]:
        """The rows of a shard in portions: annotations `row` and `id`, and the columns by name, null where unknown.

        Raises InputError when the input is not that of the run.
        """
        others = Rows(self._read(shard))
        for _, table in self.run.batches(shard, list(self.annotations.values())):
            found = {name: table[own] for name, own in self.annotations.items()}
            if self.others:
                is_there = kept_mask(table) if self.input is None else np.ones(table.num_rows, np.bool_)
                rows = others.take(int(is_there.sum()))
                if rows.num_rows < is_there.sum() or (self.input is not None and self._differs(table, rows)):
                    raise self._wrong(shard)
                places = pa.array(np.cumsum(is_there) - 1, mask=~is_there)
                found |= {name: values_at(rows, own).take(places) for name, own in self.others.items()}
            yield table, found
        if others.take(1).num_rows:
            raise self._wrong(shard)

    def _read(self, shard: FinishedShard) -> Iterator[pa.Table]:
        """The other columns of a shard's documents, those that were kept or all."""
        names = list(dict.fromkeys(self.others.values()))
        if self.others and self.input is None:
            yield from self.run.data_tables(shard, names)
        elif self.others and self.input is not None:
            its = self.input[shard.id]
            if self.run.id is not None and self.run.id not in names and find_path(its.schema(), self.run.id):
                names.append(self.run.id)
            yield from (table for _, table in its.tables(names))

    def _differs(self, table: pa.Table, rows: pa.Table) -> bool:
        """Whether ids of the input are not those of annotations, in which bytes that are not UTF-8 are U+FFFD."""
        if self.run.id is None or self.run.id not in rows.column_names or not is_text(rows[self.run.id].type):
            return False
        ids = valid_strings(rows[self.run.id].combine_chunks())
        return not comparable(pa.chunked_array([ids])).equals(comparable(table["id"]))

    def _wrong(self, shard: FinishedShard) -> InputError:
        of = self.run.folder if self.input is None else self.input[shard.id].file
        return InputError(f"{of}: shard {shard.id!r} has other documents than {BASE}; give the input of the run")

    def _other_schema(self) -> tuple[pa.Schema, str]:
        if self.input is None:
            shard = next((its for its in self.run.shards if its.kept), self.run.shards[0])
            return self.run.data_schema(shard), str(self.run.data_file(shard))
        first = next(iter(self.input.values()))
        return first.schema(), str(first.file)


def document_names(run: FinishedRun) -> list[str]:
    """The columns that the documents of a run have."""
    shard = next((its for its in run.shards if its.kept), None)
    return [] if shard is None else list(run.data_schema(shard).names)


def document_columns(run: FinishedRun, names: Sequence[str], input: Address | None) -> DocumentColumns:
    """Find columns of documents. `id` and `url` are those that the recipe of the run names so.

    Parameters: `input`: of the run, which the columns that its annotations lack are read from, for all documents.
    Raises InputError when it is not.
    """
    known = {**dict.fromkeys(filter(None, ("id", run.id)), "id")}
    schema = run.annotation_schema()
    of_annotations = {name: known.get(name, name) for name in names if known.get(name, name) in schema.names}
    others = {name: run.url if name == "url" else name for name in names if name not in of_annotations}
    shards = None
    if input is not None:
        if not others:
            raise InputError(f"input {input}: not needed, as annotations have {', '.join(map(repr, names))}; omit it")
        shards = _shards(run, input, list(others.values()))
    return DocumentColumns(run, of_annotations, others, shards)


def _shards(run: FinishedRun, input: Address, columns: Sequence[str]) -> dict[str, Shard]:
    found = cut_shards(input, text=run.text, required=columns, hive=run.hive, shard_max_bytes=run.shard_max_bytes)
    shards = {its.id: its for its in found.shards}
    if lacking := next((its.id for its in run.shards if its.id not in shards), None):
        raise InputError(
            f"{input}: no shard {lacking!r}, which {run.folder} has; give the input that the run had, as it was; of an"
            " output with new shards (reshard, output.shard_bytes) there is none"
        )
    return shards
