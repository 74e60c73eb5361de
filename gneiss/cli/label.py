"""`gneiss label`: which documents of a run are worth a label."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import say

if TYPE_CHECKING:
    from gneiss.model_training.labelling.queue import Queue

label_app = typer.Typer(name="label", help="Choose which documents of a run to label.", no_args_is_help=True)


@label_app.command()
def choose(
    run: RunArgument,
    budget: Annotated[int, typer.Option(min=1, help="Total number of labels.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for this queue only, local or in a store.")],
    coreset_share: Annotated[
        float, typer.Option(help="Maximum share of the budget for the coreset; the rest goes to margin sampling.")
    ] = 0.5,
    audit_share: Annotated[
        float, typer.Option(help="Share of the budget for the audit sample, drawn at random and never trained on.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed for the features and the audit sample.")] = 0,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="Input of the run, to choose from dropped documents too.")
    ] = None,
) -> None:
    """Choose documents that represent a run, and an audit sample, and report how well they cover it.

    Example: gneiss label choose curated/ --budget 2000 --output queue/
    """
    from gneiss.model_training.labelling.choice import choose_labels
    from gneiss.model_training.labelling.queue import QUEUE_FILE

    queue = choose_labels(
        run, output, budget=budget, coreset_share=coreset_share, audit_share=audit_share, seed=seed, input=input
    )  # fmt: skip
    _print_coverage(queue)
    say(f"queue      {output}/{QUEUE_FILE}, to have labelled in a column `label`")


@label_app.command("next")
def next_round(
    run: RunArgument,
    queue: Annotated[str, typer.Option(help="Folder that `gneiss label choose` wrote.")],
    model: Annotated[
        Path | None, typer.Option(help="Folder or file of a model that `gneiss train` trained on the labels so far.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Instead of a model, an annotation of the run that holds a probability.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Parquet file with further labels, whose documents are not queued.")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Number of documents in this round. Default: an even share of the remaining budget."),
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="Input of the run, if `gneiss label choose` had it too.")
    ] = None,
) -> None:
    """Queue the documents about which a model is least certain, at most one per near-duplicate cluster.

    Example: gneiss label next curated/ --queue queue/ --model models/quality
    """
    from gneiss.model_training.labelling.next_round import next_labels

    found = next_labels(run, queue, model=model, score=score, labels=labels, budget=budget, input=input)
    there = " (it was there already: made by this model)" if found.was_there else ""
    say(f"round      {found.round.documents:,} documents, nearest to a score of ½{there}")
    if not found.has_clusters:
        say("duplicates the run has no `near_duplicates`: only equal texts are queued once")
    say(f"left       {max(found.left, 0):,} of {found.queue.asked.budget:,} labels")
    say(f"queue      {queue}/{found.round.file}")


def _print_coverage(queue: Queue) -> None:
    found = queue.coverage
    reach = ", ".join(f"{name} {value:.2f}" for name, value in asdict(found.reach).items())
    dropped = ", without those that were dropped (they are in --input)" if queue.asked.documents == "kept" else ""
    say(f"documents  {found.documents:,} of {found.shards:,} shards{dropped}")
    say(f"coreset    {found.collected:,}, each for at most {found.capacity:,}")
    say(f"audit      {found.audit:,}, at random; never trained on")
    say(f"margin     {found.left_for_margin:,} labels are left, for {found.margin_rounds} rounds")
    covered = f"{found.covered_share:.1%} of documents are within {found.radius:.2f}"
    say(f"covered    {covered} of the one that stands for them")
    say(f"distance   to it: {reach}; two documents at random: about {found.distance_at_random:.2f}")
    say(f"meaning    {found.meaning}")
