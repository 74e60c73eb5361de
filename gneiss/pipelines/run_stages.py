"""Running the stages of corpus-wide steps: what is left of each, and the merge of what it hands on."""

from __future__ import annotations

from collections.abc import Iterable

from gneiss.backends import Workers
from gneiss.jobs.job import Job
from gneiss.stages.corpus import Corpus
from gneiss.stages.exchange import Exchange
from gneiss.stages.grid import grid_for
from gneiss.stages.merging import MergeWork
from gneiss.stages.of_recipe import RunStage, StageWork


def run_stages(job: Job, workers: Workers, corpus: Corpus, stages: Iterable[RunStage]) -> None:
    """Run the tasks of each stage that have not left their file yet; then all drivers have run theirs.

    Raises GneissError.
    """
    exchange = corpus.exchange
    for stage in stages:

        def left(stage: RunStage = stage) -> list[int]:
            return sorted({task for part in stage.parts for task in part.files(corpus).missing(part.name, stage.tasks)})

        job.run_stage(workers, stage.name, StageWork(corpus, stage.name), list(filter(job.has, left())), stage.tasks)
        job.wait_for_others(stage.name, left)
        for part in stage.parts:
            if part.receivers is not None:
                merge(job, workers, exchange, part.name, stage.tasks, part.receivers)
                if not part.is_read_by_task and exchange.is_merged(part.name):
                    job.check()
                    exchange.discard_tasks(part.name)


def merge(job: Job, workers: Workers, exchange: Exchange, stage: str, tasks: int, receivers: int) -> None:
    """Merge the files of a stage's tasks for their receivers, where that saves reads. Raises GneissError.

    An earlier driver may have decided how: what it left is used. Of several, the first one does.
    """
    size_bytes = exchange.size_bytes(stage)  # before the grid: whoever has one may have discarded files
    grid = exchange.grid(stage)
    if grid is None:
        grid = grid_for(tasks, receivers, size_bytes)
        if grid is None:
            return
        if job.has(0):
            job.check()
            exchange.write_grid(stage, grid)
        job.wait_for_others(f"merge_{stage}", lambda: [] if exchange.grid(stage) else [0])
    work = MergeWork(exchange, stage, grid)
    job.run_stage(workers, work.name, work, list(filter(job.has, exchange.missing_tiles(stage, grid))))
    job.wait_for_others(work.name, lambda: exchange.missing_tiles(stage, grid))
