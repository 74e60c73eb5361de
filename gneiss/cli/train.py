"""`gneiss train`: your own models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from gneiss.cli.options import HeldOutShare, LabelColumn, Positive, ScoreThreshold, TextColumn
from gneiss.cli.terminal import say

if TYPE_CHECKING:
    from gneiss.model_training import Settings
    from gneiss.model_training.encoder.targets import TargetKind

train_app = typer.Typer(name="train", help="Train your own models from labelled text.", no_args_is_help=True)

Labels = Annotated[
    Path, typer.Option("--input", "-i", help="Parquet file with text and labels, or folder of such files.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for this model and its card only.")]
AutotuneSeconds = Annotated[
    int | None, typer.Option(min=1, help="Search for better settings for this many seconds. Not reproducible.")
]
Dimensions = Annotated[int, typer.Option(help="Width of the hidden layer.")]
Buckets = Annotated[int, typer.Option(help="Hash buckets for word n-grams.")]
WordNgrams = Annotated[int, typer.Option(help="Words in the longest n-gram.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training documents.")]
LearningRate = Annotated[float, typer.Option(help="Initial learning rate.")]
MinCount = Annotated[int, typer.Option(help="Ignore words that occur less often.")]
Seed = Annotated[int, typer.Option(help="Seed for the initial weights.")]


class NormalizationOption(StrEnum):
    """Normalizations for a language model."""

    ccnet = "ccnet"
    none = "none"


class StructureOption(StrEnum):
    """Storage formats of a language model."""

    probing = "probing"
    trie = "trie"


@train_app.command("quality")
def quality(
    input: Labels,
    output: Output,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    positive: Positive = None,
    score_threshold: ScoreThreshold = None,
    dimensions: Dimensions = 16,
    buckets: Buckets = 2_000_000,
    word_ngrams: WordNgrams = 2,
    epochs: Epochs = 5,
    learning_rate: LearningRate = 0.5,
    min_count: MinCount = 3,
    seed: Seed = 1,
    held_out_share: HeldOutShare = 0.2,
    autotune_seconds: AutotuneSeconds = None,
) -> None:
    """Train a fastText quality model (labels hq and cc) and evaluate it on held-out documents.

    Example: gneiss train quality --input labels.parquet --output models/quality
    """
    from gneiss.model_training import train_quality

    model = train_quality(
        input,
        output,
        text=text_column,
        label=label_column,
        positive=positive,
        score_threshold=score_threshold,
        settings=_settings(
            dimensions, buckets, word_ngrams, epochs, learning_rate, min_count, seed, held_out_share, autotune_seconds
        ),
    )
    _print_card(model.path)


@train_app.command("category")
def category(
    name: Annotated[str, typer.Argument(help="Category, used as the label that the model predicts.")],
    input: Labels,
    output: Output,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    positive: Annotated[
        list[str] | None, typer.Option(help="Label of text in the category. Repeatable. Default: NAME.")
    ] = None,
    score_threshold: ScoreThreshold = None,
    dimensions: Dimensions = 16,
    buckets: Buckets = 2_000_000,
    word_ngrams: WordNgrams = 2,
    epochs: Epochs = 5,
    learning_rate: LearningRate = 0.5,
    min_count: MinCount = 3,
    seed: Seed = 1,
    held_out_share: HeldOutShare = 0.2,
    autotune_seconds: AutotuneSeconds = None,
) -> None:
    """Train a fastText model for one category (labels NAME and cc) and evaluate it on held-out documents.

    Example: gneiss train category medical --input labels.parquet --output models/medical
    """
    from gneiss.model_training import train_category

    model = train_category(
        name,
        input,
        output,
        text=text_column,
        label=label_column,
        positive=positive,
        score_threshold=score_threshold,
        settings=_settings(
            dimensions, buckets, word_ngrams, epochs, learning_rate, min_count, seed, held_out_share, autotune_seconds
        ),
    )
    _print_card(model.path)


@train_app.command("perplexity")
def perplexity(
    input: Annotated[Path, typer.Option("--input", "-i", help="Parquet file with good text, or folder of such files.")],
    output: Output,
    text_column: TextColumn = "text",
    order: Annotated[int, typer.Option(min=2, max=6, help="Words in the longest n-gram.")] = 5,
    normalization: Annotated[
        NormalizationOption, typer.Option(help="Normalization of each line.")
    ] = NormalizationOption.ccnet,
    structure: Annotated[
        StructureOption, typer.Option(help="`probing` is the fastest, `trie` the smallest.")
    ] = StructureOption.probing,
    held_out_share: Annotated[float, typer.Option(help="Share of the texts held out for evaluation.")] = 0.05,
    memory_mb: Annotated[int, typer.Option(min=100, help="Memory limit of lmplz, in MB.")] = 2000,
    lmplz: Annotated[
        Path | None,
        typer.Option(help="Path of KenLM's lmplz, with build_binary in the same folder. Default: from PATH."),
    ] = None,
) -> None:
    """Train a KenLM language model with KenLM's programs (`gneiss doctor` shows how to build them).

    Example: gneiss train perplexity --input good.parquet --output models/perplexity
    """
    from gneiss.model_training import train_perplexity

    model = train_perplexity(
        input,
        output,
        text=text_column,
        order=order,
        normalization=normalization.value,
        structure=structure.value,
        held_out_share=held_out_share,
        memory_mb=memory_mb,
        lmplz=lmplz,
    )
    _print_card(model.path)


class HeadOption(StrEnum):
    """What a head over an encoder learns."""

    binary = "binary"
    regression = "regression"
    classes = "classes"


@train_app.command("encoder")
def encoder(
    input: Labels,
    output: Output,
    model: Annotated[str, typer.Option(help="Folder of the encoder, as in a recipe: minilm/, hf://…/.")],
    head: Annotated[
        HeadOption, typer.Option(help="Target: binary label, numeric value or one of several labels.")
    ] = HeadOption.binary,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    positive: Positive = None,
    score_threshold: ScoreThreshold = None,
    weights: EncoderWeights = "model.safetensors",
    pooling: Pooling = PoolingOption.mean,
    windows: Windows = 3,
    window_tokens: WindowTokens = 512,
    precision: Precision = PrecisionOption.float32,
    l2: Annotated[float, typer.Option(help="L2 regularization strength.")] = 0.01,
    adapters: Annotated[
        int | None,
        typer.Option(
            help="Also train LoRA adapters of this rank (needs torch). Reads only the first window of a text."
        ),
    ] = None,
    adapted_layers: Annotated[int, typer.Option(help="Number of last layers to adapt.")] = 1,
    steps: Annotated[int, typer.Option(help="Training steps of the adapters, with 16 documents each.")] = 400,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the adapters.")] = 2e-3,
    held_out_share: HeldOutShare = 0.2,
) -> None:
    """Train a classification head on a frozen small transformer (extra `encoder`).

    Example: gneiss train encoder --input labels.parquet --model minilm/ --output models/head
    """
    from gneiss.filters.encoder_models.settings import FeatureSettings
    from gneiss.model_training import train_encoder, train_encoder_adapters, train_encoder_targets
    from gneiss.model_training.models import AdapterSettings

    rule: dict[str, Any] = {"positive": positive, "score_threshold": score_threshold}
    if adapters is not None:
        if head is not HeadOption.binary:
            raise typer.BadParameter(f"--adapters: expected --head binary, found {head.value}")
        settings = AdapterSettings(
            features=FeatureSettings("cls", 1, window_tokens), rank=adapters, layers=adapted_layers, steps=steps,
            rate=learning_rate, held_out_share=held_out_share,
        )  # fmt: skip
        made = train_encoder_adapters(
            input, model, output, text=text_column, label=label_column, settings=settings, **rule
        )
        _print_card(made.path)
        return
    given: dict[str, Any] = {
        "text": text_column,
        "label": label_column,
        "weights": weights,
        "settings": FeatureSettings(pooling.value, windows, window_tokens, precision.value),
        "l2": l2,
        "held_out_share": held_out_share,
    }
    if head is HeadOption.binary:
        _print_card(train_encoder(input, model, output, **given, **rule).path)
        return
    if positive or score_threshold is not None:
        raise typer.BadParameter(f"--positive and --score-threshold are for --head binary, not {head.value}")
    kind: TargetKind = "regression" if head is HeadOption.regression else "classes"
    _print_card(train_encoder_targets(input, model, output, kind=kind, **given).path)


@train_app.command("pooled")
def pooled(
    input: Labels,
    output: Output,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    positive: Positive = None,
    score_threshold: ScoreThreshold = None,
    buckets: Annotated[int, typer.Option(help="Hash buckets for words.")] = 65_536,
    epochs: Epochs = 10,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of Adagrad.")] = 0.02,
    seed: Annotated[int, typer.Option(help="Seed for the initial weights and the order of documents.")] = 1,
    held_out_share: HeldOutShare = 0.2,
) -> None:
    """Train a small network on word trigrams and evaluate it on held-out documents.

    Example: gneiss train pooled --input labels.parquet --output models/pooled
    """
    from gneiss.model_training import PooledSettings, train_pooled

    trained = train_pooled(
        input,
        output,
        text=text_column,
        label=label_column,
        positive=positive,
        score_threshold=score_threshold,
        settings=PooledSettings(buckets, epochs, learning_rate, seed, held_out_share),
    )
    _print_card(trained.path)


class MethodOption(StrEnum):
    """How a fusion model learns."""

    auto = "auto"
    masked = "masked"
    laser = "laser"


@train_app.command("fusion")
def fusion(
    labels: Annotated[
        Path, typer.Option(help="Parquet file with labels, and the id, or shard and row, of each document.")
    ],
    annotations: Annotated[str, typer.Option(help="Output folder of the run whose annotations are combined.")],
    blocks: Annotated[
        Path, typer.Option(help="YAML file that maps block names to annotations that are present or missing together.")
    ],
    output: Output,
    label_column: LabelColumn = "label",
    positive: Positive = None,
    score_threshold: ScoreThreshold = None,
    method: Annotated[
        MethodOption, typer.Option(help="`auto` picks the method with the lowest log loss on held-out documents.")
    ] = MethodOption.auto,
    epochs: Epochs = 20,
    seed: Seed = 1,
    held_out_share: HeldOutShare = 0.2,
) -> None:
    """Train one score that combines the annotations of a run, and compare it with simpler combinations.

    Example: gneiss train fusion --labels labels.parquet --annotations curated/ --blocks blocks.yaml --output fused/
    """
    from gneiss.errors import InputError, first_line
    from gneiss.model_training import train_fusion
    from gneiss.model_training.fusion.examples import blocks_of
    from gneiss.model_training.fusion.methods import Learning
    from gneiss.recipe.yaml_text import MOST_BYTES, read_yaml

    if positive and score_threshold is not None:
        raise InputError("positive labels and a score threshold exclude each other; give only one")
    try:
        with blocks.open(encoding="utf-8") as file:
            given = read_yaml(file.read(MOST_BYTES + 1))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{blocks}: cannot read the blocks: {first_line(error)}") from error
    model = train_fusion(
        labels,
        annotations,
        blocks_of(given, str(blocks)),
        output,
        label=label_column,
        positive=positive or ("hq",),
        score_threshold=score_threshold,
        method=method.value,
        held_out_share=held_out_share,
        learning=Learning(epochs=epochs, seed=seed),
    )
    _print_card(model.path)


def _settings(
    dimensions: int,
    buckets: int,
    word_ngrams: int,
    epochs: int,
    learning_rate: float,
    min_count: int,
    seed: int,
    held_out_share: float,
    autotune_seconds: int | None,
) -> Settings:
    from gneiss.model_training import Settings

    return Settings(
        dimensions, buckets, word_ngrams, epochs, learning_rate, min_count, seed, held_out_share, autotune_seconds
    )


def _print_card(model: Path) -> None:
    from gneiss.model_training.source import CARD

    say(model.with_name(CARD).read_text("utf-8"))
    say(f"{model} and {CARD} are written")
