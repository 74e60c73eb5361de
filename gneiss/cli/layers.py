"""`gneiss weights` and `gneiss losses`: annotation layers of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.options import Layer, RunArgument
from gneiss.cli.terminal import say

if TYPE_CHECKING:
    from gneiss.output.layers import WrittenLayer


def weights(
    run: RunArgument,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="How strongly duplicates lower a weight; 0 ignores them. Default: 0.5.",
            show_default="0.5; 0 with --upsampling",
        ),
    ] = None,
    beta: Annotated[float, typer.Option(help="How strongly quality raises a weight; requires --quality.")] = 0.0,
    gamma: Annotated[
        float, typer.Option(help="How strongly perplexity affects a weight; requires --perplexity.")
    ] = 0.0,
    quality: Annotated[str | None, typer.Option(help="Annotation that holds a probability of quality.")] = None,
    perplexity: Annotated[str | None, typer.Option(help="Annotation that holds a perplexity.")] = None,
    category: Annotated[str | None, typer.Option(help="Annotation to copy into the layer as `category`.")] = None,
    upsampling: Annotated[
        str | None,
        typer.Option(help="Weight factors by number of copies: fineweb-2, or a YAML file such as {1: 1, 2: 1.5}."),
    ] = None,
    layer: Layer = "weights",
) -> None:
    """Write prior importance weights as an annotation layer, with mean one over the kept documents.

    Example: gneiss weights curated/ --beta 1 --quality dclm
    """
    from gneiss.layers.weights import write_weights

    written = write_weights(
        run,
        layer=layer,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        quality=quality,
        perplexity=perplexity,
        category=category,
        upsampling=upsampling,
    )
    _print_weights(written)
    print_files(run, written)


def losses(
    run: RunArgument,
    input: Annotated[
        list[str], typer.Option("--input", "-i", help="Folder that LossLog wrote. Repeatable, in order of training.")
    ],
    layer: Layer = "losses",
    decay: Annotated[float, typer.Option(help="Decay of the moving averages, per visit of a document.")] = 0.9,
    window_steps: Annotated[int, typer.Option(min=1, help="Window, in steps, of the mean loss per position.")] = 100,
) -> None:
    """Aggregate the losses that training logged into an annotation layer.

    Example: gneiss losses curated/ --input losslog/
    """
    from gneiss.layers.losses import consolidate

    written = consolidate(run, input, layer=layer, decay=decay, window_steps=window_steps)
    _print_losses(written)
    print_files(run, written)


def _print_weights(written: WrittenLayer) -> None:
    parameters, summary = written.metadata["parameters"], written.metadata["summary"]
    say(f"{summary['documents']:,} documents have a weight, mean one")
    say(f"{parameters['formula']}")
    say(f"copies     {parameters['copies']}")
    powers = ", ".join(f"{name} {parameters[name]:g}" for name in ("alpha", "beta", "gamma"))
    chosen = ", ".join(f"{name} {parameters[name]}" for name in ("quality", "perplexity") if parameters[name])
    say(f"with       {powers}, {chosen or 'no quality'}, log_z {summary['log_z']:.6g}")
    if steps := parameters.get("upsampling"):
        say(f"upsampling {', '.join(f'×{factor:g} from {copies:,} copies' for copies, factor in steps)}")
    for name, neutral in parameters["absent"].items():
        say(f"absent     {name}: {'null' if neutral is None else f'{neutral:g}'} for all documents")
    if summary["documents_without_quality"]:
        say(f"no quality {summary['documents_without_quality']:,} documents, counted as neither good nor bad")
    if summary["documents_without_perplexity"]:
        say(f"no perplexity {summary['documents_without_perplexity']:,} documents, counted as neither common nor rare")
    quantiles = ", ".join(f"{name} {value:.3g}" for name, value in summary["weight_quantiles"].items())
    if quantiles:
        say(f"weights    {quantiles}, all below {summary['largest_weight_below']:.3g}")


def _print_losses(written: WrittenLayer) -> None:
    summary = written.metadata["summary"]
    say(
        f"{summary['documents_seen']:,} of {summary['documents']:,} documents were trained on: {summary['tokens']:,}"
        f" tokens in {summary['steps']:,} steps"
    )
    if summary["skipped_tokens"]:
        say(f"left out   {summary['skipped_tokens']:,} tokens whose loss was not finite")
    for bucket in summary["mean_loss_by_position"]:
        say(f"position   {bucket['from']:>8,} on: mean loss {bucket['loss']:.4f} over {bucket['tokens']:,} tokens")


def print_files(run: str, written: WrittenLayer) -> None:
    """Say where a layer is."""
    from gneiss.output.layout import annotations_folder, layer_file

    layer = written.metadata["layer"]
    was_there = "  (it was there already, with these parameters)" if written.was_there else ""
    say(f"layer      {run}/{annotations_folder(layer)}{was_there}")
    say(f"metadata   {run}/{layer_file(layer)}")
