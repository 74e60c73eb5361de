"""A finished run: its recipe, counts and annotation shards; what layers, readers, exports and pictures work on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Int64Array
from gneiss.curate.examples import Examples
from gneiss.curate.reading import is_bad_data
from gneiss.curate.statistics import Statistics
from gneiss.errors import BudgetError, DefectError, InputError, did_you_mean, first_line
from gneiss.input.columns import find_path
from gneiss.output import layout, ledger
from gneiss.output.annotation_tables import IDENTITY, check_rows, kept_mask, names_and_rows, read_batches, schema_of
from gneiss.output.data_files import DataFiles
from gneiss.output.layout import BASE, BASE_LAYER, RECIPE_FILE, STATISTICS_FILE
from gneiss.output.ledger import FOOTER_KEY, Receipt
from gneiss.output.parquet import read_footer, read_table
from gneiss.recipe.yaml_text import read_yaml
from gneiss.store.at_once import at_once
from gneiss.store.place import Address, Place, place_of

if TYPE_CHECKING:
    from gneiss.recipe.phase import Phase
    from gneiss.recipe.recipe import Recipe


@dataclass(frozen=True)
class FinishedShard:
    """A shard of a finished run; `first_document`: the dense index of its first kept document.

    fingerprint: of the part of the input that it is.
    """

    id: str
    rows: int
    kept: int
    first_document: int
    fingerprint: str = ""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as it lies on disk; `gneiss.run` returns it, `open_run` reads it again.

    quarantined_shards: those that could not be curated, with the reason; failed_shards: of these, the ones that failed
    by a defect; finished_before: how many shards the driver that returns it found finished; only: of a run that is not
    finished, the shards that are.
    """

    folder: Place
    statistics: Statistics
    examples: Examples
    quarantined_shards: Mapping[str, str]
    failed_shards: Sequence[str] = ()
    finished_before: int = 0
    only: tuple[str, ...] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether all shards of the run are there, or in quarantine."""
        return self.only is None

    @property
    def counts(self) -> Counter[str]:
        """What was counted over all shards; see `Statistics`."""
        return self.statistics.counts

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it was written out. Raises RecipeError when a filter of it is not installed here."""
        from gneiss.recipe.recipe import Recipe

        place = self.folder / RECIPE_FILE
        try:
            return Recipe.parse(place.read().decode(), str(place))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{place}: cannot read the recipe: {first_line(error)}") from error

    @cached_property
    def _written_recipe(self) -> dict[str, Any]:
        """The recipe as plain values, which need none of its filters."""
        recipe: dict[str, Any] = read_yaml((self.folder / RECIPE_FILE).read().decode())
        return recipe

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the run was made of: recipe digest, versions, checksums of models. Raises InputError."""
        identity: dict[str, Any] = _json(self.folder / layout.RUN_FILE)
        return identity

    @property
    def input(self) -> str | None:
        """The input as the run was given it; None where the run does not say, as before gneiss noted it."""
        given: str | None = self.identity.get("revision") or self.identity.get("input")
        return given

    @cached_property
    def data_files(self) -> DataFiles:
        """The format of `data/`."""
        return DataFiles.of_recipe(self._written_recipe)

    @property
    def text(self) -> str:
        """The text column of `data/`."""
        return str(self._written_recipe["input"]["text"])

    @property
    def id(self) -> str | None:
        """The id column of `data/`."""
        name: str | None = self._written_recipe["input"]["id"]
        return name

    @cached_property
    def _footers(self) -> tuple[tuple[FinishedShard, ...], str]:
        """What the footers of the annotation shards hold: the shards, and the digest."""
        digest = hashlib.sha256(str(self.identity["run_key"]).encode())
        shards: list[FinishedShard] = []
        first = 0
        ids = layout.ids_in(self.folder, BASE) if self.only is None else self.only
        for footer in at_once(_footer, (self.folder / layout.annotations_path(id_) for id_ in ids)):
            digest.update(b"\0" + footer.encode())
            receipt = Receipt.from_json(json.loads(footer))
            kept = receipt.counts["kept"]
            shards.append(FinishedShard(receipt.task, receipt.rows or 0, kept, first, receipt.fingerprint))
            first += kept
        for name, found in (("rows", sum(shard.rows for shard in shards)), ("kept", first)):
            if found != self.counts[name]:
                raise InputError(
                    f"{self.folder}: the run is not finished: {STATISTICS_FILE} counts {self.counts[name]} {name},"
                    f" {BASE} has {found}; finish it with the same `gneiss run`"
                )
        return tuple(shards), digest.hexdigest()

    @property
    def shards(self) -> tuple[FinishedShard, ...]:
        """The shards, bytewise by the path of their annotation shard. Raises InputError when rows are missing.

        Kept documents have a dense index: the order of shards, then of rows.
        """
        return self._footers[0]

    @property
    def digest(self) -> str:
        """sha256 over the run key and every receipt."""
        return self._footers[1]

    @property
    def failed_documents(self) -> int:
        """How many documents are in quarantine for an exception in an annotator or editor, not for what they are."""
        return sum(count for reason, count in self.statistics.reasons.items() if not is_bad_data(reason))

    def check_budgets(self) -> None:
        """Raise BudgetError when more was quarantined than the recipe allows; DefectError when defects caused that."""
        counts, budgets = self.counts, self.recipe.budgets
        report = f"please report it with its traceback, in {self.folder / layout.LOGS}"
        if len(self.quarantined_shards) > budgets.shards:
            shard = next(iter([*self.failed_shards, *self.quarantined_shards]))
            count, reason = len(self.quarantined_shards), self.quarantined_shards[shard]
            shards = "1 shard" if count == 1 else f"{count:,} shards"
            if self.failed_shards:
                raise DefectError(
                    f"{len(self.failed_shards)} shards failed by a defect, first {shard!r}: {reason}; {report}. All"
                    f" others are in {self.folder}; the same command tries these again"
                )
            raise BudgetError(
                f"{shards} could not be curated (budgets.shards: {budgets.shards}), first {shard!r}: {reason}."
                f" All others are in {self.folder}; {self._advice()}. Or raise budgets.shards, and the same"
                " command ends here"
            )
        allowed = budgets.documents * counts["rows"]
        if counts["quarantined"] > allowed:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self.statistics.reasons.most_common(3))
            if counts["quarantined"] - self.failed_documents <= allowed:
                raise DefectError(
                    f"{self.failed_documents} of {counts['rows']} documents were quarantined by a defect"
                    f" (budgets.documents: {budgets.documents:.2%}): {reasons}; {report}"
                )
            raise BudgetError(
                f"{counts['quarantined']} of {counts['rows']} documents were quarantined (budgets.documents:"
                f" {budgets.documents:.2%}): {reasons}. They are in {self.folder / layout.QUARANTINE}; fix the input,"
                " or raise the budget in the recipe"
            )

    def _advice(self) -> str:
        """What to do about a quarantined shard."""
        if "corpus" not in self.identity:
            return "fix the cause, and the same command tries these again"
        other = f"{self.folder}-fixed"
        return (
            "the same command tries these again as long as their files stay as they are; fixed files make another run,"
            f" as a step at corpus scope compares all files: the same command with output={other!r}"
        )

    def reached(self, phase: Phase) -> pa.Table:
        """The annotation rows of all documents that reached a phase, from all shards."""
        later = [entered.name for entered in self.recipe.phases[self.recipe.phases.index(phase) :]]
        is_there = pc.field("dropped_in").is_null() | pc.field("dropped_in").isin(later)
        reached = (pc.field("status") != "quarantined") & is_there
        tables = [read_table(self.annotation_file(shard)).filter(reached) for shard in self.shards]
        return pa.concat_tables([self.annotation_schema().empty_table(), *tables])

    @property
    def documents(self) -> int:
        """How many documents were kept."""
        return sum(shard.kept for shard in self.shards)

    def data_file(self, shard: FinishedShard) -> Place:
        """The kept documents of a shard."""
        return self.folder / self.data_files.path(shard.id)

    def annotation_file(self, shard: FinishedShard, layer: str = BASE_LAYER) -> Place:
        """The annotations of a shard in a layer."""
        return self.folder / layout.annotations_path(shard.id, layer)

    def data_schema(self, shard: FinishedShard) -> pa.Schema:
        """The columns of a shard's documents. Raises InputError naming the file."""
        file = self.data_file(shard)
        try:
            return self.data_files.schema(file, self.annotation_file(shard))
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise InputError(f"{file}: cannot read: {first_line(error)}") from error

    def data_tables(self, shard: FinishedShard, columns: Sequence[str], start: int = 0) -> Iterator[pa.Table]:
        """Columns of a shard's documents from the one at `start` on, a few hundred at a time, in order.

        For a path such as `metadata.url` there is the column `metadata`.
        Raises InputError naming the file when it cannot be read, lacks a column, or has other rows than the run.
        """
        file, schema, rows = self.data_file(shard), self.data_schema(shard), start
        paths = {name: find_path(schema, name) for name in columns}
        if lacking := [name for name, path in paths.items() if not path]:
            raise InputError(f"{file}: no column {lacking[0]!r}, nor an annotation of that name")
        columns = list(dict.fromkeys(path[0] for path in paths.values()))
        try:
            found = self.data_files.rows(file)
            if found in (None, shard.kept):
                for table in self.data_files.read(file, schema, columns, start):
                    rows += table.num_rows
                    if rows > shard.kept:
                        break
                    yield table
                found = rows
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise InputError(f"{file}: cannot read: {first_line(error)}") from error
        if found != shard.kept:
            raise InputError(f"{file}: expected {shard.kept} documents, as {BASE} has, found {found}")

    def annotation_schema(self) -> pa.Schema:
        """The columns of the layer `base`, as the first shard has them; none without shards."""
        return schema_of(self.annotation_file(self.shards[0])) if self.shards else pa.schema([])

    def layer_schema(self, layer: str) -> dict[str, pa.DataType]:
        """The columns of a layer and their types, as the first shard has them; none without shards."""
        schema = schema_of(self.annotation_file(self.shards[0], layer)) if self.shards else pa.schema([])
        return {field.name: field.type for field in schema if field.name not in IDENTITY}

    def kept_rows(self, shard: FinishedShard) -> Int64Array:
        """The rows of a shard that are kept documents, int64 (kept,)."""
        tables = (table for _, table in self.batches(shard, []))
        return np.concatenate([np.empty(0, np.int64), *(table["row"].to_numpy()[kept_mask(table)] for table in tables)])

    def layers(self, names: Sequence[str]) -> dict[str, Any]:
        """Layer → its metadata. Raises InputError when one is not there, not whole, or of another run."""
        metadata = {}
        for name in names:
            path = self.folder / layout.layer_file(name)
            if path.find() is None:
                there = sorted(file.name.removesuffix(".json") for file in (self.folder / layout.LAYERS).files())
                raise InputError(
                    f"{self.folder}: no whole layer {name!r}{did_you_mean(name, there)}; `gneiss weights` writes"
                    " weights"
                )
            metadata[name] = json.loads(path.read())
            if metadata[name]["run"] != self.digest:
                raise InputError(
                    f"{path}: the run has changed since the layer {name!r} was written; write one of another name"
                )
        return metadata

    def columns(self, shard: FinishedShard, layers: Sequence[str] = ()) -> dict[str, tuple[str, str]]:
        """Every annotation of `base` and of layers → the layer that holds it, and its name there.

        A layer's column whose name is taken already, in capitals or not, as that of `shard` is, is called
        `<layer>.<column>`. Raises InputError.
        """
        names, _ = names_and_rows(self.annotation_file(shard))
        columns = {name: (BASE_LAYER, name) for name in names}
        taken = {"shard", *map(str.lower, names)}
        for layer in layers:
            path = self.annotation_file(shard, layer)
            names, rows = names_and_rows(path)
            if rows != shard.rows:
                raise InputError(
                    f"{path}: expected {shard.rows} rows, as {BASE} has, found {rows}; the file belongs to another run"
                )
            own = [name for name in names if name not in IDENTITY]
            columns.update({f"{layer}.{name}" if name.lower() in taken else name: (layer, name) for name in own})
            taken |= set(map(str.lower, own))
        return columns

    def batches(
        self, shard: FinishedShard, columns: Sequence[str] | None = None, layers: Sequence[str] = ()
    ) -> Iterator[tuple[int, pa.Table]]:
        """Annotations of a shard in portions: (index of the first kept document in it or after it, table).

        Parameters: `columns`: as `FinishedRun.columns` names them, all by default; each table has `row`, `id` and
        `status` beside them; `layers`: joined by row, and checked by id. Raises InputError naming the file whose rows
        are not those of the run, and for an unknown column.
        """
        known = self.columns(shard, layers)
        wanted = list(dict.fromkeys(("row", "id", "status", *(known if columns is None else columns))))
        if unknown := [name for name in wanted if name not in known]:
            raise InputError(
                f"{self.annotation_file(shard)}: no annotation {unknown[0]!r}{did_you_mean(unknown[0], known)}"
            )

        def of(layer: str) -> list[str]:
            return [own for holder, own in map(known.__getitem__, wanted) if holder == layer]

        names = (BASE_LAYER, *layers)
        parts = [read_batches(self.annotation_file(shard, name), [*IDENTITY, *of(name)]) for name in names]
        rows, document = 0, shard.first_document
        for tables in zip(*parts, strict=True):
            by_layer = dict(zip(names, tables, strict=True))
            base = by_layer[BASE_LAYER]
            for layer in layers:
                check_rows(self.annotation_file(shard, layer), base, by_layer[layer])
            found = {name: by_layer[layer][own] for name, (layer, own) in ((name, known[name]) for name in wanted)}
            yield document, (table := pa.table(found))
            rows += table.num_rows
            document += int(kept_mask(table).sum())
        if (rows, document - shard.first_document) != (shard.rows, shard.kept):
            raise InputError(
                f"{self.annotation_file(shard)}: expected {shard.rows} rows, {shard.kept} of them kept, as its footer"
                f" has it; found {rows} and {document - shard.first_document}; the file is damaged"
            )

    def annotations(
        self, layers: Sequence[str] = (), columns: Sequence[str] | None = None, *, kept: bool = False
    ) -> pa.Table:
        """All annotations, with those of some layers: a row for every input row (or kept document) of all shards.

        Parameters: `layers`: names; `columns`: only these, beside shard, row, id and status. Raises InputError.

        >>> open_run("curated").annotations(["weights"], columns=["log_prior"])  # doctest: +SKIP
        """
        self.layers(layers)
        tables = []
        for shard in self.shards:
            for _, table in self.batches(shard, columns, layers):
                part = table.filter(pa.array(kept_mask(table))) if kept else table
                tables.append(part.add_column(0, "shard", pa.array([shard.id] * part.num_rows, pa.string())))
        if not tables:
            raise InputError(f"{self.folder}: the run has no rows")
        return pa.concat_tables(tables)


def open_run(folder: Address) -> FinishedRun:
    """Open the output of a finished run. Raises InputError if no run has finished there or rows are missing.

    >>> open_run("curated").documents  # doctest: +SKIP
    3641
    """
    output = place_of(folder)
    stored = _json(output / STATISTICS_FILE)
    statistics, quarantined = Statistics.from_json(stored["statistics"]), stored["quarantined_shards"]
    receipts = ledger.read(output) if quarantined else {}
    failed = [id_ for id_ in quarantined if id_ in receipts and receipts[id_].is_defect]
    run = FinishedRun(output, statistics, stored["samples"], quarantined, failed)
    _ = run.shards  # footers are read, and counted
    return run


def _footer(path: Place) -> str:
    try:
        metadata = read_footer(path).metadata or {}
        return str(metadata[FOOTER_KEY.encode()].decode())
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: no annotation shard of a run ({first_line(error)})") from error


def _json(path: Place) -> Any:
    try:
        return json.loads(path.read())
    except OSError as error:
        raise InputError(
            f"{path}: no finished run here ({error.strerror}); name the output of one, or finish it with the same"
            " `gneiss run`"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({first_line(error)}); finish the run again with `gneiss run`") from error
