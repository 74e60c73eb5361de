"""The annotations that an earlier run stored of a shard, as what `curate` need not compute."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import arrow_type
from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch
from gneiss.corpus_steps import CorpusStep, PhaseDocuments, StepResult
from gneiss.curate.known import KnownValues, content_hashes
from gneiss.curate.phase import CorpusResults, FoundByStages
from gneiss.curate.phase_result import Annotations
from gneiss.curate.statistics import KEPT, QUARANTINED
from gneiss.errors import InputError, first_line
from gneiss.output.data_files import DataFiles
from gneiss.output.layout import BASE_LAYER, annotations_path
from gneiss.output.ledger import FOOTER_KEY, Receipt
from gneiss.output.parquet import WrittenFile, read_table
from gneiss.output.written_before import WrittenBefore
from gneiss.recipe.columns import BASE_COLUMNS
from gneiss.recipe.recipe import Recipe
from gneiss.stages.reuse import PhaseReuse, Taken
from gneiss.store.place import Place

#: Columns of `base` that say what became of a row.
_FATE = ("row", "status", "dropped_in", "content_hash")


@dataclass(frozen=True)
class StoredRun:
    """A finished run and what of it is taken for a recipe, phase by phase; phases: the names of those of the run.

    has_documents, needs_no_text: see Reuse.
    """

    folder: Place
    phases: tuple[str, ...]
    recipe: Recipe
    reuse: tuple[PhaseReuse, ...]
    has_documents: bool = False
    needs_no_text: bool = False

    @property
    def steps(self) -> frozenset[str]:
        """The keys of the corpus-wide steps that need not run."""
        return frozenset().union(*(taken.steps for taken in self.reuse))

    def shard(self, shard_id: str) -> StoredShard | None:
        """What is known of a shard; None where the run does not have it. Raises InputError."""
        if (self.folder / annotations_path(shard_id)).find() is None:
            return None
        names: dict[str, list[str]] = {BASE_LAYER: list(_FATE)}
        for layer, name in self._columns():
            names.setdefault(layer, []).append(name)
        tables = {layer: self._table(shard_id, layer, read) for layer, read in names.items()}
        base = tables[BASE_LAYER]
        for layer, table in tables.items():
            if not table["row"].equals(base["row"]):
                raise InputError(
                    f"{self.folder / annotations_path(shard_id, layer)}: its rows are not those of the run"
                )
        columns = {(layer, name): array for layer, table in tables.items() for name, array in _arrays(table).items()}
        metadata = base.schema.metadata or {}
        receipt = Receipt.from_json(json.loads(metadata[FOOTER_KEY.encode()]))
        return StoredShard(self, columns, self._last_phases(base), receipt)

    def _columns(self) -> list[tuple[str, str]]:
        """Every column that is read, by its layer."""
        of_annotators = [
            column for phase in self.reuse for taken in phase.annotators if taken for column in taken.columns.values()
        ]
        steps = [step for phase in self.recipe.phases for step in phase.steps if step.key in self.steps]
        of_steps = [(BASE_LAYER, column.name) for step in steps for column in (*step.columns, *step.evidence)]
        of_rules = [(layer, name) for layer, columns in self.recipe.layers.items() for name in columns]
        unread = [(BASE_LAYER, name) for name in self._instead_of_texts()]
        return list(dict.fromkeys([*of_annotators, *of_steps, *of_rules, *unread]))

    def _instead_of_texts(self) -> list[str]:
        """The columns that are read besides where texts need not be."""
        if not self.needs_no_text:
            return []
        editors = (editor for phase in self.recipe.phases for editor in phase.editors)
        edited = (column for editor in editors for column in editor.columns)
        return ["id", *(column.name for column in (*BASE_COLUMNS, *edited))]

    def _table(self, shard_id: str, layer: str, names: Sequence[str]) -> pa.Table:
        place = self.folder / annotations_path(shard_id, layer)
        try:
            return read_table(place, list(dict.fromkeys(["row", *names])))
        except (OSError, KeyError, pa.ArrowException) as error:
            raise InputError(f"{place}: cannot read: {first_line(error)}") from error

    def _last_phases(self, base: pa.Table) -> Int64Array:
        """For each row the last phase that it reached; -1 for a quarantined one."""
        phase = pc.index_in(base["dropped_in"], pa.array(self.phases, pa.string()))
        last: Int64Array = pc.fill_null(phase, len(self.phases) - 1).to_numpy().astype(np.int64)
        last[pc.equal(base["status"], QUARANTINED).to_numpy()] = -1
        return last


@dataclass(frozen=True, eq=False)
class StoredShard:
    """The rows of a shard: columns by layer and name, (rows,); last: the last phase of the run that each reached.

    receipt: of the run for it.
    """

    run: StoredRun
    columns: Mapping[tuple[str, str], pa.Array]
    last: Int64Array
    receipt: Receipt

    def added_to(self, found: CorpusResults) -> CorpusResults:
        """What is known of it, together with what stages found."""
        steps = (step for phase in self.run.recipe.phases for step in phase.steps if step.key in self.run.steps)
        return replace(found, steps={**found.steps, **{step.key: self.found(step) for step in steps}}, known=self)

    def copied(self, kept: Int64Array, output: Place) -> WrittenFile | None:
        """The file of `documents` in an output, if there is one that can be read as it was written."""
        written = self.documents(kept)
        return written.copied(output) if written else None

    def documents(self, kept: Int64Array) -> WrittenBefore | None:
        """The file of the documents in these rows, if the run wrote it and no other bytes are to be written."""
        is_kept = np.asarray(pc.equal(self.columns[BASE_LAYER, "status"], KEPT))
        if not (self.run.has_documents and np.array_equal(kept, np.flatnonzero(is_kept))):
            return None
        path = DataFiles.of(self.run.recipe.output).path(self.receipt.task)
        return WrittenBefore(self.run.folder, next(file for file in self.receipt.files if file.path == path))

    def layers(self, rows: Int64Array) -> Annotations:
        """See Known."""
        declared = self.run.recipe.layers
        at = pa.array(rows)
        return {
            f"{layer}.{name}": self.columns[layer, name].take(at).cast(arrow_type(type_))
            for layer, columns in declared.items()
            for name, type_ in columns.items()
        }

    def found(self, step: CorpusStep) -> FoundByStages:
        """What a step found in the run, for all documents that enter its phase."""

        def result(documents: PhaseDocuments) -> StepResult:
            at = pa.array(documents.rows)
            annotations = {column.name: self.columns[BASE_LAYER, column.name].take(at) for column in step.columns}
            # a list's items have another name in Parquet
            evidence = {
                field.name: self.columns[BASE_LAYER, field.name].take(at).cast(field.type) for field in step.evidence
            }
            return step.stored(annotations, evidence)

        return result

    def values(self, phase: str, annotator: int, rows: Int64Array, batch: TextBatch) -> KnownValues:
        """See Known."""
        names = [phase.name for phase in self.run.recipe.phases]
        taken = self.run.reuse[names.index(phase)].annotators[annotator]
        if taken is None:
            return KnownValues(np.zeros(len(rows), np.bool_))
        there = self.last[rows] >= taken.phase
        if not taken.is_same_text:
            there[there] = self._has_text(taken, rows[there], batch, np.flatnonzero(there))
        chosen = pa.array(rows, mask=~there)
        return KnownValues(there, {name: self.columns[column].take(chosen) for name, column in taken.columns.items()})

    def _has_text(self, taken: Taken, rows: Int64Array, batch: TextBatch, positions: Int64Array) -> BoolArray:
        """Whether documents have the texts that they had in the run, as far as their content hash says so."""
        stored = self.columns[BASE_LAYER, "content_hash"].take(pa.array(rows)).to_pylist()
        same = [one == other for one, other in zip(stored, content_hashes(batch, positions), strict=True)]
        return (self.last[rows] <= taken.last) & np.array(same, np.bool_)


def _arrays(table: pa.Table) -> dict[str, pa.Array]:
    return {name: table[name].combine_chunks() for name in table.column_names}
