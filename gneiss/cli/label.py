"""`gneiss label`: which documents of a run are worth a label."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import say

if TYPE_CHECKING:
    from gneiss.model_training.label_queue import Queue

label_app = typer.Typer(help="Choose which documents of a run to have labelled.", no_args_is_help=True)


@label_app.command()
def choose(
    run: RunArgument,
    budget: Annotated[int, typer.Option(min=1, help="Labels that may be made in all.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A folder for this queue only, in any store.")],
    coreset_share: Annotated[float, typer.Option(help="Of the budget, at most; the rest is left for margin.")] = 0.5,
    audit_share: Annotated[float, typer.Option(help="Of the budget, drawn at random and never trained on.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the features and the audit.")] = 0,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="What was given to the run: choose from dropped documents too.")
    ] = None,
) -> None:
    """Choose documents that stand for all of a run, and an audit; say how far what they cover is from them."""
    from gneiss.model_training.label_choice import choose_labels
    from gneiss.model_training.label_queue import QUEUE_FILE

    queue = choose_labels(
        run, output, budget=budget, coreset_share=coreset_share, audit_share=audit_share, seed=seed, input=input
    )  # fmt: skip
    _print_coverage(queue)
    say(f"queue      {output}/{QUEUE_FILE}, to have labelled in a column `label`")


@label_app.command("next")
def next_round(
    run: RunArgument,
    queue: Annotated[str, typer.Option(help="The folder that `label choose` wrote.")],
    model: Annotated[
        Path | None, typer.Option(help="A model of `gneiss train`, trained on the labels so far: its folder or file.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Instead of a model: an annotation of the run that is a probability.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels, in Parquet, of documents that need not be queued, besides the queue's.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Documents of this round. Default: an even share of what is left.")
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="What was given to the run, where `label choose` had it too.")
    ] = None,
) -> None:
    """Queue the documents about which a model is least sure, at most one of a cluster of near-duplicates."""
    from gneiss.model_training.label_margin import next_labels

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
