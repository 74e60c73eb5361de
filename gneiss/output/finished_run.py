"""A finished run: its recipe, counts and annotation shards; what layers, readers, exports and pictures work on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gneiss.arrays import BoolArray
from gneiss.curate.curate import KEPT
from gneiss.curate.examples import Samples
from gneiss.curate.statistics import Statistics
from gneiss.errors import BudgetError, InputError, first_line
from gneiss.output.layout import (
    BASE,
    QUARANTINE,
    RECIPE_FILE,
    RUN_FILE,
    STATISTICS_FILE,
    annotations_path,
    data_path,
    ids_in,
)
from gneiss.output.ledger import FOOTER_KEY, Receipt
from gneiss.recipe.recipe import Phase, Recipe

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
    """A finished run as it lies on disk; `gneiss.run` returns it, `open_run` reads it again.

    quarantined_shards: those that could not be curated, with the reason; finished_before: how many shards the driver
    that returns it found finished.
    """

    folder: Path
    recipe: Recipe
    statistics: Statistics
    examples: Samples
    quarantined_shards: Mapping[str, str]
    finished_before: int = 0

    @property
    def text(self) -> str:
        """The text column of `data/`."""
        return self.recipe.input.text

    @property
    def id(self) -> str | None:
        """The id column of `data/`."""
        return self.recipe.input.id

    @cached_property
    def _footers(self) -> dict[str, str]:
        """Id of a shard → the receipt in the footer of its annotation shard, bytewise by the path of that."""
        ids = ids_in(self.folder, BASE)
        footers = {id_: _footer(self.folder / annotations_path(id_)) for id_ in ids}
        receipts = [Receipt.from_json(json.loads(footer)) for footer in footers.values()]
        found = {"rows": sum(r.rows or 0 for r in receipts), "kept": sum(r.counts["kept"] for r in receipts)}
        for name, count in found.items():
            if count != self.statistics.counts[name]:
                raise InputError(
                    f"{self.folder}: the run is not finished: {STATISTICS_FILE} counts"
                    f" {self.statistics.counts[name]} {name}, {BASE} has {count}; finish it with the same"
                    " `gneiss run`"
                )
        return footers

    @cached_property
    def shards(self) -> tuple[FinishedShard, ...]:
        """The shards, bytewise by the path of their annotation shard. Raises InputError when rows are missing.

        Kept documents have a dense index: the order of shards, then of rows.
        """
        receipts = [Receipt.from_json(json.loads(footer)) for footer in self._footers.values()]
        firsts = accumulate((r.counts["kept"] for r in receipts), initial=0)
        return tuple(
            FinishedShard(r.task, r.rows or 0, r.counts["kept"], first)
            for r, first in zip(receipts, firsts, strict=False)
        )

    @cached_property
    def digest(self) -> str:
        """sha256 over the run key and every receipt."""
        digest = hashlib.sha256(str(_json(self.folder / RUN_FILE)["run_key"]).encode())
        for footer in self._footers.values():
            digest.update(b"\0" + footer.encode())
        return digest.hexdigest()

    def check_budgets(self) -> None:
        """Raise BudgetError when more was quarantined than the recipe allows."""
        counts, budgets = self.statistics.counts, self.recipe.budgets
        if len(self.quarantined_shards) > budgets.shards:
            shard, reason = next(iter(self.quarantined_shards.items()))
            raise BudgetError(
                f"{len(self.quarantined_shards)} shards could not be curated (budgets.shards: {budgets.shards}), first"
                f" {shard!r}: {reason}. All others are in {self.folder}; fix the cause and run again, or raise the"
                " budget"
            )
        if counts["quarantined"] > budgets.documents * counts["rows"]:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self.statistics.reasons.most_common(3))
            raise BudgetError(
                f"{counts['quarantined']} of {counts['rows']} documents were quarantined (budgets.documents:"
                f" {budgets.documents:.2%}): {reasons}. They are in {self.folder / QUARANTINE}; fix the input, or raise"
                " the budget in the recipe"
            )

    def reached(self, phase: Phase) -> pa.Table:
        """The annotation rows of all documents that reached a phase, from all shards."""
        import pyarrow.dataset as ds

        later = [its.name for its in self.recipe.phases[self.recipe.phases.index(phase) :]]
        is_there = pc.field("dropped_in").is_null() | pc.field("dropped_in").isin(later)
        rows = ds.dataset(self.folder / BASE, format="parquet")
        return rows.to_table(filter=(pc.field("status") != "quarantined") & is_there)

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


def open_run(folder: str | Path) -> FinishedRun:
    """Open the output of a finished run. Raises InputError when no run has finished there, or rows are missing.

    >>> open_run("curated").documents  # doctest: +SKIP
    3641
    """
    folder = Path(folder)
    stored = _json(folder / STATISTICS_FILE)
    recipe, statistics = Recipe.load(folder / RECIPE_FILE), Statistics.from_json(stored["statistics"])
    run = FinishedRun(folder, recipe, statistics, stored["samples"], stored["quarantined_shards"])
    _ = run.shards  # footers are read, and counted
    return run


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


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: no finished run here ({error.strerror}); name the output of one, or finish it with the same"
            " `gneiss run`"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({first_line(error)}); finish the run again with `gneiss run`") from error
