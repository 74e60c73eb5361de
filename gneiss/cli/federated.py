"""`gneiss federated`: quality models from documents that stay where they are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.options import TextColumn
from gneiss.cli.terminal import console, say, table

if TYPE_CHECKING:
    from gneiss.model_training.federated.simulation_card import Simulation

federated_app = typer.Typer(
    help="Train a quality model across sites, whose documents stay there.", no_args_is_help=True
)


@federated_app.callback()
def federated() -> None:
    """Train a quality model across sites, whose documents stay there."""


@federated_app.command()
def simulate(
    input: Annotated[
        Path, typer.Option("--input", "-i", help="A Parquet file with text, labels and sites, or a folder of them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for this simulation only.")],
    sites_by: Annotated[str, typer.Option(help="The column that says at which site a document is.")] = "source",
    regions_by: Annotated[
        str | None, typer.Option(help="The column that says in which region that site is. Default: no regions.")
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="A name, `auto` for what suits the sites' label mixes, or `all` to compare.")
    ] = "auto",
    text_column: TextColumn = "text",
    label_column: Annotated[str, typer.Option(help="The column with labels, or with scores.")] = "label",
    positive: Annotated[
        list[str] | None, typer.Option(help="Label of good text (may be repeated). Default: hq.")
    ] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Labels are scores; positive from this one on.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; by arrival, as many tasks of sites.")] = 25,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a site in each round.")] = 10,
    region_rounds: Annotated[
        int, typer.Option(min=1, help="Rounds within a region for each round of all, with --regions-by.")
    ] = 5,
    share: Annotated[float, typer.Option(help="Share of the sites that are asked in a round.")] = 1.0,
    buckets: Annotated[int, typer.Option(help="Weights for word n-grams.")] = 262_144,
    word_ngrams: Annotated[int, typer.Option(help="Words in the longest n-gram.")] = 2,
    most_words: Annotated[int, typer.Option(help="The most words of which each has a weight.")] = 100_000,
    min_documents: Annotated[
        int, typer.Option(min=1, help="A feature of fewer documents of a site moves nothing there.")
    ] = 5,
    held_out_share: Annotated[float, typer.Option(help="Share of each label that is not trained on.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of whom to ask, and of what sites draw.")] = 0,
    rate: Annotated[
        float | None, typer.Option(help="Of the steps at sites, for a strategy that is named. Default: its own.")
    ] = None,
    server_rate: Annotated[
        float | None, typer.Option(help="Of the server's steps, for a strategy that is named. Default: its own.")
    ] = None,
    trimmed_mean: Annotated[
        bool, typer.Option("--trimmed-mean", help="Average without the largest and the smallest answer.")
    ] = False,
    clip_norm: Annotated[
        float | None, typer.Option(help="Norm to which a site shortens what it answers. Default: any.")
    ] = None,
    noise_std: Annotated[
        float, typer.Option(min=0, help="Deviation of the noise that it then adds to each weight.")
    ] = 0.0,
    replay: Annotated[
        Path | None, typer.Option(help="Output of a simulation whose arrivals are done again, of --strategy.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or actors that have the sites. Default: this process.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON.")] = False,
) -> None:
    """Divide labels into sites, train across them, and compare with training in one place."""
    from gneiss.model_training.federated.simulation import MODEL_FILE, SimulationSettings
    from gneiss.model_training.federated.simulation import simulate as simulated
    from gneiss.model_training.source import CARD

    made = simulated(
        input,
        output,
        sites_by=sites_by,
        regions_by=regions_by,
        strategy=strategy,
        text=text_column,
        label=label_column,
        positive=positive,
        score_threshold=score_threshold,
        settings=SimulationSettings(
            rounds=rounds,
            steps=steps,
            region_rounds=region_rounds,
            share=share,
            seed=seed,
            word_ngrams=word_ngrams,
            buckets=buckets,
            most_words=most_words,
            min_documents=min_documents,
            held_out_share=held_out_share,
            rate=rate,
            server_rate=server_rate,
            is_trimmed=trimmed_mean,
            clip_norm=clip_norm,
            noise_std=noise_std,
        ),
        replay=replay,
        workers=workers,
    )
    if as_json:
        say(json.dumps(asdict(made)))
        return
    _print(made)
    say(f"{output}/{MODEL_FILE} and {CARD} are written")


def _print(made: Simulation) -> None:
    from gneiss.model_training.federated.simulation_card import outcome_rows

    documents = sum(map(sum, made.sites.values()))
    regions = f" in {len(made.regions):,} regions" if made.regions else ""
    say(f"sites     {len(made.sites):,}{regions}, with {documents:,} labelled texts")
    say(f"strategy  {made.strategy}: {made.reason}")
    headings, *rows = outcome_rows(made)
    shown = table(*map(str, headings))
    for row in rows:
        shown.add_row(*map(str, row))
    console().print(shown)
    say(f"to target: rounds until {100 * made.behind:g} points below training in one place; a vector has"
        f" {made.federation.shape[0]:,} numbers")  # fmt: skip
