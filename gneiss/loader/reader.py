"""The reader: documents of a finished run with annotations, shuffled, split among ranks, resumable; no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from gneiss.errors import InputError, did_you_mean
from gneiss.input.columns import find_path, values_at
from gneiss.loader.order import EpochOrder, RowReader, Share
from gneiss.loader.stream import Stream
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.finished_run import FinishedRun, FinishedShard, open_run
from gneiss.output.matching import check_documents
from gneiss.store.place import Address, Place

_INDEX = "dense index"


@dataclass(frozen=True)
class Document:
    """A kept document. index: dense, over the kept documents; shard, row: its place in the input; values: columns."""

    index: int
    shard: str
    row: int
    id: str | None
    text: str
    epoch: int
    values: Mapping[str, Any]

    @property
    def log_prior(self) -> float:
        """The log of its prior weight, 0 without the layer `weights`."""
        return float(self.values.get("log_prior", 0.0))


@dataclass(frozen=True)
class Documents:
    """The documents of a run as an iterable; every `iter()` starts over, and the iterator has a state.

    See `documents`. `dataclasses.replace` changes a setting.
    """

    run: FinishedRun
    layers: tuple[str, ...]
    columns: tuple[str, ...]
    seed: int
    epoch: int
    epochs: int | None
    block_documents: int
    shuffled: bool
    share: Share

    def __iter__(self) -> Stream[Document]:
        return Stream(self)

    def __len__(self) -> int:
        """Documents of this consumer in an epoch."""
        start, end = self.share.bounds(self.total)
        return end - start

    @property
    def total(self) -> int:
        """Documents of all consumers in an epoch."""
        return self.run.documents

    def of_worker(self, worker: int, workers: int) -> Documents:
        """The dataset with one loader worker's share."""
        return replace(self, share=replace(self.share, worker=worker, workers=workers))

    def read(self, epoch: int, start: int, end: int) -> Iterator[Document]:
        """The documents at positions `start` to `end` of an epoch's order."""
        reader = RowReader(partial(_tables, self))
        kept = tuple(shard.kept for shard in self.run.shards)
        order = EpochOrder(kept, self.seed, epoch, self.block_documents, self.shuffled)
        for ranges, rows in order.blocks(start, end):
            parts: list[pa.Table] = []
            names: list[str] = []
            for each in ranges:
                parts += reader.read(each)
                names += [self.run.shards[each.file].id] * (each.end - each.start)
            yield from _documents(parts, names, rows.tolist(), self.columns, epoch)

    def identity(self) -> dict[str, Any]:
        """The settings for which a state is valid."""
        order = {"seed": self.seed, "block_documents": self.block_documents, "shuffled": self.shuffled}
        return {"run": self.run.digest, **order, **self.share.settings}


def documents(
    output: Address,
    *,
    layers: Sequence[str] = ("weights",),
    columns: Sequence[str] = ("log_prior",),
    seed: int = 0,
    epoch: int = 0,
    epochs: int | None = 1,
    block_documents: int = 1024,
    shuffled: bool = True,
    rank: int = 0,
    world_size: int = 1,
    drop_uneven: bool = False,
) -> Documents:
    """The kept documents of a finished run with annotations, in a different order for each epoch.

    Parameters: `layers`: annotation layers to join; `columns`: annotations, or columns of `data/`, to add to each
    document; `epochs`: how many, from `epoch` on, None: without end; `block_documents`: how many are shuffled
    together (memory holds them); `rank`: the global one; `drop_uneven`: skip fewer than `world_size` documents, so
    that all ranks have the same number (without it they differ by at most one).
    Raises InputError: no finished run, no such layer or column, and, while reading, rows that do not match.

    >>> [document.id for document in documents("curated", rank=0, world_size=8)]  # doctest: +SKIP
    """
    run = open_run(output)
    run.layers(layers)
    _check_columns(run, layers, columns)
    if block_documents < 1 or epoch < 0 or (epochs is not None and epochs < 1):
        raise InputError(f"block_documents {block_documents}, epoch {epoch}, epochs {epochs}: expected 1, 0, 1 or more")
    share = Share(rank, world_size, drop_uneven=drop_uneven)
    return Documents(run, tuple(layers), tuple(columns), seed, epoch, epochs, block_documents, shuffled, share)


def _check_columns(run: FinishedRun, layers: Sequence[str], columns: Sequence[str]) -> None:
    for shard in run.shards[:1]:
        known, data = [*run.columns(shard, layers)], run.data_schema(shard)
        if unknown := [name for name in columns if name not in known and not find_path(data, name)]:
            known += data.names
            raise InputError(f"{run.folder}: no column {unknown[0]!r}{did_you_mean(unknown[0], known)}")


def _documents(
    parts: list[pa.Table], shards: list[str], rows: list[int], columns: Sequence[str], epoch: int
) -> Iterator[Document]:
    """The documents of some tables in the order of `rows`; a column may have another type in each."""

    def values_of(name: str) -> list[Any]:
        return [value for part in parts for value in part[name].to_pylist()]

    values = {name: values_of(f"value {name}") for name in columns}
    fixed = list(zip(*(values_of(name) for name in (_INDEX, "row", "id", "text")), strict=True))
    for at in rows:
        index, row, id_, text = fixed[at]
        own = {name: array[at] for name, array in values.items()}
        yield Document(index, shards[at], row, id_, text, epoch, own)


def _tables(documents: Documents, file: int, start: int) -> Iterator[pa.Table]:
    """Kept documents of a shard from one on, with annotations; each is checked against its annotation row."""
    run = documents.run
    shard = run.shards[file]
    path = run.data_file(shard)
    annotated, from_data = _annotations(documents, shard)
    wanted = list(dict.fromkeys(name for name in (run.text, run.id, *from_data) if name))
    at = start
    for table in run.data_tables(shard, wanted, start):
        yield _checked(path, run, table, annotated.slice(at, table.num_rows), documents.columns)
        at += table.num_rows


def _annotations(documents: Documents, shard: FinishedShard) -> tuple[pa.Table, list[str]]:
    """The annotation rows of a shard's kept documents, and those of the columns that `data/` must have."""
    run = documents.run
    known = run.columns(shard, documents.layers)
    wanted = [*(name for name in documents.columns if name in known), "content_hash"]
    table = pa.concat_tables(
        table.filter(pa.array(kept_mask(table))) for _, table in run.batches(shard, wanted, documents.layers)
    )
    index = np.arange(shard.first_document, shard.first_document + table.num_rows)
    return table.append_column(_INDEX, pa.array(index)), [name for name in documents.columns if name not in known]


def _checked(path: Place, run: FinishedRun, data: pa.Table, rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Documents with their annotations. Raises InputError when an id or a text is not the annotated one."""
    texts = check_documents(path, data, rows, run.text, run.id)
    values = {f"value {name}": rows[name] if name in rows.column_names else values_at(data, name) for name in columns}
    return pa.table({_INDEX: rows[_INDEX], "row": rows["row"], "id": rows["id"], "text": texts, **values})
