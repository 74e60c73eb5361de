"""`gneiss sample` and `gneiss demo`: a real corpus from what this installation holds, and what a recipe does to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.terminal import say, shown_progress

if TYPE_CHECKING:
    from gneiss.demo.models import DemoModel


def sample(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards.")],
    shards: Annotated[int, typer.Option(min=1, help="Number of Parquet files.")] = 4,
) -> None:
    """Collect a small real corpus from the files of this Python installation, without network access.

    Example: gneiss sample --output sample/ --shards 4
    """
    from gneiss.demo.sample import write_sample

    manifest = write_sample(output, shards=shards)
    say(f"{manifest.documents:,} documents, {manifest.text_bytes / 1e6:.1f} MB of text in {shards} shards: {output}")


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder, or the folder of an earlier demo.")
    ] = Path("demo"),
    models: Annotated[
        bool,
        typer.Option(
            "--models",
            help="Also demonstrate labelling, training, fusion and routing with a simulated judge, and draw a chart.",
        ),
    ] = False,
) -> None:
    """Collect the sample corpus, train two small models on it, curate it and show the result.

    Example: gneiss demo --output demo
    """
    from gneiss.cli.run import print_run
    from gneiss.demo.demo import Demo

    place = Demo.in_empty(output)
    say(f"1. harvesting a corpus from this Python installation into {place.sample}")
    manifest = place.harvest()
    say(f"   {manifest.documents:,} documents, {manifest.text_bytes / 1e6:.1f} MB, {manifest.duplicates:,} copies")
    say("2. training two small models on it, and choosing thresholds by quantiles")
    thresholds = place.write_recipe()
    _print_model("prose against reference documentation", thresholds.models.quality)
    _print_model("technology by package", thresholds.models.technology)
    (eflaw, of_technology), (low, high) = thresholds.eflaw, thresholds.tokens_per_char
    say(f"   readable: eflaw below {eflaw} (quantile 0.85), in technology below {of_technology} (0.95)")
    say(f"   tokens_normal: {low} to {high} tokens of cl100k_base per character (quantiles 0.05 and 0.95)")
    say(f"3. curating: gneiss run {place.recipe} --input {place.sample} --output {place.curated}")
    say("   (the first run compiles the kernels, which takes about half a minute, once)")
    finished = place.curate(shown_progress())
    print_run(finished)
    say("\nnext:")
    say(f"  gneiss report {place.curated} --text     what was kept and dropped, by which rule")
    say(f"  gneiss explore {place.curated}           move the thresholds in a browser")
    say(f"  gneiss dry-run {place.recipe} --input {place.first_shard}     try a changed recipe on one file")
    finished.check_budgets()
    if models:
        from gneiss.cli.demo_models import demonstrate_models

        demonstrate_models(place, finished)


def _print_model(what: str, model: DemoModel) -> None:
    held_out = model.classifier.held_out
    say(
        f"   {model.classifier.path.name}, {what}: accuracy {held_out.by_label.accuracy:.2f} on"
        f" {held_out.documents:,} documents held out; threshold {model.threshold} (quantile {model.quantile})"
    )
