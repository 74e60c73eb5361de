"""`gneiss heads`: scores of several heads, each in a worker of its own, and a coded head in place of a lost one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from gneiss.cli.encoder_options import (
    EncoderWeights,
    Pooling,
    PoolingOption,
    Precision,
    PrecisionOption,
    Windows,
    WindowTokens,
)
from gneiss.cli.layers import print_files
from gneiss.cli.options import (
    BackendOption,
    LabelColumn,
    OnBackend,
    Positive,
    RunArgument,
    ScoreThreshold,
    SharedFilesystem,
    TextColumn,
)
from gneiss.cli.terminal import say
from gneiss.errors import InputError

if TYPE_CHECKING:
    from gneiss.model_training.encoder.source import EncoderSource

Encoder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Folder of the encoder whose features the heads read, as in a recipe: minilm/, hf://…/. Default: none."
    ),
]

heads_app = typer.Typer(
    name="heads",
    help="Score a run with several classification heads, one per worker, tolerating the loss of one.",
    no_args_is_help=True,
)


@heads_app.command()
def train(
    input: Annotated[
        str, typer.Option("--input", "-i", help="Parquet file with text and labels, or folder of such files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the head (.safetensors).")],
    start: Annotated[
        Path | None,
        typer.Option(help="Head to continue from, with its features. Two heads with the same start can be merged."),
    ] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    positive: Positive = None,
    score_threshold: ScoreThreshold = None,
    hidden: Annotated[int, typer.Option(min=0, help="Units of the hidden layer; 0 trains a linear head.")] = 32,
    encoder: Encoder = None,
    weights: EncoderWeights = "model.safetensors",
    pooling: Pooling = PoolingOption.mean,
    windows: Windows = 3,
    window_tokens: WindowTokens = 512,
    precision: Precision = PrecisionOption.float32,
    most_words: Annotated[int, typer.Option(min=0, help="Maximum number of words with a feature of their own.")] = 4096,
    buckets: Annotated[int, typer.Option(min=1, help="Hash buckets for word pairs.")] = 4096,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training documents.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed for the initial weights and the order of documents.")] = 0,
) -> None:
    """Train a head, linear or a small network, on word features or on those of an encoder.

    Example: gneiss heads train --input labels.parquet --output heads/quality.safetensors
    """
    from gneiss.filters.encoder_models.settings import FeatureSettings
    from gneiss.model_training.heads.files import train_head_file
    from gneiss.model_training.heads.head import read_head
    from gneiss.model_training.labels import rule_of

    made = train_head_file(
        input,
        output,
        rule_of(label_column, positive, score_threshold, "hq"),
        text=text_column,
        hidden=hidden,
        start=read_head(start) if start else None,
        encoder=_source(encoder, weights),
        settings=FeatureSettings(pooling.value, windows, window_tokens, precision.value),
        most_words=most_words,
        buckets=buckets,
        epochs=epochs,
        seed=seed,
    )
    say(f"head       {output}: {'linear' if made.is_linear else 'a network'}, {made.space.size:,} features")


@heads_app.command()
def code(
    head: Annotated[
        list[Path],
        typer.Option(help="Head (.safetensors or .bin). Repeat for each head; all must share their kind and features."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the coded head.")],
    texts: Annotated[
        list[str] | None,
        typer.Option(help="For each network, in order: Parquet file with texts like those it was trained on."),
    ] = None,
    text_column: TextColumn = "text",
    encoder: Encoder = None,
    weights: EncoderWeights = "model.safetensors",
    seed: Annotated[int, typer.Option(min=0, help="Seed for distillation, for networks.")] = 0,
) -> None:
    """Build the coded head of several heads: exact for linear heads, an estimate for a pair of networks.

    Example: gneiss heads code --head a.safetensors --head b.safetensors --output coded.safetensors
    """
    from gneiss.model_training.heads.building import build_code
    from gneiss.model_training.heads.files import first_texts, write_head
    from gneiss.model_training.heads.head import read_head

    read = [read_head(path) for path in head]
    if texts:  # which networks are merged by
        read = [one.at(_source(encoder, weights)) for one in read]
    made = build_code(read, [first_texts(source, text_column) for source in texts or ()], seed)
    write_head(made, output)
    assert made.code is not None
    if made.code.divergences is None:
        say(f"exact      any one of {len(read)} linear heads can be lost")
    else:
        say(f"estimate   {made.code.choice}, the nearest of four ways to the mean of both networks:")
        for way, nats in made.code.divergences.items():
            say(f"           {nats:.4f} nats  {way}")
    say(f"coded      {output}")


@heads_app.command()
def score(
    run: RunArgument,
    head: Annotated[
        list[str], typer.Option(help="NAME=FILE: the column to write and the file of its head. Repeatable.")
    ],
    coded: Annotated[
        Path | None,
        typer.Option(help="Coded head of these heads: takes one more worker, and stands in for a lost head."),
    ] = None,
    encoder: Encoder = None,
    weights: EncoderWeights = "model.safetensors",
    layer: Annotated[str, typer.Option(help="Name of the annotation layer to write.")] = "heads",
    provisional: Annotated[
        str | None, typer.Option(help="Annotation layer for the partial result, if a lost head does not return.")
    ] = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
) -> None:
    """Score the kept documents of a run with heads, as an annotation layer. The same command resumes.

    Example: gneiss heads score curated/ --head quality=heads/quality.safetensors
    """
    from gneiss.model_training.heads.scoring import score_heads

    named = [given.partition("=") for given in head]
    if wrong := [given for given, (name, _, file) in zip(head, named, strict=True) if not name or not file]:
        raise InputError(f"--head {wrong[0]}: expected NAME=FILE")
    if len({name for name, _, _ in named}) < len(named):
        raise InputError("--head: a name is there twice; give each head a name of its own")
    written = score_heads(
        run,
        {name: Path(file) for name, _, file in named},
        coded=coded,
        encoder=_source(encoder, weights),
        layer=layer,
        provisional=provisional,
        backend=backend.value,
        shared_filesystem=shared_filesystem,
    )
    print_files(run, written)


def _source(encoder: str | None, weights: str) -> EncoderSource | None:
    from gneiss.model_training.encoder.source import EncoderSource

    return EncoderSource(encoder, weights) if encoder is not None else None
