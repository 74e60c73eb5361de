"""Packed sequences on disk, one Parquet row each with tokens and packing map, and a reader of known length."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.errors import InputError, OutputError, first_line
from gneiss.loader.order import EpochOrder, RowReader, Share
from gneiss.loader.packing import Sequence, Sequences, Spans, encoder
from gneiss.loader.stream import Stream
from gneiss.output.claim import held, refuse_nesting
from gneiss.output.layout import DATA, LOCK_FILE
from gneiss.output.parquet import open_parquet, read_footer, write_bytes, write_parquet
from gneiss.store.place import Address, Place, place_of
from gneiss.version import __version__

METADATA_FILE = "packing.json"
PART_KEY = "gneiss.packing"
#: Approximate bytes of text in a part; each part is packed separately.
PART_TEXT_BYTES = 256_000_000
_ROWS_PER_TABLE = 1024
SPANS = pa.struct(
    [
        pa.field("document", pa.int64()),
        pa.field("start", pa.int32()),
        pa.field("length", pa.int32()),
        pa.field("document_start", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("sequence", pa.int64()),
        pa.field("log_prior", pa.float64()),
        pa.field("spans", pa.list_(SPANS)),
        pa.field("tokens", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Packing:
    """What a folder of packed sequences is: its metadata, and sequences by part."""

    folder: Place
    metadata: dict[str, Any]
    parts: tuple[int, ...]

    @property
    def sequences(self) -> int:
        """The number of sequences."""
        return sum(self.parts)


def pack(sequences: Sequences, folder: Address) -> Packing:
    """Write the sequences of one epoch of a run into a folder; the same call completes a killed one.

    The documents' order (seed, epoch) is that of `documents`; a part holds about 256 MB of text and is packed
    separately, so each ends with one shorter sequence. Spans name documents by their dense index.
    Raises OutputError when the folder holds something else, InputError for more than one epoch.
    """
    target, documents = place_of(folder, "output"), sequences.documents
    if documents.share != Share() or documents.epochs != 1:
        raise InputError("pack: expected documents of one epoch, with rank=0 and world_size=1")
    if not isinstance(sequences.tokenizer, str):
        raise InputError("pack: expected the name of a tokenizer, which the metadata can record, found a function")
    refuse_nesting(documents.run.folder, [documents.run.folder], target)
    size = sum(file.size_bytes for file in (documents.run.folder / DATA).files())
    parts = max(1, -(-3 * size // PART_TEXT_BYTES))  # files compress to about a third
    metadata = {
        "gneiss": __version__,
        "run": documents.run.digest,
        "layers": list(documents.layers),
        "order": {name: documents.identity()[name] for name in ("seed", "block_documents", "shuffled")},
        "epoch": documents.epoch,
        "tokenizer": sequences.tokenizer,
        "length": sequences.length,
        "end_of_document": sequences.end_of_document,
        "keep_last": sequences.keep_last,
        "parts": parts,
    }
    footer = json.dumps(metadata, sort_keys=True)
    there = {file.name for file in target.files()} - {LOCK_FILE}
    if foreign := sorted(name for name in there if not re.fullmatch(rf"part-\d+\.parquet|{METADATA_FILE}", name)):
        raise OutputError(f"{target}: expected an empty folder or packed sequences, found {foreign[0]!r}")
    with held(target) as check:
        target.sweep()  # of a killed process
        left = [part for part in range(parts) if _part(part) not in there]
        loaded = replace(sequences, tokenizer=encoder(sequences.tokenizer)) if left else sequences
        for part in left:
            check()
            tables = _tables(iter(loaded.of_worker(part, parts)))
            write_parquet(tables, SCHEMA, target, _part(part), {PART_KEY: footer})
        counts = [_rows(target / _part(part), footer) for part in range(parts)]
        whole = {**metadata, "sequences": counts}
        check()
        write_bytes((json.dumps(whole, indent=1) + "\n").encode(), target, METADATA_FILE)
    return Packing(target, whole, tuple(counts))


def open_packing(folder: Address) -> Packing:
    """Read the output of `pack`. Raises InputError."""
    path = place_of(folder) / METADATA_FILE
    try:
        metadata = json.loads(path.read())
        return Packing(path.parent, metadata, tuple(map(int, metadata["sequences"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no packed sequences here ({first_line(error)}); `gneiss pack` writes them"
        ) from error


@dataclass(frozen=True)
class PackedSequences:
    """Packed sequences from disk as an iterable; every `iter()` starts over, and the iterator has a state."""

    packing: Packing
    seed: int
    epoch: int
    epochs: int | None
    block_sequences: int
    shuffled: bool
    share: Share

    def __iter__(self) -> Stream[Sequence]:
        return Stream(self)

    def __len__(self) -> int:
        """Sequences of this consumer in an epoch."""
        start, end = self.share.bounds(self.total)
        return end - start

    @property
    def total(self) -> int:
        """Sequences of all consumers in an epoch."""
        return self.packing.sequences

    def of_worker(self, worker: int, workers: int) -> PackedSequences:
        """The dataset with one loader worker's share."""
        return replace(self, share=replace(self.share, worker=worker, workers=workers))

    def read(self, epoch: int, start: int, end: int) -> Iterator[Sequence]:
        """The sequences at positions `start` to `end` of an epoch's order."""
        reader = RowReader(partial(_rows_from, self.packing.folder))
        order = EpochOrder(self.packing.parts, self.seed, epoch, self.block_sequences, self.shuffled)
        for ranges, rows in order.blocks(start, end):
            table = pa.concat_tables(part for each in ranges for part in reader.read(each)).take(pa.array(rows))
            for row in range(table.num_rows):
                yield _sequence(table.slice(row, 1), epoch)

    def identity(self) -> dict[str, Any]:
        """The settings for which a state is valid."""
        order = {"seed": self.seed, "block_sequences": self.block_sequences, "shuffled": self.shuffled}
        metadata = {name: self.packing.metadata[name] for name in ("run", "tokenizer", "length", "order")}
        return {"packing": metadata, **order, **self.share.settings}


def packed(
    folder: Address,
    *,
    seed: int = 0,
    epoch: int = 0,
    epochs: int | None = 1,
    block_sequences: int = 1024,
    shuffled: bool = True,
    rank: int = 0,
    world_size: int = 1,
    drop_uneven: bool = False,
) -> PackedSequences:
    """Packed sequences from disk, in a different order for each epoch. Parameters as `documents`. Raises InputError.

    >>> len(packed("packed", rank=0, world_size=8, drop_uneven=True))  # doctest: +SKIP
    """
    if block_sequences < 1 or epoch < 0 or (epochs is not None and epochs < 1):
        raise InputError(f"block_sequences {block_sequences}, epoch {epoch}, epochs {epochs}: expected 1, 0, 1 or more")
    share = Share(rank, world_size, drop_uneven=drop_uneven)
    return PackedSequences(open_packing(folder), seed, epoch, epochs, block_sequences, shuffled, share)


def _part(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _rows(path: Place, footer: str) -> int:
    try:
        metadata = read_footer(path)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: cannot read: {first_line(error)}; delete it and try again") from error
    if (metadata.metadata or {}).get(PART_KEY.encode(), b"").decode() != footer:
        raise OutputError(f"{path}: it was packed with other settings or from another run; choose another folder")
    return int(metadata.num_rows)


def _tables(sequences: Iterator[Sequence]) -> Iterator[pa.Table]:
    waiting: list[Sequence] = []
    for sequence in sequences:
        waiting.append(sequence)
        if len(waiting) == _ROWS_PER_TABLE:
            yield _table(waiting)
            waiting = []
    if waiting:
        yield _table(waiting)


def _table(sequences: list[Sequence]) -> pa.Table:
    spans = [getattr(s.spans, field.name) for field in SPANS for s in sequences]
    n = len(sequences)
    columns = [np.concatenate(spans[i * n : (i + 1) * n]) for i in range(len(SPANS))]
    structs = pa.StructArray.from_arrays(list(map(pa.array, columns)), fields=list(SPANS))
    return pa.Table.from_arrays(
        [
            pa.array([s.id for s in sequences], pa.int64()),
            pa.array([s.log_prior for s in sequences], pa.float64()),
            pa.ListArray.from_arrays(_offsets([len(s.spans.document) for s in sequences]), structs),
            pa.ListArray.from_arrays(
                _offsets([len(s.tokens) for s in sequences]), pa.array(np.concatenate([s.tokens for s in sequences]))
            ),
        ],
        schema=SCHEMA,
    )


def _offsets(lengths: list[int]) -> pa.Array:
    return pa.array(np.cumsum([0, *lengths]), pa.int32())


def _rows_from(folder: Place, part: int, start: int) -> Iterator[pa.Table]:
    path = folder / _part(part)
    try:
        with open_parquet(path) as file:
            at = 0
            for batch in file.iter_batches(_ROWS_PER_TABLE, use_threads=False):
                if (skipped := max(start - at, 0)) < batch.num_rows:
                    yield pa.Table.from_batches([batch]).slice(skipped)
                at += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}") from error


def _sequence(row: pa.Table, epoch: int) -> Sequence:
    spans = pc.list_flatten(row["spans"]).combine_chunks()
    document, start, length, document_start = (pc.struct_field(spans, field.name).to_numpy() for field in SPANS)
    return Sequence(
        row["sequence"][0].as_py(),
        pc.list_flatten(row["tokens"]).combine_chunks().to_numpy(),
        Spans(document, start, length, document_start, np.full(len(document), epoch, np.int32)),
        row["log_prior"][0].as_py(),
    )
