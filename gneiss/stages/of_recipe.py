"""The stages of a recipe, in order; and a stage as work for a backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from gneiss.arrays import Int64Array
from gneiss.backends.care import watch
from gneiss.corpus_steps import Batches, CorpusStep, Stage
from gneiss.curate.loaded_models import load_phase_models, models_when_needed, prepared_here
from gneiss.curate.phase import CorpusResults, PhaseInput, annotated, compute_phase, decide_phase
from gneiss.curate.phase_result import PhaseResult, phases_schema, to_batch
from gneiss.errors import MachineError
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.recipe.rule import locked_connection
from gneiss.stages.corpus import Corpus, Reader, StepView
from gneiss.stages.exchange import Exchange
from gneiss.stages.shares import (
    CONDITIONS,
    GROUP_FILES,
    SKETCH,
    scores_stage,
    sketches_of,
    sums_of,
    sums_stage,
    thresholds_of,
    thresholds_stage,
)


@dataclass(frozen=True)
class Part:
    """What a task of a stage writes to one file: its name in the run, its schema and, once per worker, the work.

    receivers, is_read_by_task, is_kept, level: see Stage.
    """

    name: str
    schema: pa.Schema
    open: Callable[[Reader], Callable[[int], Batches]]
    receivers: int | None = None
    is_read_by_task: bool = False
    is_kept: bool = False
    level: int = 1

    def files(self, corpus: Corpus) -> Exchange:
        """Where its files lie."""
        return corpus.index if self.is_kept else corpus.exchange


@dataclass(frozen=True)
class RunStage:
    """A stage of a run: as many tasks as it says, each of which writes one file for each part, in order."""

    tasks: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The names of its parts."""
        return "+".join(part.name for part in self.parts)


def stages_before(corpus: Corpus) -> Iterator[RunStage]:
    """The stages before `curate`: for each barrier what the phases before it compute, the stages that find numbers of
    rules by share, and the stages of the steps of the phase after it.

    All that a wide phase does first with the texts of a shard is one stage, which reads them once.
    """
    groups = {group.stop: group for group in corpus.phase_groups()}
    shards = len(corpus.shards)
    for index in corpus.barriers:
        first: list[Part] = []
        if group := groups.get(index):
            phases = corpus.recipe.phases[group.start : group.stop]
            first = [Part(corpus.group_name(group), phases_schema(phases), partial(_open_phases, corpus, group))]
            if phases[-1].shares:
                yield RunStage(shards, (*first, _scores(corpus, group[-1])))
                yield from _threshold_stages(corpus, group[-1])
                first = []
        later: list[RunStage] = []
        for step in corpus.recipe.phases[index].wide_steps if index in corpus.wide_phases else ():
            own = list(_stages(corpus, step, index, step.stages(StepView(corpus, step, index, Reader(corpus)))))
            if own and own[0][1] and own[0][0].tasks == shards:
                first += own.pop(0)[0].parts
            later += [stage for stage, _ in own]
        if first:
            yield RunStage(shards, tuple(first))
        yield from later


def _scores(corpus: Corpus, phase: int) -> Part:
    """What a shard adds to the sketches of the rules by share of a phase."""
    own, tokens = corpus.recipe.phases[phase], corpus.recipe.weighed_by(phase)
    assert tokens is not None  # or the recipe would have been refused

    def open_(reader: Reader) -> Callable[[int], Batches]:
        return lambda shard: sketches_of(own, reader.scored(phase, shard), tokens)

    return Part(scores_stage(own), SKETCH, open_)


def _threshold_stages(corpus: Corpus, phase: int) -> Iterator[RunStage]:
    """What adds sketches up, of many shards in groups first, and finds the numbers."""
    own, exchange = corpus.recipe.phases[phase], corpus.exchange
    source, files = scores_stage(own), len(corpus.shards)
    if files > GROUP_FILES:
        groups = [range(first, min(first + GROUP_FILES, files)) for first in range(0, files, GROUP_FILES)]

        def open_sums(_: Reader) -> Callable[[int], Batches]:
            return lambda task: sums_of(own, exchange, scores_stage(own), groups[task])

        yield RunStage(len(groups), (Part(sums_stage(own), SKETCH, open_sums),))
        source, files = sums_stage(own), len(groups)

    def open_thresholds(_: Reader) -> Callable[[int], Batches]:
        return lambda _: [thresholds_of(own, exchange, source, range(files))]

    yield RunStage(1, (Part(thresholds_stage(own), CONDITIONS, open_thresholds),))


def stages_after(corpus: Corpus) -> Iterator[RunStage]:
    """The stages after `curate`; none without shards."""
    for index in corpus.counted_phases if corpus.shards else ():
        for step in corpus.recipe.phases[index].wide_steps:
            view = StepView(corpus, step, index, Reader(corpus))
            yield from (stage for stage, _ in _stages(corpus, step, index, step.stages_after(view)))


def _stages(corpus: Corpus, step: CorpusStep, phase: int, stages: Sequence[Stage]) -> Iterator[tuple[RunStage, bool]]:
    """The stages of a step, a local one joined to the one before; and whether each needs nothing but texts."""
    parts: list[Part] = []
    tasks, is_local = 0, False
    for stage in stages:
        if parts and not (stage.is_local and stage.tasks == tasks):
            yield RunStage(tasks, tuple(parts)), is_local
            parts = []
        if not parts:
            tasks, is_local = stage.tasks, stage.is_local

        def open_(reader: Reader, work: Callable[[StepView, int], Batches] = stage.work) -> Callable[[int], Batches]:
            return partial(work, StepView(corpus, step, phase, reader))

        name = f"{step.key}_{stage.name}"
        how = (stage.receivers, stage.is_read_by_task, stage.is_kept, stage.level)
        parts.append(Part(name, stage.schema, open_, *how))
    if parts:
        yield RunStage(tasks, tuple(parts)), is_local


def counted_after(corpus: Corpus) -> list[str]:
    """The names of what is counted only after `curate`."""
    return [name for step in corpus.recipe.wide_steps for name in step.counted_after]


def counts_after(corpus: Corpus) -> dict[str, int]:
    """What the stages after `curate` counted, for the whole run."""
    if not corpus.shards:
        return dict.fromkeys(counted_after(corpus), 0)
    views = _views(corpus, Reader(corpus), corpus.counted_phases)
    return {name: count for view in views for name, count in view.step.counts_after(view).items()}


def results_of(corpus: Corpus, end: int | None = None) -> Callable[[int], CorpusResults]:
    """What the stages found, once per worker: a function of a shard's index.

    Parameters: `end`: only for the phases before this one, for the stage that computes them.
    """
    last = max(corpus.barriers, default=0) if end is None else 0
    reader = Reader(corpus)
    views = [view for view in _views(corpus, reader, corpus.wide_phases) if end is None or view.phase < end]
    found = {view.step.key: view.step.results(view) for view in views}

    def results(shard: int) -> CorpusResults:
        names = [phase.name for phase in corpus.recipe.phases[:last]]
        phases: Mapping[str, PhaseResult] = dict(zip(names, reader.results(last, shard), strict=True)) if last else {}
        return CorpusResults({key: partial(result_of, shard) for key, result_of in found.items()}, phases)

    return results


def _views(corpus: Corpus, reader: Reader, phases: Sequence[int]) -> list[StepView]:
    return [
        StepView(corpus, step, index, reader) for index in phases for step in corpus.recipe.phases[index].wide_steps
    ]


def _open_phases(corpus: Corpus, group: range, reader: Reader) -> Callable[[int], Batches]:
    """What consecutive phases compute and decide of each shard."""
    recipe, connection = corpus.recipe, locked_connection()
    phases = recipe.phases[group.start : group.stop]
    if corpus.stored:
        models = list(models_when_needed(recipe, corpus.stored_steps).phases[group.start : group.stop])
    else:
        prepared = prepared_here(recipe, corpus.prepared)
        models = [load_phase_models(recipe, index, prepared) for index in group]
    results = results_of(corpus, group.stop)

    def work(shard: int) -> Batches:
        entering: PhaseInput | None = reader.entering(group.start, shard)
        if entering is None:
            return [pa.RecordBatch.from_pylist([], phases_schema(phases))]
        found, stored = results(shard), corpus.stored_shard(corpus.shards[shard].id)
        found = stored.added_to(found) if stored else found
        rows: list[Int64Array] = []
        computed: list[PhaseResult] = []
        for phase, model in zip(phases, models, strict=True):
            rows.append(entering.rows)
            result = compute_phase(phase, model, entering, found, watch())
            if phase.shares:  # the last of them, which cannot be decided yet
                reader.remember_scored(group[-1], annotated(entering, result), shard)
                return [to_batch(phases, rows, [*computed, result.undecided()])]
            output = decide_phase(phase, connection, entering, result)
            computed.append(result.decided(output.verdicts))
            entering = output.staying
        reader.remember(group.stop, entering, shard)
        return [to_batch(phases, rows, computed)]

    return work


@dataclass(frozen=True)
class StageWork:
    """A stage as work for a backend: task number in, an exchange file and a receipt out."""

    corpus: Corpus
    name: str

    @property
    def stage(self) -> RunStage:
        """The stage; found by name, for a stage's functions do not travel to workers."""
        both = (*stages_before(self.corpus), *stages_after(self.corpus))
        return next(stage for stage in both if stage.name == self.name)

    def open(self) -> Callable[[int], Receipt]:
        """Load what the stage needs, once per worker."""
        reader = Reader(self.corpus)
        opened = ((part, part.files(self.corpus)) for part in self.stage.parts)
        parts = [(part, exchange, part.open(reader)) for part, exchange in opened if not exchange.is_merged(part.name)]

        def work(task: int) -> Receipt:
            wall, cpu = time.perf_counter(), time.process_time()
            files = tuple(
                exchange.write(part.name, task, part.schema, batches(task), part.receivers, part.level)
                for part, exchange, batches in parts
                if not exchange.has(part.name, task)
            )
            cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            return Receipt(f"{task}", COMMITTED, "", None, files=files, cost=cost, stage=self.name)

        return work

    def lost(self, task: int, reason: str) -> Receipt:
        """A task of a stage cannot be left out: the run stops. Raises MachineError."""
        raise MachineError(
            f"stage {self.name}, task {task}: {reason.rstrip('.')}. Finished tasks are kept: the same command resumes;"
            " use fewer workers, or a smaller shard_max_bytes"
        )
