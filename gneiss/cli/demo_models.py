"""The second half of `gneiss demo --models`: labels, models trained on them, and a judge that is asked seldom."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from gneiss.cli.terminal import console, say, shown_progress, table

if TYPE_CHECKING:
    from gneiss.demo.demo import Demo
    from gneiss.demo.own_models import Documents, Labelled, OwnModels, Routed
    from gneiss.output.finished_run import FinishedRun
    from gneiss.routing.pilot import Pilot


def demonstrate_models(place: Demo, curated: FinishedRun) -> None:
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
    costs = " and ".join(f"{tier.cost:g}" for tier in pilot.policy.tiers)
    question = f"{pilot.policy.judge_cost:g} for a question to the judge"
    say(f"\nCost is that of a document, stated: {question}, {costs} for the models.")
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
