"""`gneiss run`: a corpus through a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.counts import print_counts, print_rules
from gneiss.cli.estimate import read_estimate
from gneiss.cli.options import BackendOption, Changes, OnBackend, RecipeArgument, SharedFilesystem, Workers, load_recipe
from gneiss.cli.status import cost_line, print_unusable
from gneiss.cli.terminal import console, say, shown_progress

if TYPE_CHECKING:
    from gneiss.output.finished_run import FinishedRun

#: As many shards that could not be curated are shown.
_MOST_SHARDS = 20


def run(
    recipe: RecipeArgument,
    input: Annotated[
        str,
        typer.Option("--input", "-i", help="File, folder or glob to read; a local path or s3://, gs://, az://, hf://."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Output folder. The same command resumes an interrupted run.")
    ],
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
    document_seconds: Annotated[
        float | None,
        typer.Option(
            help="CPU seconds a filter may take for a document, plus as many per MB of its text. Default: 30."
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="GPUs per worker, such as 0.25. Default: 1 if a filter needs one, else 0.")
    ] = None,
    changes: Changes = None,
    task: Annotated[
        int | None, typer.Option(help="Process only this share of the run, counted from 0; requires --of.")
    ] = None,
    of: Annotated[
        int | None, typer.Option(help="Number of shares, such as the size of a Slurm job array; requires --task.")
    ] = None,
    estimate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Output of `gneiss estimate --json`, compared with the run at its end."),
    ] = None,
    keep_index: Annotated[
        bool,
        typer.Option("--keep-index", help="Keep the dedup index, so that later runs can deduplicate against this one."),
    ] = False,
    metrics_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File for metrics in OpenMetrics text format, rewritten during the run."),
    ] = None,
) -> None:
    """Curate a corpus: write filtered shards and one annotation row per document.

    Example: gneiss run fineweb --input crawl/ --output curated/
    """
    from gneiss.output.claim import Share
    from gneiss.output.run_status import run_status
    from gneiss.pipelines.run import RunOptions, run_share
    from gneiss.pipelines.run import run as run_all

    if (task is None) != (of is None):
        raise typer.BadParameter("expected both or none: --task I --of N")
    loaded = load_recipe(recipe, changes)
    predicted = read_estimate(estimate, loaded) if estimate else None
    options = RunOptions(
        workers=workers,
        backend=backend.value,
        shared_filesystem=shared_filesystem,
        document_seconds=document_seconds,
        gpus_per_worker=gpus_per_worker,
        progress=shown_progress(forecast=predicted),
        metrics_file=metrics_file,
        predicted=predicted,
        keep_index=keep_index,
    )
    if task is None or of is None:
        finished = run_all(loaded, input, output, **vars(options))
    elif (last := run_share(loaded, input, output, Share(task, of), options)) is None:
        say(f"task {task} of {of} is done, others are not: the last one finishes the run")
        return
    else:
        finished = last
    print_run(finished)
    if predicted and (took := run_status(output).took):
        say(f"\npredicted        {cost_line(predicted.cost)}\ntook             {cost_line(took)}")
    finished.check_budgets()


def print_run(run: FinishedRun) -> None:
    """The results of a run, and its files."""
    from gneiss.output import layout

    out = console()
    print_counts(out, run.statistics)
    print_rules(out, run.recipe, run.statistics)
    print_unusable(run.quarantined_shards, run.failed_shards, _MOST_SHARDS)
    if run.failed_shards or run.failed_documents:
        say(
            f"{len(run.failed_shards):,} shards and {run.failed_documents:,} documents failed by a defect of gneiss or"
            " of a filter, not by bad data: please report it; tracebacks are in"
            f" {run.folder / layout.LOGS}"
        )
    done = ""
    if run.finished_before:  # as names of files say, none of which is read for that
        shards = sum(1 for _ in layout.ids_in(run.folder, layout.BASE)) + len(run.quarantined_shards)
        done = f" ({run.finished_before} of {shards} shards were finished before)"
    say(f"\nkept documents   {run.folder / layout.DATA}{done}")
    say(f"annotations      {run.folder / layout.BASE}")
    say(f"dataset card     {run.folder / layout.CARD_FILE}")
