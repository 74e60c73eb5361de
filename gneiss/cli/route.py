"""`gneiss route`: a policy that rarely asks an expensive judge, and what its audits say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import say

route_app = typer.Typer(
    name="route",
    help="Approximate an expensive judge with cheaper models, and ask it only where needed.",
    no_args_is_help=True,
)


@route_app.command()
def calibrate(
    run: RunArgument,
    judge: Annotated[
        Path, typer.Option(help="YAML file with the judge and the tiers, from the cheapest to the most expensive.")
    ],
    sla: Annotated[float, typer.Option(help="Share of decisions that should agree with the judge.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for this policy and its card only.")],
    sample: Annotated[int, typer.Option(help="Number of kept documents that the judge labels.")] = 3000,
    thrift: Annotated[float, typer.Option(help="Weight V of the cost while the router learns.")] = 0.1,
    audit_share: Annotated[float, typer.Option(help="Share of the documents of a run that the judge audits.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Seed for the sample and the audits.")] = 0,
) -> None:
    """Label a sample of a run with the judge, and derive the policy that routes documents.

    Example: gneiss route calibrate curated/ --judge judge.yaml --sla 0.95 --output policy/
    """
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
    by: Annotated[str, typer.Option(help="Group the audits by this text annotation, or by `shard`.")] = "shard",
    top: Annotated[int, typer.Option(min=1, help="Number of groups to show, those with the most audits first.")] = 20,
) -> None:
    """Show how often routed decisions of a run agreed with the judge's audits, and where they drift.

    Example: gneiss route agreement curated/ --by shard
    """
    from gneiss.output.finished_run import open_run
    from gneiss.report.routing import routed_agreement

    found = routed_agreement(open_run(run), by)
    say("\n".join(found.lines(top)))
