"""`gneiss sample` and `gneiss demo`: a real corpus from what this installation holds, and what a recipe does to it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.terminal import console, say, shown_progress, table

if TYPE_CHECKING:
    from gneiss.demo.demo import Demo
    from gneiss.demo.models import DemoModel
    from gneiss.demo.own_models import Documents, Labelled, OwnModels, Routed
    from gneiss.output.finished_run import FinishedRun
    from gneiss.routing.pilot import Pilot


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
    say("2. training two small models on it, and taking quantiles for thresholds")
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
    say(f"\nlook closer:     gneiss dry-run {place.recipe} --input {place.first_shard}")
    finished.check_budgets()
    if models:
        _demonstrate_models(place, finished)


def _demonstrate_models(place: Demo, curated: FinishedRun) -> None:
    """Steps 4 to 8: labels, models, and a judge that is asked seldom."""
    from gneiss.cli.run import print_run
    from gneiss.demo.judge import FUNCTION_WORDS_SHARE
    from gneiss.demo.own_models import AUDIT_SHARE, PILOT, SLA, OwnModels, documents_of, measured

    own, documents = OwnModels(place), documents_of(curated)
    count = len(documents.texts)
    say(f"\n4. choosing documents to have labelled, of the {count:,} that were kept")
    labelled = own.label(curated, documents)
    labels = sum(labelled.labels.values())
    say(
        f"   the judge is a function, and stands for a language model: it keeps texts of which"
        f" {FUNCTION_WORDS_SHARE:.0%} of the words are function words"
    )
    _print_labelled(labelled)
    say("5. fusing the run's annotations, and the new model's, into one score")
    scored = own.score(curated, shown_progress())
    fused = own.fuse(scored)
    say(
        f"   {fused.path.name}: accuracy {fused.held_out.by_label.accuracy:.2f} on {fused.held_out.documents} documents"
        " held out"
    )
    say(f"6. asking the judge about {PILOT:,} documents, to learn where it need not be asked; {SLA:.0%} shall agree")
    pilot = own.calibrate(scored, shown_progress()).pilot
    say(f"7. routing, with audits of {AUDIT_SHARE:.0%}: gneiss run {own.folder / 'routed.yaml'}")
    finished = own.route(shown_progress())
    print_run(finished)
    routed = measured(finished, documents)
    _print_ways(pilot, routed)
    asked = routed.audits.asked
    say(
        f"\nThe run asked the judge about {asked:,} of {count:,} documents. Before it came {labels:,} labels and"
        f" {PILOT:,} answers, as many for a corpus of any size."
    )
    _draw(own, documents, labelled, pilot, routed)


def _print_labelled(labelled: Labelled) -> None:
    import numpy as np

    reach, random_reach = (float(np.quantile(of, 0.99)) for of in (labelled.reach, labelled.random_reach))
    chosen = ", ".join(f"{count:,} {why}" for why, count in labelled.labels.items())
    say(f"   labelled: {chosen} (the last are for fusion)")
    say(
        f"   99 % of the documents are within {reach:.2f} of one of the coreset; of one of as many at random, within"
        f" {random_reach:.2f}"
    )
    if audit := labelled.classifier.audit:
        say(f"   {labelled.classifier.path.name}: agrees with the judge on {audit.accuracy}, by the audit")


def _print_ways(pilot: Pilot, routed: Routed) -> None:
    shown = table("way to decide", "agrees with the judge (95 % interval)", "cost", "judge asked")
    router, *others = pilot.ways
    for way in (*others, router):
        name = way.name if way is not router else "router, without audits"
        shown.add_row(name, str(way.agreement), f"{way.cost:.3f}", f"{way.asked:.1%}")
    audits = routed.audits
    asked = f"{audits.asked / audits.documents:.1%}"
    shown.add_row("router in the run, by its audits", str(audits.audited), f"{routed.cost:.3f}", asked)
    shown.add_row("  what it really agreed on", str(routed.known), "", "")
    console().print(shown)
    say("\nCost is that of a document, stated: 1 for a question to the judge, 0.001 and 0.002 for the models.")
    say("A real judge would leave the last line unknown; audits are what is known of a run.")


def _draw(own: OwnModels, documents: Documents, labelled: Labelled, pilot: Pilot, routed: Routed) -> None:
    if lacking := [package for package in ("altair", "vl_convert") if find_spec(package) is None]:
        say(f"no picture without the package {lacking[0]}: pip install 'gneiss-curation[report]'")
        return
    from gneiss.demo.own_models import SLA
    from gneiss.report.models_charts import models_chart, picture

    count = labelled.labels["coreset"]
    chart = models_chart(
        pilot.ways,
        (routed.audits.audited, routed.cost),
        SLA,
        routed.deciders,
        {f"coreset of {count}": labelled.reach, f"{count} at random": labelled.random_reach},
        routed.known,
        f"A judge asked seldom: {len(documents.texts):,} documents of a Python installation; the judge is simulated",
    )
    own.picture.write_bytes(picture(chart))
    say(f"picture          {own.picture}")


def _print_model(what: str, model: DemoModel) -> None:
    held_out = model.classifier.held_out
    say(
        f"   {model.classifier.path.name}, {what}: accuracy {held_out.by_label.accuracy:.2f} on"
        f" {held_out.documents:,} documents held out; threshold {model.threshold} (quantile {model.quantile})"
    )
