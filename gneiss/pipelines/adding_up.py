"""What follows the last shard of a run: what shards counted is added up, and the card is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import xxhash

from gneiss.backends import Workers
from gneiss.curate.statistics import Statistics
from gneiss.input.plan import Plan
from gneiss.jobs.job import Job
from gneiss.output import layout, ledger
from gneiss.output.dataset_card import dataset_card
from gneiss.output.finished_run import FinishedRun
from gneiss.output.json_text import indented
from gneiss.output.ledger import COMMITTED, CURATE, Receipt
from gneiss.output.parquet import write_bytes, write_new
from gneiss.output.run_so_far import added_up
from gneiss.stages.summing import SUM, Group, SumStep, groups_of, left_of, paths_of
from gneiss.store.place import Place

#: The receipt that says which statistics were added up.
SUMMED = "summed"


def finish(
    job: Job,
    plan: Plan,
    done: Mapping[str, Receipt],
    finished_before: int,
    counted_last: Sequence[str],
    is_new: bool,
) -> FinishedRun:
    """Add up what all shards say, unless it is noted that this was done since any was curated.

    is_new: nothing of the output was finished before, so that no note and no file of it has to be read.
    """
    folder, quarantined = job.output, _quarantined(plan, done)
    write = write_new if is_new else write_bytes
    if not is_new and _note_of(plan, folder, done):
        stored = json.loads((folder / layout.STATISTICS_FILE).read())
        statistics, examples = Statistics.from_json(stored["statistics"]), stored["samples"]
    else:
        shards = _committed(plan, done)
        statistics, examples = added_up(folder, paths_of(shards, groups_of(shards)))
        for name in counted_last:
            paths = (layout.count_path(name, increment) for increment in range(plan.last_increment + 1))
            statistics.counts[name] = sum(int((folder / path).read()) for path in paths)
        stored = {"statistics": statistics.to_json(), "samples": examples, "quarantined_shards": quarantined}
        content = (indented(stored) + "\n").encode()
        files = (write(content, folder, layout.STATISTICS_FILE),)
        job.note([Receipt(SUMMED, COMMITTED, _digest(plan, done), None, files=files, stage=SUMMED)])
    write(dataset_card(plan, statistics, quarantined, folder).encode(), folder, layout.CARD_FILE)
    failed = [id_ for id_, receipt in done.items() if receipt.is_defect]
    return FinishedRun(folder, statistics, examples, quarantined, failed, finished_before)


def left_to_sum(plan: Plan, folder: Place, done: Mapping[str, Receipt]) -> list[Group]:
    """The groups of shards that nobody has added up, where the statistics of all are not there yet."""
    groups = groups_of(_committed(plan, done))
    return left_of(folder, groups) if groups and not _note_of(plan, folder, done) else []


def sum_groups(job: Job, workers: Workers, plan: Plan, done: Mapping[str, Receipt]) -> None:
    """Add up the groups that are left."""
    if left := left_to_sum(plan, job.output, done):
        job.progress.stage(SUM, len(left))
        job.run_tasks(workers, SUM, SumStep(job.output), left, len(groups_of(_committed(plan, done))))


def _note_of(plan: Plan, folder: Place, done: Mapping[str, Receipt]) -> Receipt | None:
    """The note that the statistics of these shards were added up, if they were and none was finished since.

    A shard that is quarantined again, as before, changes none of them.
    """
    noted = ledger.latest_committed(folder, (SUMMED, CURATE))
    is_it = noted and noted.stage == SUMMED and noted.fingerprint == _digest(plan, done)
    return noted if noted and is_it and ledger.is_whole(folder, noted) else None


def _digest(plan: Plan, done: Mapping[str, Receipt]) -> str:
    """What the statistics of a run depend on, beside its key: the shards in them, and those that are not."""
    named = "\0".join([*_committed(plan, done), json.dumps(_quarantined(plan, done))])
    return xxhash.xxh3_128_hexdigest(named.encode())


def _committed(plan: Plan, done: Mapping[str, Receipt]) -> list[str]:
    return [shard.id for shard in plan.input.shards if done[shard.id].state == COMMITTED]


def _quarantined(plan: Plan, done: Mapping[str, Receipt]) -> dict[str, str]:
    """The shards and files that could not be used, and why."""
    files = {file.id: file.reason for file in plan.input.unreadable}
    failed = {
        id_: receipt for id_ in (shard.id for shard in plan.input.shards) if (receipt := done[id_]).state != COMMITTED
    }
    return {**files, **{id_: receipt.reason or "unknown" for id_, receipt in failed.items()}}
