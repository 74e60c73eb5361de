"""The job: plan, claim the output, curate what is left, merge the statistics, say what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gneiss.backends import Backend
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.curate.loaded_models import prepare
from gneiss.errors import BudgetError, DefectError, InputError, RecipeError
from gneiss.input.plan import Plan, make_plan
from gneiss.jobs.job import Job, Publish, open_job, unpublished
from gneiss.jobs.meter import Meter
from gneiss.jobs.openmetrics import metrics_writer
from gneiss.jobs.progress import Progress, Silent
from gneiss.output import layout, ledger
from gneiss.output.claim import PATIENCE_SECONDS, Share, refuse_nesting
from gneiss.output.cost import Forecast
from gneiss.output.data_files import DataFiles
from gneiss.output.dataset_card import dataset_card
from gneiss.output.finished_run import FinishedRun
from gneiss.output.ledger import COMMITTED, PREDICTED, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.pipelines.adding_up import finish, left_to_sum, sum_groups
from gneiss.pipelines.curation import (
    CURATION,
    are_counted,
    count_after,
    curate,
    curate_share_of_usable,
    curate_usable,
    unusable_shards,
)
from gneiss.pipelines.increments import adds_to_index, corpora, grown, note_increments
from gneiss.pipelines.numbers import as_kept, once_known
from gneiss.pipelines.reshard import Hire, finish_shards, laid_out, lay_out, refuse_unfit, write_shards
from gneiss.pipelines.worker_memory import resources_of
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from gneiss.stages.exchange import Exchange
from gneiss.stages.indexing import is_indexed
from gneiss.stages.of_recipe import counted_after
from gneiss.stages.segments import checksums_against, refuse_other_models, segments_against
from gneiss.stages.stored import StoredRun
from gneiss.store.place import Address, Place, local_paths, place_of


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is executed; none of these options changes `data/` or `annotations/`. `run` describes each."""

    workers: int | None = None
    backend: BackendName | Backend = "auto"
    shared_filesystem: bool = False
    document_seconds: float | None = None
    gpus_per_worker: float | None = None
    progress: Progress = field(default_factory=Silent)
    metrics_file: Address | None = None
    predicted: Forecast | None = None
    keep_index: bool = False

    @property
    def publish(self) -> Publish:
        """What keeps the metrics file up to date, if one is asked for."""
        return unpublished if self.metrics_file is None else metrics_writer(self.metrics_file)


def run(
    recipe: Recipe | str | Path,
    input: Address,
    output: Address,
    *,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    document_seconds: float | None = None,
    gpus_per_worker: float | None = None,
    progress: Progress = Silent(),  # noqa: B008
    metrics_file: Address | None = None,
    predicted: Forecast | None = None,
    keep_index: bool = False,
) -> FinishedRun:
    """Curate every shard of an input into an output; the same call resumes.

    Parameters: `recipe`: a Recipe, the name of a packaged one, or a YAML file; `input`: file, folder or glob, as a path
    or a store address; `output`: a folder; `workers`: processes or actors, by default one per CPU as memory allows;
    `backend`: `auto` uses Ray inside a Ray job or if RAY_ADDRESS is set; or a Backend; `gpus_per_worker`: by default 1
    if an annotator needs a GPU, a fraction to share it; `progress`: called as shards finish; `metrics_file`: a file of
    OpenMetrics text, updated during the run; `predicted`: an estimate, for the ledger; `keep_index`: keep the index
    against which later runs deduplicate, also in a finished output. Raises RecipeError, InputError, ModelError,
    OutputError, StoreError, MachineError. Budgets: `FinishedRun.check_budgets`.

    >>> import gneiss
    >>> done = gneiss.run("gneissweb-bytes", "crawl/", "curated/")  # doctest: +SKIP
    >>> done.statistics.counts["kept"]  # doctest: +SKIP
    """
    options = RunOptions(
        workers=workers,
        backend=backend,
        shared_filesystem=shared_filesystem,
        document_seconds=document_seconds,
        gpus_per_worker=gpus_per_worker,
        progress=progress,
        metrics_file=metrics_file,
        predicted=predicted,
        keep_index=keep_index,
    )
    plan, folder, hire = _planned(recipe, input, output, options)
    with _open(plan, folder, progress, publish=options.publish) as job:
        _note(job, plan, predicted)
        note_increments(job, plan)
        if plan.recipe.output.shard_bytes is not None:
            return _run_and_lay_out(job, plan, hire)
        return _run(job, plan, hire, keep_index=keep_index)


def run_plan(plan: Plan, folder: Place, hire: Hire, progress: Progress, stored: StoredRun | None = None) -> FinishedRun:
    """Curate the shards of a plan into a folder; `stored`: what an earlier run knows. Raises what `run` raises."""
    with _open(plan, folder, progress) as job:
        return (_run if plan.recipe.output.shard_bytes is None else _run_and_lay_out)(job, plan, hire, stored)


def run_share(
    recipe: Recipe | str | Path,
    input: Address,
    output: Address,
    share: Share,
    options: RunOptions = RunOptions(),
) -> FinishedRun | None:
    """Process one of several shares of a run with independent drivers; see `run` for the other parameters.

    The last share to finish completes the run and returns it; the others return None. With corpus-scope steps, the
    shares wait for each other in every stage, so all must run at the same time. `run` completes whatever is left.
    Raises the errors of `run`, and RecipeError for output.shard_bytes.

    >>> gneiss.run_share("fineweb", "crawl/", "curated/", Share(task=3, of=8), RunOptions(workers=4))  # doctest: +SKIP
    """
    plan, folder, hire = _planned(recipe, input, output, options)
    if plan.recipe.output.shard_bytes is not None:
        raise RecipeError(
            "output.shard_bytes: a share of a run writes its own shards; leave it out, and `gneiss reshard`"
        )
    if plan.increments:
        raise RecipeError("a share of a run cannot add shards to a finished one; leave the share out")
    with _open(plan, folder, options.progress, share, PATIENCE_SECONDS, options.publish) as job:
        _note(job, plan, options.predicted)
        _curate_share(job, plan, hire, options.keep_index)
        decided = {**ledger.read(folder), **unusable_shards(folder)}
    if any(shard.id not in decided for shard in plan.input.shards):
        return None
    with _open(plan, folder, options.progress, None, PATIENCE_SECONDS, options.publish, job.meter) as job:
        return _run(job, plan, hire, keep_index=options.keep_index)


def _planned(
    recipe: Recipe | str | Path, input: Address, output: Address, options: RunOptions
) -> tuple[Plan, Place, Hire]:
    """Plan a run; say where its output is, and what chooses its workers."""
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    folder = place_of(output, "output")
    refuse_nesting(input, (), folder)  # whose files could be taken for input
    refusal, cuts = DataFiles.of(recipe.output).refusal, folder / layout.CUTS_FILE
    plan = grown(make_plan(recipe, input, refusal, cuts, indexes=indexes_of(recipe)), folder)
    refuse_other_indexes(plan)
    refuse_nesting(input, [shard.file for shard in plan.input.shards], folder)
    if options.keep_index:
        _refuse_index(plan)
    return plan, folder, hire_for(plan, [input, folder], options)


def indexes_of(recipe: Recipe) -> dict[str, str]:
    """Of each output that a step is run against, the checksum of its indexes. Raises InputError where it has none."""
    return checksums_against([step for phase in recipe.phases for step in phase.steps], recipe.folder)


def refuse_other_indexes(plan: Plan) -> None:
    """Refuse to run against an index that was made with other model files. Raises InputError."""
    steps = [step for phase in plan.recipe.phases for step in phase.steps]
    refuse_other_models(steps, plan.recipe.folder, {model.source: model.checksum for model in plan.models})


def _refuse_index(plan: Plan) -> None:
    """Refuse to keep an index that nothing could be compared with. Raises RecipeError."""
    steps = plan.recipe.over(plan.input.shards).wide_steps
    if not steps:
        raise RecipeError(f"keep_index: no step of {plan.recipe.name} sees more than a shard; leave it out")
    if all(step.index_parameters is None for step in steps):
        raise RecipeError(f"keep_index: {', '.join(step.key for step in steps)} keeps no index; leave it out")
    if plan.recipe.output.shard_bytes is not None:
        raise RecipeError("keep_index: leave output.shard_bytes out, and `gneiss reshard` what comes of it")


def hire_for(plan: Plan, places: Sequence[Address], options: RunOptions) -> Hire:
    """What chooses the workers of a plan, who read and write in these places."""
    models = [model.source if "://" in model.source else model.path for model in plan.models]
    return partial(
        choose_workers,
        options.backend,
        options.workers,
        shared_filesystem=options.shared_filesystem,
        local=local_paths([*places, *models]),
        document_seconds=options.document_seconds,
        gpus_per_worker=options.gpus_per_worker,
    )


def _open(
    plan: Plan,
    folder: Place,
    progress: Progress,
    share: Share | None = None,
    patience_seconds: float = 0.0,
    publish: Publish = unpublished,
    meter: Meter | None = None,
) -> AbstractContextManager[Job]:
    first = {layout.RECIPE_FILE: as_kept(plan.recipe, folder).to_yaml().encode()}
    noted = {"input": plan.source, "code": plan.code}
    return open_job(folder, plan.identity, progress, first, share, patience_seconds, publish, meter, noted)


def _note(job: Job, plan: Plan, predicted: Forecast | None) -> None:
    """Keep how the files of a large input were cut, and in the ledger what a run is predicted to take."""
    if plan.input.cuts:
        job.check()
        plan.input.cuts.write(job.output / layout.CUTS_FILE)
    if predicted:
        costs = {job.run: predicted.cost.noted(), **{name: {"work": work} for name, work in predicted.work.items()}}
        job.note(Receipt(name, COMMITTED, "", None, cost=cost, stage=PREDICTED) for name, cost in costs.items())


def _curate_share(job: Job, plan: Plan, hire: Hire, keep_index: bool) -> None:
    """Curate what is left of the share of this driver."""
    done = job.finished(CURATION, plan.input.shards)
    corpus = replace(_corpus(job, plan, None, keep_index), prepared=prepare(plan.recipe))
    mine = {shard.id: shard.text_bytes for number, shard in enumerate(corpus.shards) if job.has(number)}
    job.progress.begin(plan.recipe.name, mine, {id_: receipt for id_, receipt in done.items() if id_ in mine})
    with hire(len(mine), resources_of(plan).corrected(job.peaks)).kept() as kept:
        (curate_share_of_usable if corpus.sees_all else curate)(job, kept, corpus, done)
    job.progress.end()


def _corpus(job: Job, plan: Plan, stored: StoredRun | None, keep_index: bool) -> Corpus:
    """The corpus of a plan, without its models. Raises InputError where an index is not what it was."""
    recipe = plan.recipe.over(plan.input.shards)
    steps = (step for phase in recipe.phases for step in phase.steps if step.against)
    segments = {step.key: segments_against(step, plan.recipe.folder) for step in steps}
    shards = plan.input.shards
    return Corpus(recipe, (), shards, job.output, stored=stored, segments=segments, keeps_index=keep_index)


def _run(job: Job, plan: Plan, hire: Hire, stored: StoredRun | None = None, keep_index: bool = False) -> FinishedRun:
    """Curate what is left of a plan, one data file a shard."""
    recipe, folder = plan.recipe, job.output
    done = job.finished(CURATION, plan.input.shards)
    skipped, is_new = len(done), not any(receipt.state == COMMITTED for receipt in done.values())
    corpus = _corpus(job, plan, stored, keep_index or adds_to_index(plan, folder))
    if corpus.sees_all:
        unusable = unusable_shards(folder)
        if len(unusable) + len(plan.input.unreadable) <= recipe.budgets.shards:  # else they are tried again
            done |= unusable
    corpus = once_known(plan, corpus, done)
    job.progress.begin(recipe.name, {shard.id: shard.text_bytes for shard in plan.input.shards}, done)
    last = replace(corpus, increment=plan.last_increment)
    has_index = not corpus.keeps_index or is_indexed(last)
    is_done = len(done) == len(corpus.shards) and not corpus.recipe.shares and are_counted(last) and has_index
    if not is_done or left_to_sum(plan, folder, done):
        if stored is None:
            corpus = replace(corpus, prepared=prepare(recipe))
        tasks = len(corpus.shards) - (0 if corpus.sees_all else len(done))
        with hire(tasks, resources_of(plan).corrected(job.peaks)).kept() as kept:
            if corpus.sees_all:
                for increment in corpora(plan, corpus):
                    own = once_known(plan, increment, done)
                    done = curate_usable(job, kept, own, done, len(plan.input.unreadable))
                corpus = once_known(plan, corpus, done)
            else:
                done = curate(job, kept, corpus, done)
                _refuse_lost(corpus, done)
                count_after(job, kept, corpus)
            sum_groups(job, kept, plan, done)
    job.progress.end()
    job.check()
    for shard in plan.input.shards:
        if done[shard.id].state != COMMITTED:  # whatever was written of it before it failed
            for path in layout.shard_paths(shard.id, recipe.output.format):
                (folder / path).delete()
    if recipe.shares:
        plan = replace(plan, recipe=recipe.with_conditions(corpus.recipe.conditions))
        write_bytes(plan.recipe.to_yaml().encode(), folder, layout.RECIPE_FILE)
    finished = finish(job, plan, done, skipped, counted_after(corpus), is_new=is_new)
    Exchange(folder).clear()
    return finished


def _refuse_lost(corpus: Corpus, done: Mapping[str, Receipt]) -> None:
    """Refuse to go on without a shard that others were compared with. Raises InputError."""
    lost = [receipt for receipt in done.values() if receipt.state != COMMITTED] if corpus.counted_phases else []
    if lost:
        raise InputError(
            f"shard {lost[0].task}: {lost[0].reason}; others were compared with it in the run whose annotations are"
            " taken; fix the cause, or let `gneiss run` decide without it"
        )


def _run_and_lay_out(job: Job, plan: Plan, hire: Hire, stored: StoredRun | None = None) -> FinishedRun:
    """Curate into an output within the output, and lay its documents into new shards of this one.

    A run that is past its budgets is returned as it is, within: what failed can be tried again.
    """
    folder, within = job.output, job.output / layout.CURATED
    if (finished := laid_out(folder)) is not None:
        within.delete()
        return replace(finished, finished_before=len(finished.shards) + len(finished.quarantined_shards))
    refuse_unfit(plan.input.shards, plan.recipe.output)
    curating = plan.recipe.changed({"output.shard_bytes": None, "output.shuffle_seed": None})
    own = replace(plan, recipe=curating)
    with _open(own, within, job.progress, publish=job.publish) as inner:
        curated = _run(inner, own, hire, stored)
        try:
            curated.check_budgets()
        except (BudgetError, DefectError):
            return curated
        if plan.recipe.shares:
            plan = replace(plan, recipe=as_kept(plan.recipe, within))
            write_bytes(plan.recipe.to_yaml().encode(), folder, layout.RECIPE_FILE)
        new = lay_out(curated, folder, plan.recipe.output)
        write_shards(job, hire, new)
        finished = finish_shards(
            job, new, lambda: dataset_card(plan, curated.statistics, curated.quarantined_shards, folder)
        )
    within.delete()
    return finished
