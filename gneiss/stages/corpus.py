"""The corpus as stages see it: the shards of a run, the files of stages, the texts that reach a phase."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gneiss.batch import TextBatch
from gneiss.corpus_steps import CorpusStep
from gneiss.curate.curate import first_input
from gneiss.curate.known import Nothing
from gneiss.curate.loaded_models import Prepared, load_step
from gneiss.curate.phase import PhaseInput, ShardRows, annotated, decide_phase
from gneiss.curate.phase_result import PhaseResult, edits_of_batch, of_batch, only_edits
from gneiss.curate.reading import read_documents
from gneiss.errors import DefectError, InputError
from gneiss.input.shard import Shard, reading_on
from gneiss.output.layout import annotations_path, exchange_of, index_folder
from gneiss.output.parquet import read_table
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import locked_connection
from gneiss.stages.exchange import Exchange
from gneiss.stages.grid import Grid
from gneiss.stages.segments import KeptSegment
from gneiss.stages.shares import conditions_of
from gneiss.stages.stored import StoredRun, StoredShard
from gneiss.store.place import Place

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Corpus:
    """The shards of a run, in order, for its stages: a picklable value that every worker opens.

    partitions: of hashes; by default as many as keep a task within its memory. They do not affect results; stored: an
    earlier run over these shards, and what is taken from it; segments: of each step that has some, by key, the indexes
    of what comes before these shards; keeps_index: whether one of these is left; increment: their number in the output.
    """

    recipe: Recipe
    prepared: Prepared
    shards: tuple[Shard, ...]
    output: Place
    partitions: int | None = None
    stored: StoredRun | None = None
    segments: Mapping[str, tuple[KeptSegment, ...]] = field(default_factory=dict)
    keeps_index: bool = False
    increment: int = 0

    @property
    def exchange(self) -> Exchange:
        """The files of all stages but kept ones."""
        return Exchange(self.output, exchange_of(self.increment))

    @property
    def index(self) -> Exchange:
        """The files of kept stages."""
        return Exchange(self.output, index_folder(self.increment))

    @cached_property
    def shard_numbers(self) -> Mapping[str, int]:
        """Id of a shard → its index."""
        return {shard.id: number for number, shard in enumerate(self.shards)}

    @property
    def wide_phases(self) -> list[int]:
        """The indices of the phases with a step that sees more than a shard, and whose stages must run."""
        return [index for index in self.counted_phases if not self.stored_steps.issuperset(self._wide_keys(index))]

    @property
    def counted_phases(self) -> list[int]:
        """The indices of all phases with a step that sees more than a shard."""
        return [index for index, phase in enumerate(self.recipe.phases) if phase.wide_steps]

    @property
    def barriers(self) -> list[int]:
        """The indices of the phases before which stages must have seen all shards; one past the last may be among them.

        They are wide phases, and those after a phase that cannot be decided before its rules by share have numbers.
        """
        after_shares = (index + 1 for index, phase in enumerate(self.recipe.phases) if phase.shares)
        return sorted({*self.wide_phases, *after_shares})

    @property
    def sees_all(self) -> bool:
        """Whether stages must see all shards before any is curated."""
        return bool(self.barriers)

    @property
    def stored_steps(self) -> frozenset[str]:
        """The keys of the steps whose results are those of an earlier run."""
        return self.stored.steps if self.stored else frozenset()

    def stored_shard(self, shard_id: str) -> StoredShard | None:
        """What an earlier run stored of a shard, if it did. Raises InputError."""
        return self.stored.shard(shard_id) if self.stored else None

    def _wide_keys(self, index: int) -> list[str]:
        return [step.key for step in self.recipe.phases[index].wide_steps]

    def phase_groups(self) -> list[range]:
        """The phases before the last barrier, in the groups that one stage each computes: up to each barrier."""
        edges = [0, *(index for index in self.barriers if index)]
        return [range(low, high) for low, high in pairwise(edges)]

    def group_name(self, group: range) -> str:
        """The name of the stage that computes some phases."""
        return f"phases_to_{self.recipe.phases[group[-1]].name}"


@dataclass(eq=False)
class Reader:
    """Reads the documents that reach a phase; what earlier phases decided is read from the files of their stage.

    It remembers the texts of one shard, and its documents if they are at hand, for which several stages of a task may
    ask.
    """

    corpus: Corpus
    _phase: int = -1
    _shard: int = -1
    _text: TextBatch | None = None
    _documents: PhaseInput | None = None
    _scored: tuple[int, int, PhaseInput] | None = None
    _decided: dict[int, Recipe] = field(default_factory=dict)
    _of_worker: Callable[[Shard], Shard] = field(default_factory=reading_on)
    _grids: dict[str, Grid | None] = field(default_factory=dict)

    def entering(self, phase: int, shard: int) -> PhaseInput | None:
        """The documents of a shard that reach a phase, with their annotations; None for a shard that cannot be read."""
        entering = self._first(shard)
        if entering is None or phase == 0:
            return entering
        for own, result in zip(self.decided(phase).phases, self.results(phase, shard), strict=False):
            entering = decide_phase(own, self._connection, entering, result).staying
        return entering

    def scored(self, phase: int, shard: int) -> PhaseInput | None:
        """The documents of a shard that a phase with rules by share computed and cannot decide yet."""
        remembered, self._scored = self._scored, None  # which holds the texts of a shard
        if remembered is not None and remembered[:2] == (phase, shard):
            return remembered[2]
        entering = self.entering(phase, shard)
        return None if entering is None else annotated(entering, self.results(phase + 1, shard)[phase])

    def remember_scored(self, phase: int, documents: PhaseInput, shard: int) -> None:
        """What `scored` need not compute, once."""
        self._scored = phase, shard, documents

    def decided(self, end: int) -> Recipe:
        """The recipe with the numbers of rules by share in the phases before this one. Raises OutputError."""
        if end not in self._decided:
            phases = (phase for phase in self.corpus.recipe.phases[:end] if phase.shares)
            found = [conditions_of(self.corpus.exchange, phase) for phase in phases]
            self._decided[end] = self.corpus.recipe.with_conditions(dict(ChainMap(*found)))
        return self._decided[end]

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return locked_connection()

    def results(self, phase: int, shard: int) -> list[PhaseResult]:
        """What the phases before a barrier computed of a shard, and decided without numbers. Raises OutputError."""
        found: list[PhaseResult] = []
        for group in self._groups(phase):
            batch = self.corpus.exchange.batch(self.corpus.group_name(group), shard, 0)
            found.extend(of_batch(self.corpus.recipe.phases[group.start : group.stop], batch))
        return found

    def text(self, phase: int, shard: int) -> TextBatch:
        """The texts that reach a phase, one per row of the shard; empty for rows that do not reach it."""
        if self._text is None or (self._phase, self._shard) != (phase, shard):
            self._text = self._documents = None  # before the next one is read
            self._phase, self._shard, self._text = phase, shard, self._read(phase, shard)
        return self._text

    def grid(self, stage: str) -> Grid | None:
        """How an earlier stage is merged, if it is; read once."""
        if stage not in self._grids:
            self._grids[stage] = self.corpus.exchange.grid(stage)
        return self._grids[stage]

    def remember(self, phase: int, documents: PhaseInput, shard: int) -> None:
        """Documents that reach a phase, whose texts need not be read again."""
        placed = documents.batch.placed(documents.rows, self.corpus.shards[shard].rows)
        self._phase, self._shard, self._text, self._documents = phase, shard, placed, documents

    def measured(self, phase: int, shard: int, measure: str) -> pa.Array:
        """The values of a measure for each row of a shard, float64; null for one that does not reach the phase."""
        if self._documents is None or (self._phase, self._shard) != (phase, shard):
            documents = self.entering(phase, shard)
            if documents is None:
                return pa.nulls(self.corpus.shards[shard].rows, pa.float64())
            self.remember(phase, documents, shard)
        assert self._documents is not None
        place = np.full(self.corpus.shards[shard].rows, -1)
        place[self._documents.rows] = np.arange(len(self._documents.rows))
        return self._documents.measured(measure).take(pa.array(place, mask=place < 0))

    def _read(self, phase: int, shard: int) -> TextBatch:
        if any(earlier.shares for earlier in self.corpus.recipe.phases[:phase]):  # whose verdicts are in no file
            entering = self.entering(phase, shard)
            if entering is not None:
                return entering.batch.placed(entering.rows, self.corpus.shards[shard].rows)
        entering, count = self._first(shard), self.corpus.shards[shard].rows
        if entering is None:
            return TextBatch(np.empty(0, np.uint8), np.zeros(count + 1, np.int64))
        batch, rows = entering.batch, entering.rows
        for group in self._groups(phase):
            phases = self.corpus.recipe.phases[group.start : group.stop]
            found = self.corpus.exchange.batch(self.corpus.group_name(group), shard, 0, only_edits(phases))
            for edits, stay in edits_of_batch(phases, found):
                batch = edits.apply(batch)
                if not stay.all():
                    batch, rows = TextBatch.of(batch.to_arrow().filter(pa.array(stay))), rows[stay]
        return batch.placed(rows, count)

    def _groups(self, phase: int) -> list[range]:
        return [group for group in self.corpus.phase_groups() if group.stop <= phase]

    def _first(self, shard: int) -> PhaseInput | None:
        recipe, own = self.corpus.recipe, self._of_worker(self.corpus.shards[shard])
        try:
            documents = read_documents(own, recipe.input.text, recipe.inputs)
            stored = self.corpus.stored_shard(own.id) if recipe.layers else None
            return first_input(ShardRows.of([own.id], [documents.rows]), documents, stored or Nothing())
        except InputError:  # `curate` raises the same error, and quarantines the shard with the reason
            return None


@dataclass(frozen=True, eq=False)
class StepView:
    """A corpus as the stages of one step, in one phase (its index), see it: see StepCorpus."""

    corpus: Corpus
    step: CorpusStep
    phase: int
    reader: Reader

    @cached_property
    def shards(self) -> Sequence[Shard]:
        """See StepCorpus."""
        if uncounted := next((shard.id for shard in self.corpus.shards if shard.known_rows is None), None):
            raise DefectError(f"shard {uncounted}: a stage of {self.step.key} needs its rows, and they are not counted")
        return self.corpus.shards

    @property
    def partitions(self) -> int | None:
        """See StepCorpus."""
        return self.corpus.partitions

    @property
    def segments(self) -> Sequence[KeptSegment]:
        """See StepCorpus."""
        return self.corpus.segments.get(self.step.key, ())

    @property
    def keeps_index(self) -> bool:
        """See StepCorpus."""
        return self.corpus.keeps_index and self.step.index_parameters is not None

    @cached_property
    def model(self) -> Any:
        """See StepCorpus."""
        return load_step(self.step, self.corpus.recipe)

    def texts(self, shard: int) -> TextBatch:
        """See StepCorpus."""
        return self.reader.text(self.phase, shard)

    def measured(self, shard: int, measure: str) -> pa.Array:
        """See StepCorpus."""
        return self.reader.measured(self.phase, shard, measure)

    def batch(self, stage: str, task: int, number: int = 0) -> pa.RecordBatch:
        """See StepCorpus. Raises OutputError."""
        return self.corpus.exchange.batch(self.stage_name(stage), task, number)

    def batches(self, stage: str, task: int) -> Iterable[pa.RecordBatch]:
        """See StepCorpus. Raises OutputError."""
        return self.corpus.exchange.batches(self.stage_name(stage), task)

    def across(self, stage: str, tasks: int, receiver: int) -> Iterable[pa.RecordBatch]:
        """See StepCorpus. Raises OutputError."""
        name = self.stage_name(stage)
        return self.corpus.exchange.across(name, tasks, receiver, self.reader.grid(name))

    def annotations(self, shard_id: str, columns: Sequence[str]) -> pa.Table | None:
        """See StepCorpus."""
        place = self.corpus.output / annotations_path(shard_id)
        return read_table(place, columns) if place.find() is not None else None

    def stage_name(self, stage: str) -> str:
        """The name of a stage of this step among all stages of a run."""
        return f"{self.step.key}_{stage}"
