"""`gneiss label`: which documents of a run are worth a label."""

from __future__ import annotations

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


def _print_coverage(queue: Queue) -> None:
    found = queue.coverage
    reach = ", ".join(f"{name} {value:.2f}" for name, value in found["reach"].items())
    say(f"documents  {found['documents']:,} ({queue.request.documents}), of {found['shards']:,} shards")
    say(f"coreset    {found['collected']:,}, each for at most {found['capacity']:,}")
    say(f"audit      {found['audit']:,}, at random; never trained on")
    say(f"margin     {found['left_for_margin']:,} labels are left, for {found['margin_rounds']} rounds")
    covered = f"{found['covered_share']:.1%} of documents are within {found['radius']:.2f}"
    say(f"covered    {covered} of the one that stands for them")
    say(f"distance   to it: {reach}; two documents at random: about {found['distance_at_random']:.2f}")
