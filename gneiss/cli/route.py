"""`gneiss route`: a policy that asks a dear judge seldom, and what its audits say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import say

route_app = typer.Typer(
    help="Have a dear judge's decisions without asking it about most documents.", no_args_is_help=True
)


@route_app.command()
def calibrate(
    run: RunArgument,
    judge: Annotated[Path, typer.Option(help="A YAML file: the judge, and the tiers, from cheapest to dearest.")],
    sla: Annotated[float, typer.Option(help="The share of decisions that should agree with the judge's.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for this policy and its card only.")],
    sample: Annotated[int, typer.Option(help="Kept documents of the run that the judge is asked about.")] = 3000,
    thrift: Annotated[float, typer.Option(help="V, what a cost weighs while the router learns.")] = 0.1,
    audit_share: Annotated[float, typer.Option(help="Share of a run's documents that the judge audits.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the draws of the sample, and of audits.")] = 0,
) -> None:
    """Ask a judge about a sample of a run, and make the policy by which a recipe asks it seldom."""
    from gneiss.model_training.routing import calibrate as calibrated
    from gneiss.model_training.source import CARD

    made = calibrated(
        run, judge, output, sla=sla, sample=sample, thrift=thrift, audit_share=audit_share, seed=seed
    )  # fmt: skip
    say((output / CARD).read_text("utf-8"))
    say(f"{made.asked:,} documents were asked about; policy.json and {CARD} are written to {output}")


@route_app.command()
def agreement(
    run: RunArgument,
    by: Annotated[str, typer.Option(help="A text annotation, or `shard`: a line for each of its values.")] = "shard",
    top: Annotated[int, typer.Option(min=1, help="At most so many lines: those with most audits.")] = 20,
) -> None:
    """Show how often a run's routed decisions agreed with the judge, by its audits, and where that has drifted."""
    from gneiss.output.finished_run import open_run
    from gneiss.report.routing import routed_agreement

    found = routed_agreement(open_run(run), by)
    say("\n".join(found.lines(top)))
