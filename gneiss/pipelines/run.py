"""The job: plan, claim the output, curate what is left, merge the statistics, say what happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
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
from gneiss.stages.corpus import Corpus
from gneiss.stages.curating import CurateStep
from gneiss.stages.exchange import Exchange
from gneiss.stages.of_recipe import RunStage, StageWork, counted_after, counts_after, stages_after, stages_before

# Resident memory of a worker without models, and for each byte of text of a shard where no step needs more.
WORKER_BYTES = 600_000_000
BYTES_PER_BYTE = 4


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
        corpus = Corpus(recipe, (), plan.input.shards, folder)
        if left or not all((folder / layout.count_path(name)).is_file() for name in counted_after(corpus)):
            corpus = replace(corpus, prepared=prepare(recipe))
            tasks, needed = len(corpus.shards if corpus.wide_phases else left), worker_memory_bytes(plan)
            chosen, count = choose_backend(backend, workers, tasks, needed, shared_filesystem)
            if left:
                _run_stages(corpus, stages_before(corpus), chosen, count, progress)
                _forget_counts(corpus)
                done.update(_curate(folder, CurateStep(corpus), left, chosen, count, progress))
            _run_stages(corpus, stages_after(corpus), chosen, count, progress)
            for name, total in counts_after(corpus).items():
                write_bytes(f"{total}\n".encode(), folder, layout.count_path(name))
        progress.end()
        finished = _finish(plan, folder, done, skipped, counted_after(corpus))
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


def _forget_counts(corpus: Corpus) -> None:
    """What an earlier driver counted after `curate` does not hold once another shard is curated: count anew."""
    for name in counted_after(corpus):
        (corpus.output / layout.count_path(name)).unlink(missing_ok=True)
    for its in stages_after(corpus):
        for part in its.parts:
            corpus.exchange.discard(part.name)


def _run_stages(corpus: Corpus, stages: Iterable[RunStage], backend: Backend, workers: int, progress: Progress) -> None:
    """Run the tasks of each stage that have not left their file yet."""
    for its in stages:
        names = [part.name for part in its.parts]
        if left := [t for t in range(its.tasks) if not all(corpus.exchange.has(name, t) for name in names)]:
            progress.stage(its.name, len(left))
            list(_receipts(corpus.output, backend, StageWork(corpus, its.name), left, min(workers, len(left))))


def _receipts(
    folder: Path, backend: Backend, step: Step[Task, Receipt], tasks: Sequence[Task], workers: int
) -> Generator[Receipt, None, None]:
    """The receipts of a step, written to the ledger as they come."""
    with closing(backend.run(step, tasks, workers)) as receipts, closing(ledger.keep(folder, receipts)) as kept:
        yield from kept


def _finish(plan: Plan, folder: Path, done: dict[str, Receipt], skipped: int, counted_last: Sequence[str]) -> Run:
    statistics = Statistics()
    samples: Samples = {}
    quarantined = {file.id: file.reason for file in plan.input.unreadable}
    for shard in plan.input.shards:
        if done[shard.id].state != COMMITTED:
            quarantined[shard.id] = done[shard.id].reason or "unknown"
            continue
        told = json.loads((folder / layout.statistics_path(shard.id)).read_text("utf-8"))
        statistics += Statistics.from_json(told["statistics"])
        samples = merge_examples(samples, told["samples"])
    for name in counted_last:
        statistics.counts[name] = int((folder / layout.count_path(name)).read_text("utf-8"))
    finished = Run(folder, plan.recipe, statistics, samples, len(plan.input.shards), skipped, quarantined)
    told = {"statistics": statistics.to_json(), "samples": finished.samples, "quarantined_shards": quarantined}
    write_bytes((json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode(), folder, layout.STATISTICS_FILE)
    write_bytes(dataset_card(finished, plan).encode(), folder, layout.CARD_FILE)
    return finished


def worker_memory_bytes(plan: Plan) -> int:
    """What one worker is expected to need: libraries, models, and the largest shard, group or partition."""
    shards = plan.input.shards
    steps = [step for phase in plan.recipe.phases for step in phase.steps]
    largest = BYTES_PER_BYTE * max((shard.text_bytes for shard in shards), default=0)
    held = max([largest, *(step.shard_memory_bytes(shards) for step in steps)])
    reducer = max((step.reducer_memory_bytes(shards) for step in steps), default=0)
    models = sum(model.size_bytes for model in plan.models)
    return int(WORKER_BYTES + max(models + held, reducer))


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3))
