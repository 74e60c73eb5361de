"""A finished run, known by the footers of its annotation shards: what release, readers and layers work on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from gneiss.arrays import BoolArray
from gneiss.curate.curate import KEPT
from gneiss.errors import InputError, first_line
from gneiss.output.layout import BASE, RECIPE_FILE, RUN_FILE, STATISTICS_FILE, annotations_path, data_path, ids_in
from gneiss.output.ledger import FOOTER_KEY, Receipt

#: Rows of an annotation shard that are worked on at a time.
BATCH_ROWS = 20_000


@dataclass(frozen=True)
class FinishedShard:
    """A shard of a finished run; `first_document`: the dense index of its first kept document."""

    id: str
    rows: int
    kept: int
    first_document: int


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as it lies on disk.

    shards: bytewise by the path of their annotation shard; text, id: names of the columns of `data/`; digest: sha256
    over the run key and every receipt. Kept documents have a dense index: the order of shards, then of rows.
    """

    folder: Path
    shards: tuple[FinishedShard, ...]
    text: str
    id: str | None
    digest: str

    @classmethod
    def open(cls, folder: str | Path) -> FinishedRun:
        """Read the footers of an output. Raises InputError when no run has finished there, or something is lacking.

        >>> FinishedRun.open("curated").documents  # doctest: +SKIP
        3641
        """
        folder = Path(folder)
        counts = _told(folder / STATISTICS_FILE)["statistics"]["counts"]
        digest = hashlib.sha256(str(_told(folder / RUN_FILE)["run_key"]).encode())
        receipts = []
        for id_ in ids_in(folder, BASE):
            footer = _footer(folder / annotations_path(id_))
            digest.update(b"\0" + footer.encode())
            receipts.append(Receipt.from_json(json.loads(footer)))
        found = {"rows": sum(r.rows or 0 for r in receipts), "kept": sum(r.counts[KEPT] for r in receipts)}
        for name, count in found.items():
            if count != counts[name]:
                raise InputError(
                    f"{folder}: the run is not finished: {STATISTICS_FILE} counts {counts[name]} {name},"
                    f" {BASE} has {count}; finish it with the same `gneiss run`"
                )
        columns = yaml.safe_load((folder / RECIPE_FILE).read_text("utf-8"))["input"]
        firsts = accumulate((r.counts[KEPT] for r in receipts), initial=0)
        shards = tuple(
            FinishedShard(r.task, r.rows or 0, r.counts[KEPT], first)
            for r, first in zip(receipts, firsts, strict=False)
        )
        return cls(folder, shards, columns["text"], columns["id"], digest.hexdigest())

    @property
    def documents(self) -> int:
        """How many documents were kept."""
        return sum(shard.kept for shard in self.shards)

    def annotations(self, shard: FinishedShard) -> Path:
        """The annotation shard of the layer `base`."""
        return self.folder / annotations_path(shard.id)

    def data(self, shard: FinishedShard) -> Path:
        """The kept documents of a shard."""
        return self.folder / data_path(shard.id)

    def annotation_schema(self) -> pa.Schema:
        """The columns of the layer `base`, as the first shard has them; none without shards."""
        return pq.read_schema(self.annotations(self.shards[0])) if self.shards else pa.schema([])

    def batches(self, shard: FinishedShard, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Annotations of a shard in portions: (index of the first kept document in it or after it, table).

        Every table has `row`, `id` and `status` beside `columns`. Raises InputError when rows are missing.
        """
        path, document, rows = self.annotations(shard), shard.first_document, 0
        wanted = list(dict.fromkeys(("row", "id", "status", *columns)))
        for table in read_batches(path, wanted):
            yield document, table
            rows += table.num_rows
            document += int(kept_mask(table).sum())
        expected = (shard.rows, shard.kept)
        if (rows, document - shard.first_document) != expected:
            raise InputError(
                f"{path}: expected {shard.rows} rows, {shard.kept} of them kept, as its footer says; found {rows} and"
                f" {document - shard.first_document}; the file is damaged"
            )


def kept_mask(table: pa.Table) -> BoolArray:
    """Which rows of annotations are kept documents, bool (rows,)."""
    mask: BoolArray = pc.equal(table["status"], KEPT).to_numpy()
    return mask


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of a Parquet file in portions of `BATCH_ROWS` rows. Raises InputError naming the file."""
    try:
        with pq.ParquetFile(path) as file:
            if lacking := [name for name in columns if name not in file.schema_arrow.names]:
                raise InputError(
                    f"{path}: no column {lacking[0]!r}, found {', '.join(file.schema_arrow.names)}; the shards of a"
                    " run have the same columns, so this file is of another one"
                )
            waiting = file.schema_arrow.empty_table().select(list(columns))
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
                # row groups of two files end at different rows: portions do not
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).select(list(columns))])
                while waiting.num_rows >= BATCH_ROWS:
                    yield waiting.slice(0, BATCH_ROWS).combine_chunks()
                    waiting = waiting.slice(BATCH_ROWS)
            if waiting.num_rows:
                yield waiting.combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}") from error


def _footer(path: Path) -> str:
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return str(metadata[FOOTER_KEY.encode()].decode())
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: no annotation shard of a run ({first_line(error)})") from error


def _told(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: no finished run here ({error.strerror}); name the output of one, or finish it with the same"
            " `gneiss run`"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({first_line(error)}); finish the run again with `gneiss run`") from error
