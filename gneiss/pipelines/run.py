"""The job: plan, claim the output, curate what is left, merge the statistics, say what happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import yaml

from gneiss.backends import Backend, Step, Task
from gneiss.backends.choice import BackendName, choose_backend
from gneiss.curate.examples import Samples, merge_examples
from gneiss.curate.loaded_models import prepare
from gneiss.curate.statistics import Statistics
from gneiss.errors import BudgetError
from gneiss.input.plan import Plan, make_plan
from gneiss.input.shard import Shard, local_path
from gneiss.jobs.progress import Progress, Silent
from gneiss.output import claim as outputs
from gneiss.output import layout, ledger
from gneiss.output.dataset_card import dataset_card
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import REDUCER_MEMORY_BYTES, Corpus, Round
from gneiss.stages.curating import CurateStep
from gneiss.stages.exchange import Exchange
from gneiss.stages.of_recipe import RoundStep, rounds_after, rounds_before
from gneiss.stages.substring import orphaned_bytes
from gneiss.stages.substring_job import dedup_job

# Peak resident memory of a worker without models, measured on one shard of 240 MB of text (demo recipe, bytes):
# 1.05 GB with anchors, 3.2 GB with the suffix array. Tokens add ids and offsets.
WORKER_BYTES = 600_000_000
BYTES_PER_BYTE = 4
BYTES_PER_BYTE_OF_TOKENS = 10
BYTES_PER_BYTE_OF_SUFFIX_ARRAY = 14
#: The one task that joins duplicate documents to clusters holds a number for each document of the corpus.
CLUSTER_BYTES_PER_ROW = 8


@dataclass(frozen=True)
class Run:
    """A finished run: where it is, what was counted, examples per rule, and the shards that could not be read."""

    output: Path
    recipe: Recipe
    statistics: Statistics
    samples: Samples
    shards: int
    skipped_shards: int
    quarantined_shards: dict[str, str]

    def check_budgets(self) -> None:
        """Raise BudgetError when more was quarantined than the recipe allows."""
        counts, budgets = self.statistics.counts, self.recipe.budgets
        if len(self.quarantined_shards) > budgets.shards:
            shard, reason = next(iter(self.quarantined_shards.items()))
            raise BudgetError(
                f"{len(self.quarantined_shards)} shards could not be curated (budgets.shards: {budgets.shards}), first"
                f" {shard!r}: {reason}. All others are in {self.output}; mend the cause and run again, or raise the"
                " budget"
            )
        if counts["quarantined"] > budgets.documents * counts["rows"]:
            raise BudgetError(
                f"{counts['quarantined']} of {counts['rows']} documents were quarantined (budgets.documents:"
                f" {budgets.documents:.2%}): {_listed(self.statistics.reasons)}. They are in"
                f" {self.output / layout.QUARANTINE}; mend the input, or raise the budget in the recipe"
            )


def run(
    recipe: Recipe | str | Path,
    input: str | Path,
    output: str | Path,
    *,
    workers: int | None = None,
    backend: BackendName = "auto",
    shared_filesystem: bool = False,
    progress: Progress = Silent(),  # noqa: B008
) -> Run:
    """Curate every shard of an input into an output; finished shards are skipped, so the same call resumes.

    Parameters: `recipe`: a Recipe, the name of a packaged one, or a YAML file; `input`: file, directory, glob or
    file://; `output`: a folder; `workers`: processes or actors, by default one a CPU as memory allows; `backend`:
    `auto` takes Ray inside a Ray job or when RAY_ADDRESS is set; `progress`: called as shards finish.
    Raises RecipeError, InputError, ModelError, OutputError, MachineError. Budgets: `Run.check_budgets`.

    >>> import gneiss
    >>> done = gneiss.run("gneissweb-bytes", "crawl/", "curated/")  # doctest: +SKIP
    >>> done.statistics.counts["kept"]  # doctest: +SKIP
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    folder = Path(local_path(output, "output")).absolute()  # workers may live in another folder
    plan = make_plan(recipe, input)
    outputs.refuse_nesting(input, [shard.path for shard in plan.input.shards], folder)
    recipe_text = yaml.safe_dump(recipe.canonical(), sort_keys=False, allow_unicode=True, width=120)
    with outputs.claim(folder, plan.identity, {layout.RECIPE_FILE: recipe_text.encode()}):
        done, adopted = outputs.finished(folder, plan.input.shards)
        ledger.append(folder, adopted)
        left = [shard for shard in plan.input.shards if shard.id not in done]
        skipped = len(done)
        progress.begin(recipe.name, {shard.id: shard.text_bytes for shard in plan.input.shards}, done)
        is_wide = any(phase.is_corpus_wide for phase in recipe.phases)
        is_tallied = not _is_tallied_last(recipe) or (folder / layout.ORPHANED_BYTES_FILE).is_file()
        if left or not is_tallied:
            corpus = Corpus(recipe, prepare(recipe), plan.input.shards, folder)
            tasks, needed = len(corpus.shards if is_wide else left), worker_memory_bytes(plan)
            chosen, count = choose_backend(backend, workers, tasks, needed, shared_filesystem)
            if left:
                _run_rounds(corpus, rounds_before(corpus), chosen, count, progress)
                done.update(_curate(folder, CurateStep(corpus), left, chosen, count, progress))
            _run_rounds(corpus, rounds_after(corpus), chosen, count, progress)
            if job := dedup_job(corpus):
                write_bytes(f"{orphaned_bytes(job)}\n".encode(), folder, layout.ORPHANED_BYTES_FILE)
        progress.end()
        finished = _finish(plan, folder, done, skipped)
        Exchange(folder).clear()
        return finished


def _curate(
    folder: Path,
    step: Step[Shard, Receipt],
    shards: Sequence[Shard],
    backend: Backend,
    workers: int,
    progress: Progress,
) -> dict[str, Receipt]:
    """Curate shards; their receipts by id."""
    done: dict[str, Receipt] = {}
    with closing(_receipts(folder, backend, step, shards, min(workers, len(shards)))) as receipts:
        for receipt in receipts:
            done[receipt.task] = receipt
            progress.finished(receipt)
    return done


def _is_tallied_last(recipe: Recipe) -> bool:
    """Whether orphaned bytes are counted after the last shard: dedup saw more than a shard."""
    return any(phase.dedup and phase.dedup.scope != "shard" for phase in recipe.phases)


def _run_rounds(corpus: Corpus, rounds: Sequence[Round], backend: Backend, workers: int, progress: Progress) -> None:
    """Run the tasks of each round that have not left their file yet."""
    for its in rounds:
        if left := [task for task in range(its.tasks) if not corpus.exchange.has(its.name, task)]:
            progress.stage(its.name, len(left))
            list(_receipts(corpus.output, backend, RoundStep(corpus, its.name), left, min(workers, len(left))))


def _receipts(
    folder: Path, backend: Backend, step: Step[Task, Receipt], tasks: Sequence[Task], workers: int
) -> Generator[Receipt, None, None]:
    """The receipts of a step, written to the ledger as they come."""
    with closing(backend.run(step, tasks, workers)) as receipts, closing(ledger.keep(folder, receipts)) as kept:
        yield from kept


def _finish(plan: Plan, folder: Path, done: dict[str, Receipt], skipped: int) -> Run:
    statistics = Statistics()
    samples: list[Samples] = []
    quarantined = {file.id: file.reason for file in plan.input.unreadable}
    for shard in plan.input.shards:
        if done[shard.id].state != COMMITTED:
            quarantined[shard.id] = done[shard.id].reason or "unknown"
            continue
        told = json.loads((folder / layout.statistics_path(shard.id)).read_text("utf-8"))
        statistics += Statistics.from_json(told["statistics"])
        samples.append(told["samples"])
    if (folder / layout.ORPHANED_BYTES_FILE).is_file():
        statistics.counts["orphaned_bytes"] = int((folder / layout.ORPHANED_BYTES_FILE).read_text("utf-8"))
    finished = Run(
        folder, plan.recipe, statistics, merge_examples(samples), len(plan.input.shards), skipped, quarantined
    )
    told = {"statistics": statistics.to_json(), "samples": finished.samples, "quarantined_shards": quarantined}
    write_bytes((json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode(), folder, layout.STATISTICS_FILE)
    write_bytes(dataset_card(finished, plan).encode(), folder, layout.CARD_FILE)
    return finished


def worker_memory_bytes(plan: Plan) -> int:
    """What one worker is expected to need: libraries, models, and the largest shard, group or partition."""
    largest = max((shard.text_bytes for shard in plan.input.shards), default=0)
    dedup = next((phase.dedup for phase in plan.recipe.phases if phase.dedup), None)
    per_byte, reducer = BYTES_PER_BYTE, 0
    if dedup:
        if dedup.engine == "suffix-array":
            per_byte = BYTES_PER_BYTE_OF_SUFFIX_ARRAY
        elif dedup.unit == "tokens":
            per_byte = BYTES_PER_BYTE_OF_TOKENS
        if dedup.scope == "group":
            largest = max(largest, min(dedup.group_max_bytes, plan.input.text_bytes))
    if any(phase.is_corpus_wide for phase in plan.recipe.phases):
        rows = sum(shard.rows for shard in plan.input.shards)
        reducer = max(REDUCER_MEMORY_BYTES, CLUSTER_BYTES_PER_ROW * rows)
    models = sum(model.size_bytes for model in plan.models)
    return int(WORKER_BYTES + max(models + per_byte * largest, reducer))


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3))
