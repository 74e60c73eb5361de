"""Curate the shards of a run: the stages before, `curate` itself, and the stages after; with the choice of shards."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import xxhash

from gneiss.backends import Workers
from gneiss.errors import OutputError
from gneiss.input.shard import Shard
from gneiss.jobs.bundle import MOST_AHEAD_BYTES, MOST_BYTES, SMALL_BYTES, Bundle, bundled
from gneiss.jobs.job import Job
from gneiss.jobs.resume import Kind
from gneiss.output import layout, ledger
from gneiss.output.ledger import COMMITTED, CURATE, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.pipelines.numbers import as_kept
from gneiss.pipelines.run_stages import run_stages
from gneiss.stages.checking import CHECK, CHECK_INDEX, CheckIndexStep, CheckStep, KeptFile
from gneiss.stages.corpus import Corpus
from gneiss.stages.curating import CurateStep, are_decided_together
from gneiss.stages.indexing import is_indexed, write_manifests
from gneiss.stages.of_recipe import counted_after, counts_after, stages_after, stages_before
from gneiss.store.at_once import AT_ONCE
from gneiss.store.place import Place

#: Larger files are not read ahead: a round trip is little beside the time that one takes, and its memory is not.
_AHEAD_BYTES = 64_000_000
_log = logging.getLogger(__name__)
#: The receipt that says by which shards all others are decided, where shards see each other.
USABLE = "usable"
CURATION = Kind(CURATE, "shard", layout.annotations_path, layout.shard_files)


def curate(job: Job, workers: Workers, corpus: Corpus, done: Mapping[str, Receipt]) -> dict[str, Receipt]:
    """Curate the shards that are not done, of the share of this driver; receipts of all that are done."""
    done = dict(done)
    if left := [shard for number, shard in enumerate(corpus.shards) if shard.id not in done and job.has(number)]:
        _run_stages_before(job, workers, corpus)
        _forget_counts(corpus)
        step = CurateStep(corpus if corpus.sees_all else replace(corpus, shards=()))  # no list of all, if unread
        tasks = _bundled(left, workers.count) if are_decided_together(corpus) else left
        done.update(job.run_tasks(workers, CURATE, step, tasks, len(corpus.shards)))
    return done


def _bundled(shards: Sequence[Shard], workers: int) -> Sequence[Shard | Bundle[Shard]]:
    most = MOST_AHEAD_BYTES if any(map(is_read_ahead, shards)) else MOST_BYTES
    return bundled(shards, _size_of, workers, most)


def _size_of(shard: Shard) -> float:
    """About the bytes that a file takes; a part of one is never small: its worker reads on to the next one."""
    file = shard.file.version
    size = math.inf if shard.part.name or file is None else file.size_bytes + shard.text_bytes + shard.held_bytes
    return size if size <= _AHEAD_BYTES else math.inf


def is_read_ahead(shard: Shard) -> bool:
    """Whether it may be held in memory while another is decided, and not only if it is small."""
    return shard.file.store.files_at_once >= AT_ONCE and SMALL_BYTES < _size_of(shard) < math.inf


def curate_share_of_usable(job: Job, workers: Workers, corpus: Corpus, done: Mapping[str, Receipt]) -> None:
    """Curate the share of this driver, of shards that see each other; in each stage it waits for the others.

    What fails is left to the driver of the whole, who comes last.
    """
    _check(job, workers, corpus, {**done, **unusable_shards(corpus.output)})
    job.wait_for_others(CHECK, lambda: _without_verdict(corpus))
    unusable = unusable_shards(corpus.output)
    usable = replace(corpus, shards=_counted(corpus, unusable))
    if job.has(0) and not _are_decided_with(corpus, usable):
        _start_again(job, corpus, usable)
        done = unusable
    job.wait_for_others(USABLE, lambda: [] if _are_decided_with(corpus, usable) else [0])
    curate(job, workers, usable, {**done, **unusable})


def curate_usable(
    job: Job, workers: Workers, corpus: Corpus, done: Mapping[str, Receipt], unreadable: int
) -> dict[str, Receipt]:
    """The same for shards that see each other, as if there were no others than the usable ones.

    Shards of other increments are done, if they come before these; they stay as they are.

    A shard that cannot be curated although it was read in full (a filter failed, its worker died) may have been a first
    copy. Where the budget allows to do without it, all is decided again without it; else it is tried again next time.
    """
    _check(job, workers, corpus, done)
    others = {id_: receipt for id_, receipt in done.items() if id_ not in corpus.shard_numbers}
    while True:
        unusable = unusable_shards(corpus.output)
        for id_ in unusable.keys() - done.keys():
            job.progress.finished(replace(unusable[id_], stage=CURATE))
        usable = replace(corpus, shards=_counted(corpus, unusable))
        if not _are_decided_with(corpus, usable):
            _start_again(job, corpus, usable)
            done = {**others, **unusable}
        receipts = curate(job, workers, usable, done)
        failed = {id_: receipt for id_, receipt in receipts.items() if receipt.state != COMMITTED}
        lost = {id_: receipt for id_, receipt in failed.items() if id_ in corpus.shard_numbers and id_ not in unusable}
        if not lost or unreadable + len(unusable) + len(lost) > corpus.recipe.budgets.shards:
            break
        _log.warning("%d shards failed that others were compared with: all are decided again without them", len(lost))
        job.note(replace(receipt, stage=CHECK) for receipt in lost.values())
        done = {**others, **unusable, **lost}
        sizes = {shard.id: shard.text_bytes for shard in usable.shards}
        job.progress.begin(corpus.recipe.name, sizes, lost)
    if as_kept(corpus.recipe, corpus.output).shares:  # whose numbers nobody has found where no shard was left
        _run_stages_before(job, workers, usable)
    count_after(job, workers, usable)
    _keep_index(job, workers, usable)
    return {**receipts, **unusable}


def _keep_index(job: Job, workers: Workers, corpus: Corpus) -> None:
    """Run the stages whose files are kept, if that was not done, and say that they are whole."""
    if corpus.keeps_index and not is_indexed(corpus):
        _run_stages_before(job, workers, corpus)
        write_manifests(corpus)


def _run_stages_before(job: Job, workers: Workers, corpus: Corpus) -> None:
    """Run the stages before `curate`; what they read of indexes is checked first. Raises OutputError."""
    segments = (segment for of_step in corpus.segments.values() for segment in of_step)
    files = [KeptFile(segment.folder, file) for segment in segments for file in segment.written]
    if left := [file for number, file in enumerate(files) if job.has(number)]:
        job.progress.stage(CHECK_INDEX, len(left))
        job.run_tasks(workers, CHECK_INDEX, CheckIndexStep(), left, len(files))
    run_stages(job, workers, corpus, stages_before(corpus))


def count_after(job: Job, workers: Workers, corpus: Corpus) -> None:
    """Run the stages after `curate`, and keep what they count, unless that was done."""
    if not are_counted(corpus):
        run_stages(job, workers, corpus, stages_after(corpus))
        for name, total in counts_after(corpus).items():
            write_bytes(f"{total}\n".encode(), corpus.output, layout.count_path(name, corpus.increment))


def _check(job: Job, workers: Workers, corpus: Corpus, done: Mapping[str, Receipt]) -> None:
    """Verdicts on the shards that have none in the ledger, and on those found unusable that are not done with."""
    known = ledger.read(corpus.output, CHECK)
    known = {id_: receipt for id_, receipt in known.items() if receipt.state == COMMITTED or id_ in done}
    if left := [shard for number, shard in enumerate(corpus.shards) if shard.id not in known and job.has(number)]:
        job.progress.stage(CHECK, len(left))
        job.run_tasks(workers, CHECK, CheckStep(), left, len(corpus.shards))


def _without_verdict(corpus: Corpus) -> list[int]:
    known = ledger.read(corpus.output, CHECK)
    return [number for number, shard in enumerate(corpus.shards) if shard.id not in known]


def _counted(corpus: Corpus, unusable: Collection[str]) -> tuple[Shard, ...]:
    """The shards that are usable, with the rows that were counted when they were checked."""
    verdicts = ledger.read(corpus.output, CHECK)
    return tuple(shard.counted(verdicts[shard.id].rows) for shard in corpus.shards if shard.id not in unusable)


def unusable_shards(output: Place) -> dict[str, Receipt]:
    """The verdicts in the ledger on shards that cannot be used, by id."""
    return {id_: receipt for id_, receipt in ledger.read(output, CHECK).items() if receipt.state != COMMITTED}


def _are_decided_with(corpus: Corpus, usable: Corpus) -> bool:
    """Whether all that was decided so far was decided with the usable shards, and with no others."""
    noted = ledger.read(corpus.output, USABLE).get(_usable(corpus))
    return _ids(usable) == (noted.fingerprint if noted else _ids(corpus))


def _usable(corpus: Corpus) -> str:
    """The task of the receipt that says which shards of an increment are usable."""
    return f"{USABLE}-{corpus.increment}" if corpus.increment else USABLE


def _start_again(job: Job, corpus: Corpus, usable: Corpus) -> None:
    """Forget what was decided with other shards than the usable ones; then note with which ones it is from now on.

    Raises OutputError where a later increment was decided after it.
    """
    job.check()
    if next((job.output / layout.index_folder(corpus.increment + 1)).files(), None) is not None:
        raise OutputError(
            f"{job.output}: a shard of increment {corpus.increment} is lost, and later ones were compared with it;"
            " restore its files, or choose another output"
        )
    if corpus.increment:
        own = (layout.shard_paths(shard.id, corpus.recipe.output.format) for shard in corpus.shards)
        for path in (path for paths in own for path in paths):
            (job.output / path).delete()
    else:
        for folder in (layout.BASE, layout.DATA, layout.QUARANTINE):
            (job.output / folder).delete()
    (job.output / layout.index_folder(corpus.increment)).delete()
    corpus.exchange.clear()
    job.note([Receipt(_usable(corpus), COMMITTED, _ids(usable), None, stage=USABLE)])


def _ids(corpus: Corpus) -> str:
    return xxhash.xxh3_128_hexdigest("\0".join(shard.id for shard in corpus.shards).encode())


def are_counted(corpus: Corpus) -> bool:
    """Whether the counts of the stages after `curate` are there, of this increment and those before."""
    paths = (layout.count_path(name, n) for name in counted_after(corpus) for n in range(corpus.increment + 1))
    return all((corpus.output / path).find() for path in paths)


def _forget_counts(corpus: Corpus) -> None:
    """What an earlier driver counted after `curate` does not hold once another shard is curated: count again."""
    for name in counted_after(corpus):
        (corpus.output / layout.count_path(name, corpus.increment)).delete()
    for stage in stages_after(corpus):
        for part in stage.parts:
            corpus.exchange.discard(part.name)
