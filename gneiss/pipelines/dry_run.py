"""The dry run: one file through a recipe in this process; writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from gneiss.curate.curate import Curated, curate
from gneiss.curate.examples import Examples, merge_examples
from gneiss.curate.loaded_models import LoadedModels, load_models, prepare
from gneiss.curate.statistics import Statistics
from gneiss.errors import InputError
from gneiss.input.plan import make_plan
from gneiss.input.shard import Shard
from gneiss.output.commit import commit
from gneiss.output.data_files import DataFiles
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus, Reader
from gneiss.stages.of_recipe import (
    RunStage,
    StageWork,
    counted_after,
    counts_after,
    results_of,
    stages_after,
    stages_before,
)
from gneiss.store.place import place_of


@dataclass(frozen=True)
class DryRun:
    """The effect of a recipe on a file; times are of this process, without model loading.

    recipe: with the numbers of rules by share, if it has_shares, within what was read.
    """

    path: str
    recipe: Recipe
    has_shares: bool
    limit: int | None
    statistics: Statistics
    examples: Examples
    load_seconds: float
    seconds: float
    cpu_seconds: float

    @property
    def mb_per_cpu_second(self) -> float:
        """MB of input text per second of CPU time."""
        return self.statistics.counts["input_text_bytes"] / 1e6 / max(self.cpu_seconds, 1e-9)

    def core_hours(self, corpus_gb: float) -> float:
        """Core-hours for a corpus of the given GB of text, at the speed of this file."""
        return corpus_gb * 1000 / max(self.mb_per_cpu_second, 1e-9) / 3600


def dry_run(recipe: Recipe | str | Path, input: str | Path, *, limit: int | None = None) -> DryRun:
    """Curate a file, or its first `limit` rows, without writing; the counts equal those of a run on that file.

    If a step compares several shards of the file, its stages exchange files in a temporary folder. Raises RecipeError,
    InputError and ModelError.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    plan = make_plan(recipe, input, DataFiles.of(recipe.output).refusal)
    if plan.input.unreadable:
        unreadable = plan.input.unreadable[0]
        raise InputError(f"{unreadable.file}: cannot read: {unreadable.reason}")
    shards = tuple(plan.input.shards if limit is None else _first_rows(plan.input.shards, limit, recipe.input.text))
    started = time.perf_counter()
    recipe = plan.recipe.over(shards)
    prepared = prepare(recipe)
    tools = load_models(recipe, prepared)
    loaded, cpu = time.perf_counter(), time.process_time()
    with TemporaryDirectory(prefix="gneiss-dry-run-") as folder:
        corpus = Corpus(recipe, prepared, shards, place_of(folder, "temporary folder"))
        is_wide = bool(recipe.shares) or (len(shards) > 1 and corpus.sees_all)
        if is_wide:
            corpus = replace(corpus, shards=tuple(shard.counted(_rows(shard, recipe.input.text)) for shard in shards))
        statistics, examples = _curated(corpus, tools) if is_wide else _each_curated(corpus, tools)
        decided = plan.recipe.with_conditions(_with_numbers(corpus).conditions)
    ended, cpu_seconds = time.perf_counter(), time.process_time() - cpu
    return DryRun(
        str(input),
        decided,
        bool(recipe.shares),
        limit,
        statistics,
        examples,
        loaded - started,
        ended - loaded,
        cpu_seconds,
    )


def _each_curated(corpus: Corpus, tools: LoadedModels) -> tuple[Statistics, Examples]:
    """The statistics and examples of shards that no step sees together."""
    return _merged(curate(shard, corpus.recipe, tools) for shard in corpus.shards)


def _curated(corpus: Corpus, tools: LoadedModels) -> tuple[Statistics, Examples]:
    """The statistics and examples of shards that a step sees together, by the stages of a run, in this process."""
    _run_stages(corpus, stages_before(corpus))
    results, recipe = results_of(corpus), _with_numbers(corpus)
    counted = counted_after(corpus)

    def curated() -> Iterator[Curated]:
        for number, shard in enumerate(corpus.shards):
            curated = curate(shard, recipe, tools, results=results(number))
            if counted:  # the stages that count read the annotations of all shards
                commit(curated, recipe, corpus.output)
            yield curated

    statistics, examples = _merged(curated())
    _run_stages(corpus, stages_after(corpus))
    for name, total in counts_after(corpus).items():
        statistics.counts[name] = total
    return statistics, examples


def _with_numbers(corpus: Corpus) -> Recipe:
    """The recipe with the numbers that stages found for its rules by share."""
    return Reader(corpus).decided(len(corpus.recipe.phases))


def _run_stages(corpus: Corpus, stages: Iterable[RunStage]) -> None:
    for stage in stages:
        work = StageWork(corpus, stage.name).open()
        for task in range(stage.tasks):
            work(task)


def _merged(shards: Iterable[Curated]) -> tuple[Statistics, Examples]:
    statistics, examples = Statistics(), Examples()
    for curated in shards:
        statistics += curated.statistics
        examples = merge_examples(examples, curated.examples)
    return statistics, examples


@dataclass(frozen=True)
class _FirstRows(Shard):
    """A shard of which only the first rows are read."""

    limit: int

    @property
    def known_rows(self) -> int:
        """Rows that are read."""
        return self.limit

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """See Shard."""
        for first, table in super().tables(columns):
            yield first, table.slice(0, self.limit - first)
            if first + table.num_rows >= self.limit:
                return


def _rows(shard: Shard, text: str, limit: int | None = None) -> int:
    """How many rows a shard has; where they must be counted, that many at most, and whatever comes with them."""
    if shard.known_rows is not None:
        return shard.known_rows
    rows = 0
    for first, table in shard.tables([text]):
        rows = first + table.num_rows
        if limit is not None and rows >= limit:
            break
    return rows


def _first_rows(shards: Iterable[Shard], limit: int, text: str) -> Iterator[Shard]:
    """The shards that hold the first rows of a file, the last one cut short."""
    for shard in shards:
        if not limit:
            return
        found = _rows(shard, text, limit)
        own = {field.name: getattr(shard, field.name) for field in fields(Shard)}
        yield _FirstRows(**own, limit=limit) if limit <= found else shard.counted(found)
        limit -= min(limit, found)
