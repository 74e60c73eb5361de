"""The dry run: one file through a recipe in this process; writes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gneiss.curate.curate import curate
from gneiss.curate.examples import Examples, merge_examples
from gneiss.curate.loaded_models import load_models
from gneiss.curate.statistics import Statistics
from gneiss.errors import InputError
from gneiss.input.plan import make_plan
from gneiss.recipe.recipe import Recipe


@dataclass(frozen=True)
class DryRun:
    """The effect of a recipe on a file; times are of this process, without model loading."""

    path: str
    recipe: Recipe
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
    """Curate a file, or its first `limit` rows, without writing. Its counts are those of a run on the same file.

    Raises RecipeError, InputError and ModelError.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    plan = make_plan(recipe, input)
    if plan.input.unreadable:
        unreadable = plan.input.unreadable[0]
        raise InputError(f"{unreadable.file}: cannot read: {unreadable.reason}")
    started = time.perf_counter()
    tools = load_models(recipe)
    loaded, cpu = time.perf_counter(), time.process_time()
    statistics = Statistics()
    examples: Examples = {}
    for shard in plan.input.shards:
        left = None if limit is None else limit - statistics.counts["rows"]
        if left == 0:
            break
        curated = curate(shard, recipe, tools, left)
        statistics += curated.statistics
        examples = merge_examples(examples, curated.examples)
    ended, cpu_seconds = time.perf_counter(), time.process_time() - cpu
    return DryRun(str(input), recipe, limit, statistics, examples, loaded - started, ended - loaded, cpu_seconds)
