"""Columns of a run's documents that its annotations lack, row by row beside them.

They are read from `data/`, which has only the documents that were kept, or from the input of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.errors import InputError, did_you_mean
from gneiss.input.columns import field_at, find_path, leaf_names
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.layout import BASE
from gneiss.output.rows import Rows
from gneiss.output.sources import Sources, sources
from gneiss.store.place import Address

#: The column with the number of the row; no column of documents has such a name.
_ROW = "\0row"


@dataclass(frozen=True)
class DocumentColumns:
    """Columns of the documents of a run: those that the annotations have, and others, which are read beside them.

    annotations: name → that of the annotation; others: name → that in the documents; sources: where these are.
    """

    run: FinishedRun
    annotations: Mapping[str, str]
    others: Mapping[str, str]
    sources: Sources

    @property
    def are_of_kept(self) -> bool:
        """Whether some are known of kept documents only."""
        return bool(self.others) and not self.sources.has_all

    def types(self) -> dict[str, pa.DataType]:
        """The types by name. Raises InputError for a column that is not there."""
        schema = self.run.annotation_schema()
        found = {name: schema.field(own).type for name, own in self.annotations.items()}
        if self.others:
            schema = self.sources.schema(next((shard for shard in self.run.shards if shard.kept), self.run.shards[0]))
            for name, own in self.others.items():
                if not (path := find_path(schema, own)):
                    known = did_you_mean(own, leaf_names(schema))
                    raise InputError(f"{self.run.folder}: its documents have no column {own!r}{known}")
                found[name] = field_at(schema, path).type
        return found

    def batches(self, shard: FinishedShard) -> Iterator[tuple[pa.Table, dict[str, pa.ChunkedArray]]]:
        """The rows of a shard in portions: annotations `row` and `id`, and the columns by name, null where unknown.

        Raises InputError when documents and annotations are not of one run.
        """
        others = Rows(self._read(shard))
        for _, table in self.run.batches(shard, list(self.annotations.values())):
            found = {name: table[own] for name, own in self.annotations.items()}
            if self.others:
                is_there = np.ones(table.num_rows, np.bool_) if self.sources.has_all else kept_mask(table)
                rows = others.take(int(is_there.sum()))
                if rows.num_rows and not rows[_ROW].equals(table["row"].filter(pa.array(is_there))):
                    raise InputError(f"{self.run.folder}: shard {shard.id!r} has other documents than {BASE}")
                places = pa.array(np.cumsum(is_there) - 1, mask=~is_there)
                found |= {name: rows[own].take(places) for name, own in self.others.items()}
            yield table, found

    def _read(self, shard: FinishedShard) -> Iterator[pa.Table]:
        """The other columns of a shard's documents, with the numbers of their rows."""
        names = list(dict.fromkeys(self.others.values()))
        if names and (shard.kept or self.sources.has_all):
            for numbers, table in self.sources.tables(shard, names):
                yield table.append_column(_ROW, pa.array(numbers))


def document_names(run: FinishedRun) -> list[str]:
    """The columns that the documents of a run have."""
    shard = next((shard for shard in run.shards if shard.kept), None)
    return [] if shard is None else list(run.data_schema(shard).names)


def document_columns(run: FinishedRun, names: Sequence[str], input: Address | None) -> DocumentColumns:
    """Find columns of documents. `id` and `url` are those that the recipe of the run calls so.

    Parameters: `input`: what was given to the run, for the columns of all documents that its annotations lack.
    Raises InputError when it is another one.
    """
    known = {**dict.fromkeys(filter(None, ("id", run.id)), "id")}
    there = run.annotation_schema().names
    annotations = {name: known.get(name, name) for name in names if known.get(name, name) in there}
    others = {name: run.recipe.input.url if name == "url" else name for name in names if name not in annotations}
    if input is not None and not others:
        raise InputError(f"input {input}: not needed, as annotations have {', '.join(map(repr, names))}; omit it")
    return DocumentColumns(run, annotations, others, sources(run, input))
