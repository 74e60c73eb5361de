"""The corpus-wide rounds of a recipe, in order; and a round as a step of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from gneiss.annotation import Column
from gneiss.curate.loaded_models import load_phase_models, prepared_here
from gneiss.curate.phase import CorpusResults, compute_phase
from gneiss.curate.phase_result import schema_of
from gneiss.errors import MachineError
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.recipe.recipe import BASE_COLUMNS, Phase
from gneiss.stages import duplicates as duplicate_rounds
from gneiss.stages import substring as dedup_rounds
from gneiss.stages.corpus import Batches, Corpus, Reader, Round, computed_name
from gneiss.stages.duplicates import KINDS, DuplicateJob, Kind, duplicate_job
from gneiss.stages.substring_job import dedup_job


def rounds_before(corpus: Corpus) -> tuple[Round, ...]:
    """The rounds before `curate`: for each phase those of its corpus-wide steps; and what later ones need of it."""
    return tuple(_before(corpus))


def _before(corpus: Corpus) -> Iterator[Round]:
    phases = corpus.recipe.phases
    last = max((index for index, phase in enumerate(phases) if phase.is_corpus_wide), default=-1)
    job = dedup_job(corpus)
    searches = _searches(corpus)
    for index in range(last + 1):
        for search in searches.values():
            if search.phase == index:
                yield from duplicate_rounds.rounds(search)
        if job is not None and job.phase == index:
            yield from dedup_rounds.rounds_before(job)
        if index < last:
            columns = _columns(phases[index])
            schema = schema_of(columns, phases[index].dedup is not None)
            work = partial(_open_computed, corpus, index)
            yield Round(computed_name(corpus.recipe, index), len(corpus.shards), schema, work)


def _searches(corpus: Corpus) -> dict[Kind, DuplicateJob]:
    jobs = {kind: duplicate_job(corpus, kind) for kind in KINDS}
    return {kind: job for kind, job in jobs.items() if job is not None}


def rounds_after(corpus: Corpus) -> tuple[Round, ...]:
    """The rounds after `curate`: which cuts have lost their surviving copy."""
    job = dedup_job(corpus)
    return () if job is None else dedup_rounds.rounds_after(job)


def finder(corpus: Corpus, phases: int | None = None) -> Callable[[int], CorpusResults]:
    """What the rounds have found of a shard; with `phases` for the last of so many first phases alone."""
    chosen = corpus.recipe.phases[:phases]
    job = dedup_job(corpus)
    searches = {kind: search for kind, search in _searches(corpus).items() if search.phase < len(chosen)}
    last = max((index for index, phase in enumerate(chosen) if phase.is_corpus_wide), default=0)

    def found(shard: int) -> CorpusResults:
        spans = dedup_rounds.shard_spans(job, shard) if job is not None and job.phase < len(chosen) else None
        earlier = range(0 if phases else last)
        duplicates = {kind: duplicate_rounds.shard_clusters(search, shard) for kind, search in searches.items()}
        return CorpusResults(
            **duplicates,
            spans=spans,
            computed={chosen[index].name: corpus.computed(index, shard) for index in earlier},
        )

    return found


def _columns(phase: Phase) -> tuple[Column, ...]:
    return (*BASE_COLUMNS, *phase.columns)


def _open_computed(corpus: Corpus, index: int) -> Callable[[int], Batches]:
    """What a phase computes of each shard."""
    phase, reader = corpus.recipe.phases[index], Reader.of(corpus)
    tools = load_phase_models(corpus.recipe, index, prepared_here(corpus.recipe, corpus.prepared))
    found = finder(corpus, index + 1)

    def work(shard: int) -> Batches:
        entering = reader.entering(index, shard)
        if entering is None:
            return [pa.RecordBatch.from_pylist([], schema_of(_columns(phase), phase.dedup is not None))]
        computed = compute_phase(phase, tools, entering, found(shard))
        return [computed.to_batch(entering.rows, _columns(phase))]

    return work


@dataclass(frozen=True)
class RoundStep:
    """A round as a step of a run: task number in, an exchange file and a receipt out."""

    corpus: Corpus
    name: str

    @property
    def round(self) -> Round:
        """The round; found by name, for a round's functions do not travel to workers."""
        rounds = (*rounds_before(self.corpus), *rounds_after(self.corpus))
        return next(its for its in rounds if its.name == self.name)

    def open(self) -> Callable[[int], Receipt]:
        """Load what the round needs, once per worker."""
        its = self.round
        work_of = its.open()

        def work(task: int) -> Receipt:
            wall, cpu = time.perf_counter(), time.process_time()
            file = self.corpus.exchange.write(its.name, task, its.schema, work_of(task))
            cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            return Receipt(f"{task}", COMMITTED, "", file.rows, files=(file,), cost=cost, stage=its.name)

        return work

    def lost(self, task: int, reason: str) -> Receipt:
        """A round cannot go on without one of its tasks. Raises MachineError."""
        raise MachineError(f"task {task} of the round {self.name!r}: {reason}")
