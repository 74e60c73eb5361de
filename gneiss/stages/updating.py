"""Updating: annotations that a finished run lacks, of the texts that it had, as files of a layer; a shard a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import Annotator, arrow_type
from gneiss.backends.care import watch
from gneiss.curate.curate import first_input
from gneiss.curate.loaded_models import LoadedModels, models_when_needed
from gneiss.curate.phase import CorpusResults, ShardRows, annotated, compute_phase
from gneiss.curate.reading import read_documents
from gneiss.errors import InputError, MachineError
from gneiss.input.shard import Shard, reading_on
from gneiss.output.layers import column, layer_schema
from gneiss.output.layout import annotations_path
from gneiss.output.parquet import WrittenFile, write_parquet
from gneiss.recipe.entries import written
from gneiss.recipe.recipe import Recipe
from gneiss.stages.reuse import PhaseReuse, Taken
from gneiss.stages.stored import StoredRun
from gneiss.store.place import Place

#: Where the footer of a file says on how many documents an annotator failed.
FAILED_KEY = "gneiss.layer.failed"


def only_annotators(recipe: Recipe, chosen: Sequence[Sequence[Annotator]]) -> Recipe:
    """A recipe that edits as another one does, computes some annotators, by phase, and decides nothing."""
    read = {name for of_phase in chosen for annotator in of_phase for name in annotator.reads_annotations}
    layers = {
        layer: columns for layer, columns in recipe.layers.items() if any(f"{layer}.{name}" in read for name in columns)
    }
    changes: dict[str, Any] = {"input.derived_from_text": {}, "layers": layers}
    if all(annotator.reads != "url" for of in chosen for annotator in of):
        changes["input.url"] = "url"
    for phase, annotators in zip(recipe.phases, chosen, strict=True):
        changes[f"phases.{phase.name}.annotate"] = [written(annotator) for annotator in annotators]
        changes |= {f"phases.{phase.name}.{key}": {} for key in ("aliases", "rules")}
        changes[f"phases.{phase.name}.keep"] = None
    return recipe.changed(changes)


def columns_of(annotators: Sequence[Sequence[Annotator]]) -> pa.Schema:
    """The columns of the layer: those of annotators, by phase."""
    found = (declared for of_phase in annotators for annotator in of_phase for declared in annotator.columns)
    return pa.schema([column(declared.name, arrow_type(declared.type), declared.meaning) for declared in found])


@dataclass(frozen=True)
class UpdateStep:
    """Shard in, its file of the layer and the number of documents that failed out.

    recipe: see `only_annotators`; taken: for each of its phases and annotators from where values are, if they need not
    be computed; run, phases: the folder of the finished run, and the names of its phases; footer: of each file.
    """

    recipe: Recipe
    taken: tuple[tuple[Taken | None, ...], ...]
    run: Place
    phases: tuple[str, ...]
    layer: str
    footer: Mapping[str, str]

    @property
    def stored(self) -> StoredRun:
        """The fates of the run's documents, and what its steps found."""
        steps = [frozenset(step.key for step in phase.steps) for phase in self.recipe.phases]
        return StoredRun(self.run, self.phases, self.recipe, tuple(map(PhaseReuse, self.taken, steps)))

    @property
    def computed(self) -> list[list[Annotator]]:
        """For each phase the annotators of which the layer has the values."""
        pairs = (
            zip(phase.annotators, taken, strict=True)
            for phase, taken in zip(self.recipe.phases, self.taken, strict=True)
        )
        return [[annotator for annotator, taken in pair if taken is None] for pair in pairs]

    def open(self) -> UpdateWork:
        """Load a model when it first computes something."""
        return UpdateWork(self, models_when_needed(self.recipe, self.stored.steps), reading_on())

    def lost(self, task: Shard, reason: str) -> WrittenFile:
        """No shard of a layer can be left out. Raises MachineError."""
        raise MachineError(
            f"layer {self.layer}, shard {task.id}: {reason.rstrip('.')}; finished shards are kept: the same command"
            " resumes; use fewer workers"
        )


@dataclass(frozen=True, eq=False)
class UpdateWork:
    """A worker's part of it."""

    step: UpdateStep
    models: LoadedModels
    of_worker: Callable[[Shard], Shard]

    def __call__(self, shard: Shard) -> WrittenFile:
        """Annotate the documents of a shard, phase by phase, as far as each came in the run."""
        recipe, stored = self.step.recipe, self.step.stored.shard(shard.id)
        if stored is None:
            raise InputError(f"{self.step.run / annotations_path(shard.id)}: not there; run the recipe again")
        documents = read_documents(self.of_worker(shard), recipe.input.text, recipe.inputs)
        entering = first_input(ShardRows.of([shard.id], [documents.rows]), documents, stored)
        computed = self.step.computed
        schema = columns_of(computed)
        columns = {name: pa.nulls(documents.rows, schema.field(name).type) for name in schema.names}
        found, failed = stored.added_to(CorpusResults()), 0
        for index, (phase, models) in enumerate(zip(recipe.phases, self.models.phases, strict=True)):
            entering = entering.where(stored.last[entering.rows] >= index)
            result = compute_phase(phase, models, entering, found, watch())
            failed += len(result.failures)
            reached = np.zeros(documents.rows, np.bool_)
            reached[entering.rows] = True
            for name in (declared.name for annotator in computed[index] for declared in annotator.columns):
                columns[name] = pc.replace_with_mask(columns[name], pa.array(reached), result.annotations[name])
            entering = annotated(entering, replace(result, failures={}))
        table = pa.table({"row": np.arange(documents.rows), "id": documents.ids, **columns}, layer_schema(schema))
        shard.check_unchanged()
        return write_parquet(
            [table],
            table.schema,
            self.step.run,
            annotations_path(shard.id, self.step.layer),
            {**self.step.footer, FAILED_KEY: f"{failed}"},
        )
