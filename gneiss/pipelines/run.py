"""The job: plan, claim the output, curate what is left, merge the statistics, say what happened."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import xxhash

from gneiss.backends import Backend, Workers
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import Resources, worker_resources
from gneiss.curate.examples import Examples, merge_examples
from gneiss.curate.loaded_models import prepare
from gneiss.curate.statistics import Statistics
from gneiss.errors import BudgetError, DefectError
from gneiss.input.plan import Plan, make_plan
from gneiss.input.shard import Shard
from gneiss.jobs.job import Job, open_job
from gneiss.jobs.progress import Progress, Silent
from gneiss.jobs.resume import Kind
from gneiss.output import layout, ledger
from gneiss.output.claim import refuse_nesting
from gneiss.output.data_files import DataFiles
from gneiss.output.dataset_card import dataset_card
from gneiss.output.finished_run import FinishedRun
from gneiss.output.ledger import COMMITTED, CURATE, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.pipelines.reshard import Hire, finish, laid_out, lay_out, refuse_unfit, write_shards
from gneiss.recipe.recipe import Recipe
from gneiss.stages.checking import CHECK, CheckStep
from gneiss.stages.corpus import Corpus
from gneiss.stages.curating import CurateStep
from gneiss.stages.exchange import Exchange
from gneiss.stages.of_recipe import RunStage, StageWork, counted_after, counts_after, stages_after, stages_before
from gneiss.store.place import Address, Place, place_of

# Memory of a worker where no step needs more, beside WORKER_BYTES: for each byte of text of a shard, of its ids and
# URLs, of the largest table that is read of it at once, and for each row.
BYTES_PER_BYTE, BYTES_PER_HELD_BYTE, BYTES_PER_TABLE_BYTE, BYTES_PER_ROW = 4, 5, 2, 400

_log = logging.getLogger(__name__)
#: The receipt that says by which shards all others are decided, where shards see each other.
USABLE = "usable"
CURATION = Kind(CURATE, "shard", layout.annotations_path, layout.held_shards)


def run(
    recipe: Recipe | str | Path,
    input: Address,
    output: Address,
    *,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    progress: Progress = Silent(),  # noqa: B008
) -> FinishedRun:
    """Curate every shard of an input into an output; finished shards are skipped, so the same call resumes.

    Parameters: `recipe`: a Recipe, the name of a packaged one, or a YAML file; `input`: file, directory or glob, as a
    path or an address of a store; `output`: a folder; `workers`: processes or actors, by default one a CPU as memory
    allows; `backend`: `auto` takes Ray inside a Ray job or when RAY_ADDRESS is set; or a Backend; `progress`: called as
    shards finish. Raises RecipeError, InputError, ModelError, OutputError, StoreError, MachineError. Budgets:
    `FinishedRun.check_budgets`.

    >>> import gneiss
    >>> done = gneiss.run("gneissweb-bytes", "crawl/", "curated/")  # doctest: +SKIP
    >>> done.statistics.counts["kept"]  # doctest: +SKIP
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    folder = place_of(output, "output")
    refuse_nesting(input, (), folder)  # whose files could be taken for input
    plan = make_plan(recipe, input, DataFiles.of(recipe.output).refusal)
    refuse_nesting(input, [shard.file for shard in plan.input.shards], folder)
    hire = partial(choose_workers, backend, workers, shared_filesystem=shared_filesystem)
    with _open(plan, folder, progress) as job:
        return _run(job, plan, hire) if recipe.output.shard_bytes is None else _run_and_lay_out(job, plan, hire)


def _open(plan: Plan, folder: Place, progress: Progress) -> AbstractContextManager[Job]:
    return open_job(folder, plan.identity, progress, {layout.RECIPE_FILE: plan.recipe.to_yaml().encode()})


def _run(job: Job, plan: Plan, hire: Hire) -> FinishedRun:
    """Curate what is left of a plan, one data file a shard."""
    recipe, folder = plan.recipe, job.output
    done = job.finished(CURATION, plan.input.shards)
    skipped = len(done)
    corpus = Corpus(recipe, (), plan.input.shards, folder)
    if corpus.wide_phases:
        unusable = _unusable(folder)
        if len(unusable) + len(plan.input.unreadable) <= recipe.budgets.shards:  # else they are tried again
            done |= unusable
    job.progress.begin(recipe.name, {shard.id: shard.text_bytes for shard in plan.input.shards}, done)
    if len(done) < len(corpus.shards) or not _are_counted(corpus):
        corpus = replace(corpus, prepared=prepare(recipe))
        tasks = len(corpus.shards) - (0 if corpus.wide_phases else len(done))
        with hire(tasks, resources_of(plan)).kept() as kept:
            if corpus.wide_phases:
                done = _curate_usable(job, kept, corpus, done, len(plan.input.unreadable))
            else:
                done = _curate(job, kept, corpus, done)
    job.progress.end()
    job.check()
    for shard in plan.input.shards:
        if done[shard.id].state != COMMITTED:  # whatever was written of it before it failed
            for path in layout.shard_paths(shard.id, recipe.output.format):
                (folder / path).delete()
    finished = _finish(plan, folder, done, skipped, counted_after(corpus))
    Exchange(folder).clear()
    return finished


def _run_and_lay_out(job: Job, plan: Plan, hire: Hire) -> FinishedRun:
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
    with _open(own, within, job.progress) as inner:
        curated = _run(inner, own, hire)
        try:
            curated.check_budgets()
        except (BudgetError, DefectError):
            return curated
        new = lay_out(curated, folder, plan.recipe.output)
        write_shards(job, hire, new)
        finished = finish(job, new, lambda: dataset_card(plan, curated.statistics, curated.quarantined_shards, folder))
    within.delete()
    return finished


def _curate(job: Job, workers: Workers, corpus: Corpus, done: Mapping[str, Receipt]) -> dict[str, Receipt]:
    """Curate the shards that are not done; receipts of all."""
    done = dict(done)
    if left := [shard for shard in corpus.shards if shard.id not in done]:
        _run_stages(job, workers, corpus, stages_before(corpus))
        _forget_counts(corpus)
        done.update(job.run_tasks(workers, CURATE, CurateStep(corpus), left))
    return done


def _curate_usable(
    job: Job, workers: Workers, corpus: Corpus, done: Mapping[str, Receipt], unreadable: int
) -> dict[str, Receipt]:
    """The same for shards that see each other, as if there were no others than the usable ones.

    A shard that cannot be curated although it was read in full (a filter failed, its worker died) may have been a first
    copy. Where the budget allows to do without it, all is decided again without it; else it is tried again next time.
    """
    _check(job, workers, corpus, done)
    while True:
        unusable = _unusable(corpus.output)
        for id_ in unusable.keys() - done.keys():
            job.progress.finished(replace(unusable[id_], stage=CURATE))
        usable = replace(corpus, shards=_counted(corpus, unusable))
        if not _are_decided_with(corpus, usable):
            _start_again(job, usable)
            done = unusable
        receipts = _curate(job, workers, usable, done)
        lost = {id_: its for id_, its in receipts.items() if its.state != COMMITTED and id_ not in unusable}
        if not lost or unreadable + len(unusable) + len(lost) > corpus.recipe.budgets.shards:
            break
        _log.warning("%d shards failed that others were compared with: all are decided again without them", len(lost))
        job.note(replace(its, stage=CHECK) for its in lost.values())
        done = {**unusable, **lost}
        sizes = {shard.id: shard.text_bytes for shard in usable.shards}
        job.progress.begin(corpus.recipe.name, sizes, lost)
    if not _are_counted(usable):
        _run_stages(job, workers, usable, stages_after(usable))
        for name, total in counts_after(usable).items():
            write_bytes(f"{total}\n".encode(), corpus.output, layout.count_path(name))
    return {**receipts, **unusable}


def _check(job: Job, workers: Workers, corpus: Corpus, done: Mapping[str, Receipt]) -> None:
    """Verdicts on the shards that have none in the ledger, and on those found unusable that are not done with."""
    known = ledger.read(corpus.output, CHECK)
    known = {id_: its for id_, its in known.items() if its.state == COMMITTED or id_ in done}
    if left := [shard for shard in corpus.shards if shard.id not in known]:
        job.progress.stage(CHECK, len(left))
        job.run_tasks(workers, CHECK, CheckStep(), left)


def _counted(corpus: Corpus, unusable: Collection[str]) -> tuple[Shard, ...]:
    """The shards that are usable, with the rows that were counted when they were checked."""
    verdicts = ledger.read(corpus.output, CHECK)
    return tuple(its.counted(verdicts[its.id].rows) for its in corpus.shards if its.id not in unusable)


def _unusable(output: Place) -> dict[str, Receipt]:
    """The verdicts in the ledger on shards that cannot be used, by id."""
    return {id_: its for id_, its in ledger.read(output, CHECK).items() if its.state != COMMITTED}


def _are_decided_with(corpus: Corpus, usable: Corpus) -> bool:
    """Whether all that was decided so far was decided with the usable shards, and with no others."""
    noted = ledger.read(corpus.output, USABLE).get(USABLE)
    return _ids(usable) == (noted.fingerprint if noted else _ids(corpus))


def _start_again(job: Job, usable: Corpus) -> None:
    """Forget what was decided with other shards than the usable ones; then note with which ones it is from now on."""
    job.check()
    for folder in (layout.BASE, layout.DATA, layout.QUARANTINE):
        (job.output / folder).delete()
    Exchange(job.output).clear()
    job.note([Receipt(USABLE, COMMITTED, _ids(usable), None, stage=USABLE)])


def _ids(corpus: Corpus) -> str:
    return xxhash.xxh3_128_hexdigest("\0".join(shard.id for shard in corpus.shards).encode())


def _are_counted(corpus: Corpus) -> bool:
    """Whether the counts of the stages after `curate` are there."""
    return all((corpus.output / layout.count_path(name)).find() for name in counted_after(corpus))


def _forget_counts(corpus: Corpus) -> None:
    """What an earlier driver counted after `curate` does not hold once another shard is curated: count anew."""
    for name in counted_after(corpus):
        (corpus.output / layout.count_path(name)).delete()
    for its in stages_after(corpus):
        for part in its.parts:
            corpus.exchange.discard(part.name)


def _run_stages(job: Job, workers: Workers, corpus: Corpus, stages: Iterable[RunStage]) -> None:
    """Run the tasks of each stage that have not left their file yet."""
    for its in stages:
        names = [part.name for part in its.parts]
        left = [t for t in range(its.tasks) if not all(corpus.exchange.has(name, t) for name in names)]
        job.run_stage(workers, its.name, StageWork(corpus, its.name), left)


def _finish(
    plan: Plan, folder: Place, done: dict[str, Receipt], finished_before: int, counted_last: Sequence[str]
) -> FinishedRun:
    statistics = Statistics()
    examples: Examples = {}
    quarantined = {file.id: file.reason for file in plan.input.unreadable}
    for shard in plan.input.shards:
        if done[shard.id].state != COMMITTED:
            quarantined[shard.id] = done[shard.id].reason or "unknown"
            continue
        stored = json.loads((folder / layout.statistics_path(shard.id)).read())
        statistics += Statistics.from_json(stored["statistics"])
        examples = merge_examples(examples, stored["samples"])
    for name in counted_last:
        statistics.counts[name] = int((folder / layout.count_path(name)).read())
    stored = {"statistics": statistics.to_json(), "samples": examples, "quarantined_shards": quarantined}
    write_bytes((json.dumps(stored, ensure_ascii=False, indent=1) + "\n").encode(), folder, layout.STATISTICS_FILE)
    write_bytes(dataset_card(plan, statistics, quarantined, folder).encode(), folder, layout.CARD_FILE)
    failed = [id_ for id_, receipt in done.items() if receipt.is_defect]
    return FinishedRun(folder, statistics, examples, quarantined, failed, finished_before)


def resources_of(plan: Plan) -> Resources:
    """What one worker is expected to need: libraries, models, and the largest shard, group or partition."""
    shards = plan.input.shards
    steps = [step for phase in plan.recipe.phases for step in phase.steps]
    beside = max(map(_beside_text, shards), default=0)
    largest = max((BYTES_PER_BYTE * shard.text_bytes + _beside_text(shard) for shard in shards), default=0)
    held = max([largest, *(step.shard_memory_bytes(shards) + beside for step in steps)])
    reducer, key = max(((step.reducer_memory_bytes(shards), step.key) for step in steps), default=(0, ""))
    models = sum(model.size_bytes for model in plan.models)
    if reducer > models + held:
        return worker_resources(reducer, key)
    return worker_resources(int(models + held))


def _beside_text(shard: Shard) -> int:
    """Memory for what a shard has beside its text."""
    tables = BYTES_PER_TABLE_BYTE * shard.table_bytes
    return tables + BYTES_PER_HELD_BYTE * shard.held_bytes + BYTES_PER_ROW * shard.rows
