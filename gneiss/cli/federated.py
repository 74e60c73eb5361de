"""`gneiss federated`: quality models from documents that stay where they are."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gneiss.cli.options import HeldOutShare, LabelColumn, Positive, ScoreThreshold, TextColumn
from gneiss.cli.terminal import console, say, table
from gneiss.errors import InputError, MachineError

if TYPE_CHECKING:
    from gneiss.model_training.federated.simulation_card import Simulation

federated_app = typer.Typer(
    name="federated", help="Train a quality model across sites without moving their documents.", no_args_is_help=True
)


class ModelOption(StrEnum):
    """What is trained across sites."""

    linear = "linear"
    encoder = "encoder"


@federated_app.callback()
def federated() -> None:
    """Train a quality model across sites without moving their documents."""


@federated_app.command()
def simulate(
    context: typer.Context,
    input: Annotated[
        Path, typer.Option("--input", "-i", help="Parquet file with text, labels and sites, or folder of such files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for this simulation only.")],
    model: Annotated[
        ModelOption, typer.Option(help="Model to train: `linear` over word n-grams, or adapters of an `encoder`.")
    ] = ModelOption.linear,
    sites_by: Annotated[str, typer.Option(help="Column that names the site of a document.")] = "source",
    regions_by: Annotated[
        str | None, typer.Option(help="Column that names the region of a site. Default: no regions.")
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="Name of a strategy; `auto` picks one by the label distributions of the sites; `all` compares all."
        ),
    ] = "auto",
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    positive: Positive = None,
    score_threshold: ScoreThreshold = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of rounds. Asynchronous strategies run the same number of site tasks.")
    ] = 25,
    steps: Annotated[int, typer.Option(min=1, help="Local steps per round.")] = 10,
    region_rounds: Annotated[
        int, typer.Option(min=1, help="Rounds within a region per global round, with --regions-by.")
    ] = 5,
    share: Annotated[float, typer.Option(help="Share of the sites that take part in a round.")] = 1.0,
    buckets: Annotated[int, typer.Option(help="Hash buckets for word n-grams.")] = 262_144,
    word_ngrams: Annotated[int, typer.Option(help="Words in the longest n-gram.")] = 2,
    most_words: Annotated[int, typer.Option(help="Maximum number of words with a weight of their own.")] = 100_000,
    min_documents: Annotated[
        int, typer.Option(min=1, help="A site does not update features that occur in fewer of its documents.")
    ] = 5,
    held_out_share: HeldOutShare = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed for choosing sites and for sampling at them.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(help="Learning rate at the sites, if --strategy names one. Default: that of the strategy."),
    ] = None,
    server_rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of the server, if --strategy names one. Default: that of the strategy."),
    ] = None,
    trimmed_mean: Annotated[
        bool, typer.Option("--trimmed-mean", help="Aggregate by a mean without the largest and the smallest update.")
    ] = False,
    clip_norm: Annotated[
        float | None, typer.Option(help="Norm to which each site clips its update. Default: no clipping.")
    ] = None,
    noise_std: Annotated[
        float, typer.Option(min=0, help="Standard deviation of the noise added to each weight after clipping.")
    ] = 0.0,
    replay: Annotated[
        Path | None,
        typer.Option(help="Output folder of a simulation whose order of arrivals is replayed with --strategy."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Folder of the encoder, as in a recipe: minilm/, hf://…/.")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Number of leading tokens of a text that the encoder reads.")] = 128,
    adapted_layers: Annotated[int, typer.Option(min=1, help="Number of last layers of the encoder to adapt.")] = 1,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapter of each matrix.")] = 8,
    ranks_left: Annotated[
        int, typer.Option(min=0, help="Average final rank of an adapter, with strategy `fedara`.")
    ] = 3,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes or Ray actors that host the sites. Default: this process."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Simulate a federation: divide labels into sites, train across them, and compare with pooled training.

    Example: gneiss federated simulate --input labels.parquet --output federation/ --sites-by source
    """
    _refuse_options_of_others(context, model)
    if model is ModelOption.encoder:
        if encoder is None:
            raise InputError("expected --encoder, the folder of the encoder")
        _simulate_encoder(
            encoder, input, output, as_json, sites_by=sites_by, strategy=strategy, text=text_column,
            label=label_column, positive=positive, score_threshold=score_threshold, workers=workers,
            settings={
                "rounds": rounds, "steps": steps, "share": share, "seed": seed, "rank": rank, "tokens": tokens,
                "ranks_left": ranks_left, "layers": adapted_layers, "held_out_share": held_out_share,
                **({} if rate is None else {"rate": rate}),
            },
        )  # fmt: skip
        return
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


@federated_app.command()
def provision(
    federation: Annotated[
        Path, typer.Argument(help="TOML file with the agreement of the parties; see docs/federated.md.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the kits and the key of the certificate authority.")
    ],
) -> None:
    """Write a kit for each party of a federation: certificate, policy and agreement.

    Example: gneiss federated provision federation.toml --output kits/
    """
    _require_flare()
    from gneiss.model_training.federated.flare.provision import provision as provisioned

    for party, kit in provisioned(federation, output).items():
        say(f"{party}  {kit}")
    say(f"{output}/authority stays with whoever provisions; each kit goes to its party, over a secure channel")


@federated_app.command()
def serve(kit: Annotated[Path, typer.Argument(help="Folder of the server's kit.")]) -> None:
    """Run the server of a federation until this process is stopped.

    Example: gneiss federated serve kits/server
    """
    _require_flare()
    from gneiss.model_training.federated.flare.engine import server_command
    from gneiss.model_training.federated.flare.kit import require_party, settle_server

    kit = kit.resolve()
    require_party(kit, "server")
    settle_server(kit)
    _become(server_command(kit))


@federated_app.command()
def site(
    kit: Annotated[Path, typer.Argument(help="Folder of the site's kit.")],
    labels: Annotated[
        Path | None, typer.Option(help="Parquet file with text and labels. Default: as at the last start of the site.")
    ] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    positive: Positive = None,
    score_threshold: ScoreThreshold = None,
    min_documents: Annotated[
        int, typer.Option(min=1, help="Do not update features that occur in fewer documents of the site.")
    ] = 5,
    held_out_share: HeldOutShare = 0.2,
    sites_by: Annotated[
        str | None, typer.Option(help="Column that names the silo of a document within this site, for regions.")
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(min=0, help="Norm to which each vector of an update is clipped.")
    ] = None,
    noise_std: Annotated[
        float, typer.Option(min=0, help="Standard deviation of the noise added to each weight.")
    ] = 0.0,
) -> None:
    """Run a site of a federation until this process is stopped. Its documents stay at the site.

    Example: gneiss federated site kits/site-1 --labels labels.parquet
    """
    _require_flare()
    from gneiss.model_training.federated.flare.engine import site_command
    from gneiss.model_training.federated.flare.kit import (
        SiteSettings,
        agreement_of_kit,
        read_site_settings,
        require_party,
        site_of_kit,
        write_site_settings,
    )
    from gneiss.model_training.federated.region import RegionFiles
    from gneiss.model_training.federated.site_documents import site_examples

    kit = kit.resolve()
    require_party(kit, "site")
    agreement, name = agreement_of_kit(kit), site_of_kit(kit)
    if labels is not None:
        own = SiteSettings(
            str(labels.resolve()),
            text_column,
            label_column,
            tuple(positive) if positive else None,
            score_threshold,
            held_out_share,
            min_documents,
            sites_by,
            clip_norm,
            noise_std,
        )
    else:
        own = read_site_settings(kit)
    files = own.files(name, agreement, kit)
    for silo in files.sites if isinstance(files, RegionFiles) else (files,):
        site_examples(silo)  # labels that cannot be read are said here, not at the server
    write_site_settings(kit, own)
    _become(site_command(kit, name))


@federated_app.command()
def train(
    kit: Annotated[Path, typer.Argument(help="Folder of the administrator's kit.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for this training only; its name identifies the training.")
    ],
    strategy: Annotated[str | None, typer.Option(help="Strategy, or `auto`. Default: that of the agreement.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Override the value of the agreement.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Override the value of the agreement.")] = None,
    silence_seconds: Annotated[
        float, typer.Option(min=5, help="Seconds without a heartbeat after which a site counts as lost.")
    ] = 60.0,
    wait_seconds: Annotated[float, typer.Option(min=1, help="Seconds to wait for the server and the sites.")] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Train across the sites of a federation. The same command resumes.

    Example: gneiss federated train kits/admin --output training-1/
    """
    _require_flare()
    from gneiss.model_training.federated.flare.admin import MODEL_FILE, Patience, train_across
    from gneiss.model_training.federated.flare.engine import session
    from gneiss.model_training.federated.flare.kit import require_party
    from gneiss.model_training.source import CARD

    require_party(kit, "admin")
    chosen = {"strategy": strategy, "rounds": rounds, "seed": seed}
    made = train_across(
        kit,
        output,
        lambda: session(kit, silence_seconds),
        choices={name: value for name, value in chosen.items() if value is not None},
        patience=Patience(wait_seconds, wait_seconds),
        tell=lambda line: say(line, sys.stderr if as_json else None),
    )
    if as_json:
        say(json.dumps(asdict(made)))
        return
    say(f"strategy  {made.federation.strategy}: {made.reason}")
    say(f"accuracy  {made.accuracy:.1%} over the documents that sites have held out")
    say(f"{output}/{MODEL_FILE} and {CARD} are written")


def _require_flare() -> None:
    """Raise MachineError without the extra."""
    if importlib.util.find_spec("nvflare") is None:
        raise MachineError("sites of other organisations need NVIDIA FLARE: pip install 'gneiss-curation[federated]'")


def _become(arguments: list[str]) -> None:
    """Go on as another program of this Python, so that signals reach it."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *arguments])


#: Options that only one of the models has.
_LINEAR_ONLY = frozenset({
    "regions_by", "region_rounds", "buckets", "word_ngrams", "most_words", "min_documents", "server_rate",
    "trimmed_mean", "clip_norm", "noise_std", "replay",
})  # fmt: skip
_ENCODER_ONLY = frozenset({"encoder", "tokens", "adapted_layers", "rank", "ranks_left"})


def _refuse_options_of_others(context: typer.Context, model: ModelOption) -> None:
    others = _LINEAR_ONLY if model is ModelOption.encoder else _ENCODER_ONLY
    sources = ((name, context.get_parameter_source(name)) for name in sorted(others))
    given = [name for name, source in sources if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} is no option of --model {model}; leave it out")


def _simulate_encoder(
    encoder: str, labels: Path, output: Path, as_json: bool, *, settings: Mapping[str, Any], **others: Any
) -> None:
    try:
        from gneiss.model_training.federated.encoder.simulation import (
            EncoderSimulationSettings,
            encoder_outcome_rows,
            simulate_encoder,
        )
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        raise MachineError(
            "adapters of an encoder need the package torch: pip install 'gneiss-curation[train]'"
        ) from missing
    made = simulate_encoder(labels, output, encoder, settings=EncoderSimulationSettings(**settings), **others)
    if as_json:
        say(json.dumps(asdict(made)))
        return
    say(f"sites     {len(made.sites):,}, with {sum(map(sum, made.sites.values())):,} labelled texts")
    say(f"strategy  {made.strategy}")
    _print_table(encoder_outcome_rows(made))
    say(f"{', '.join(f'{output}/{name}' for name in made.sha256)} and MODEL.md are written")


def _print_table(rows: Sequence[Sequence[object]]) -> None:
    shown = table(*map(str, rows[0]))
    for row in rows[1:]:
        shown.add_row(*map(str, row))
    console().print(shown)


def _print(made: Simulation) -> None:
    from gneiss.model_training.federated.simulation_card import outcome_rows

    documents = sum(map(sum, made.sites.values()))
    regions = f" in {len(made.regions):,} regions" if made.regions else ""
    say(f"sites     {len(made.sites):,}{regions}, with {documents:,} labelled texts")
    say(f"strategy  {made.strategy}: {made.reason}")
    _print_table(outcome_rows(made))
    say(f"to target: rounds until {100 * made.behind:g} points below training in one place; a vector has"
        f" {made.federation.shape[0]:,} numbers")  # fmt: skip
