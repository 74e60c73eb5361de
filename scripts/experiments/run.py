"""What reweighting saves, and where it saves nothing: toy regressions, a bound, and a small language model.

    python scripts/experiments/run.py [--quick] [--corpus DIR] [--json FILE] [--plot FILE] [--device DEVICE]

DIR holds Parquet files with a column `text`; by default it is the corpus of `gneiss sample`, made in a temporary
folder. Needs torch (`pip install 'gneiss-curation[train]'`); --plot needs the extra `report`. One thread, equal
figures for equal versions; nothing is written but what is asked for. With --quick 5 minutes of one core; without, a
larger model and twice the seeds, about an hour and a half of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch is imported where it is used: the processes that gneiss.run starts read this file, too
    from language_model import Setup, Trained
    from planted_corpus import Corpora, Planting
    from toy_regression import Steps

Figures = dict[str, Any]
#: From here on are the seeds that step sizes and learning rates are tuned on; nothing is reported on them.
TUNING_SEED = 1000
#: Learning rates that are tried; in the problem as it is by default, the best of every arm lies inside.
LEARNING_RATES = (0.01, 0.025, 0.06, 0.15)
#: Figures of other people's runs of the toy problems, not ours: the order is what should come again.
ELSEWHERE = {"linupper": 492, "quadratic": 531, "linear": 547, "uniform": 711, "extremes": 894}
ELSEWHERE_REDUNDANT = {"linupper": 85, "linupper r=0.4": 62, "uniform": 123}


def main() -> None:
    """Run all experiments, print their tables, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller model and 5 seeds: minutes on one core")
    parser.add_argument("--only", choices=("toys", "lm"), help="half of the experiments")
    parser.add_argument("--seeds", type=int, help="of every experiment; 5 with --quick, else 10")
    parser.add_argument("--corpus", type=Path, help="folder of Parquet files with a column `text`")
    parser.add_argument("--copies", type=float, default=0.75, help="share of the planted corpus that is copies")
    parser.add_argument("--templates", type=int, default=32, help="documents that the copies are copies of")
    parser.add_argument("--noise", type=float, default=0.05, help="share of the planted corpus that is noise")
    parser.add_argument("--r", type=float, default=0.4, help="temperature of LinUpper in the language model")
    parser.add_argument("--steps", type=int, help="training steps; 240 with --quick, else 960")
    parser.add_argument("--device", default="cpu", help="of the language model: cpu or cuda")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="write the curves of the language model to this PNG")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread

    import torch
    from language_model import Setup
    from planted_corpus import Planting

    torch.set_num_threads(1)
    seeds = range(arguments.seeds or (5 if arguments.quick else 10))
    figures: Figures = {"seeds": len(seeds), "torch": torch.__version__}
    start = time.process_time()
    if arguments.only != "lm":
        figures |= toys(seeds, range(TUNING_SEED, TUNING_SEED + 5))
    if arguments.only != "toys":
        setup = Setup(r=arguments.r, device=arguments.device)
        if not arguments.quick:
            setup = replace(setup, steps=960, width=96, layers=2)
        setup = replace(setup, steps=arguments.steps or setup.steps)
        planting = Planting(copy_share=arguments.copies, noise_share=arguments.noise, templates=arguments.templates)
        planting = replace(planting, corpus_bytes=planting.corpus_bytes * setup.steps // 240)
        figures |= language_model(setup, planting, arguments.corpus, seeds, [TUNING_SEED], plot=arguments.plot)
    figures["counted"] = {key: text for key, text in COUNTED.items() if key in figures}
    figures["cpu_seconds"] = time.process_time() - start
    print(f"\n{figures['cpu_seconds']:.0f} s of CPU time, without the processes of gneiss.run")
    if arguments.json:
        arguments.json.write_text(json.dumps(finite(figures), indent=1) + "\n", "utf-8")


def toys(seeds: Sequence[int], tuning_seeds: Sequence[int]) -> Figures:
    """The regressions and the bound."""
    import convergence_bound
    import toy_regression as toy

    paper = toy.fixed_steps(toy.paper_regression(), toy.PAPER, 0.05, seeds)
    table(
        "Toy regression of the paper: steps to excess risk 0.001, step size 0.05, r = 1",
        ("", "steps", "elsewhere"),
        [(name, spread(steps.by_seed), str(ELSEWHERE[name])) for name, steps in paper.items()],
    )
    null = toy.tuned_steps(toy.paper_regression(), toy.TUNED, toy.PAPER_GRID, seeds, tuning_seeds, limit=100)
    steps_table("The same at tuned step sizes: an honest null", null, {})
    redundant = toy.tuned_steps(
        toy.redundant_regression(), toy.REDUNDANT, toy.REDUNDANT_GRID, seeds, tuning_seeds, limit=250
    )
    steps_table(
        "Redundant: 90 % of samples in 5 of 50 dimensions, at 3 times the scale", redundant, ELSEWHERE_REDUNDANT
    )
    outliers = toy.final_risks(toy.paper_regression(outlier_share=0.05, outlier_scale=5.0), toy.OUTLIERS, 0.05, seeds)
    table(
        "5 % of labels off by N(0, 25): excess risk where the descent ends, step size 0.05",
        ("", "risk", "times uniform's"),
        [
            (name, spread(risks, 5), f"{fmean(risks) / fmean(outliers['uniform']):.2f}")
            for name, risks in outliers.items()
        ],
    )
    checked = convergence_bound.all_terms(seeds)
    bound_table(checked)
    return {
        "toy_steps": means({name: steps.by_seed for name, steps in paper.items()}),
        "toy_steps_sd": deviations({name: steps.by_seed for name, steps in paper.items()}),
        "null_difference": fmean(toy.saved(null, "linupper")),
        "null_difference_sd": deviation(toy.saved(null, "linupper")),
        "null_steps": means({name: steps.by_seed for name, steps in null.items()}),
        "redundant_steps_saved": fmean(toy.saved(redundant, "linupper")),
        "redundant_steps_saved_sd": deviation(toy.saved(redundant, "linupper")),
        "redundant_steps_saved_by_strategy": means({name: toy.saved(redundant, name) for name in redundant}),
        "redundant_steps": means({name: steps.by_seed for name, steps in redundant.items()}),
        "outlier_risk": means(outliers),
        "bound": {
            "runs": len(checked),
            "holds": sum(found.holds for found in checked),
            "least_slack": min(found.bound - found.mean_gap for found in checked),
            "gain_due": sum(found.gain_is_due for found in checked),
            "gain_at_least_0": sum(found.gain >= 0 for found in checked if found.gain_is_due),
        },
    }


def language_model(
    setup: Setup,
    planting: Planting,
    corpus: Path | None,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    *,
    plot: Path | None = None,
) -> Figures:
    """Plant, curate by gneiss, and train the arms."""
    import language_model as lm
    import planted_corpus

    with tempfile.TemporaryDirectory() as scratch:
        if corpus is None:
            from gneiss.demo.sample import write_sample

            corpus = Path(scratch, "sample")
            write_sample(corpus)
        planted = planted_corpus.plant(planted_corpus.real_texts(corpus, planting.document_bytes), planting)
        corpora = planted_corpus.curate_and_pack(
            planted, Path(scratch, "planted"), length=setup.length + 1, vocabulary=setup.vocabulary
        )
    model = lm.Decoder(setup)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"\nLanguage model: {parameters:,} parameters, {setup.steps} steps of {setup.batch} x {setup.length} tokens")
    corpora_table(corpora)
    arms = lm.trained(setup, corpora, LEARNING_RATES, seeds, tuning_seeds)
    shares = {name: lm.steps_shares(arms, name) for name in arms}
    losses = {name: tuple(curve.final for curve in arm.curves) for name, arm in arms.items()}
    table(
        f"Clean loss after {setup.steps} steps (nats per token), and steps to raw's, of {len(seeds)} paired seeds",
        ("", "rate", "clean loss", "less than raw", "share of steps", "clean share of weight"),
        [
            (
                name,
                f"{arm.learning_rate:g}",
                spread(losses[name], 3),
                spread([a - b for a, b in zip(losses["raw"], losses[name], strict=True)], 3),
                spread(shares[name], 2),
                f"{fmean(curve.clean_share for curve in arm.curves):.2f}",
            )
            for name, arm in arms.items()
        ],
    )
    curated_first = sum(
        curated < min(raw)
        for curated, *raw in zip(
            *(losses[name] for name in ("curated", "raw", "raw_linupper", "raw_priors")), strict=True
        )
    )
    uniform_steps = fmean(curve.steps_to(curve.final) for curve in arms["raw"].curves)
    print(f"raw first has its final loss at step {uniform_steps:.0f}: shares are of that")
    print(f"curated beats raw under any weighting for {curated_first} of {len(seeds)} seeds")
    if plot:
        plot_curves(arms, plot)
    return {
        "lm_steps_share": fmean(shares["raw_linupper"]),
        "lm_steps_share_by_arm": means(shares),
        "lm_steps_share_sd": deviations(shares),
        "lm_uniform_steps": uniform_steps,
        "lm_clean_loss": means(losses),
        "lm_clean_loss_sd": deviations(losses),
        "lm_curated_beats_raw_seeds": curated_first,
        "lm_learning_rate": {name: arm.learning_rate for name, arm in arms.items()},
        "lm_learning_rates_tried": list(LEARNING_RATES),
        "lm_setup": {**asdict(setup), "parameters": parameters},
        "lm_planting": asdict(planting),
        "lm_documents": {kind: {"raw": raw, "curated": curated} for kind, (raw, curated) in corpora.documents.items()},
    }


COUNTED = {
    "toy_steps": "by strategy, mean over seeds: the first step with an excess risk of at most 0.001; d = 100, "
    "x ~ N(0, diag(1/j)), noise-free, batch 128, step size 0.05, r = 1",
    "null_difference": "share of uniform's steps that LinUpper (r = 1) saves on the same problem, each at its own best "
    "step size, found on other seeds; mean over paired seeds",
    "redundant_steps_saved": "the same where 90 % of samples lie in 5 of 50 dimensions at 3 times the scale, batch 64, "
    "LinUpper with r = 1",
    "outlier_risk": "mean excess risk over the last 200 of 800 steps, 5 % of labels with N(0, 25) added",
    "bound": "runs in which the bound holds; of those whose score does not fall with the loss, runs with a gain of at "
    "least 0",
    "lm_steps_share": "raw_linupper: first step with uniform's final clean loss on raw data, over the step at which "
    "uniform itself first has it (lm_uniform_steps); mean over paired seeds; null where a seed never gets there",
    "lm_steps_share_by_arm": "the same for every arm",
    "lm_uniform_steps": "the step at which uniform weights on raw data first have their final clean loss",
    "lm_clean_loss": "by arm, nats per token after the last step, unweighted, on held-out documents without anything "
    "planted; mean over paired seeds; learning rates tuned on another seed and the other half of held-out documents",
}


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a title, all but the first column to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}")
    for first, *others in (head, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  " + "  ".join([first.ljust(widths[0]), *cells]).rstrip(), flush=True)


def steps_table(title: str, steps: Mapping[str, Steps], elsewhere: Mapping[str, int]) -> None:
    """Steps at tuned step sizes, and what each saves."""
    import toy_regression as toy

    rows = []
    for name, step in steps.items():
        saved = [100 * share for share in toy.saved(steps, name)]
        row = name, f"{step.step_size:.3f}", spread(step.by_seed), f"{spread(saved)} %"
        rows.append((*row, str(elsewhere.get(name, ""))))
    table(title, ("", "step size", "steps", "saved", "elsewhere" if elsewhere else ""), rows)


def bound_table(checked: Sequence[Any]) -> None:
    """The terms of the bound, in the mean over the seeds of a loss and weighting, and whether it held in all."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for found in checked:
        groups.setdefault((found.loss, found.weighting.name), []).append(found)
    table(
        "Convergence bound: mean gap <= descent - gain",
        ("", "mean gap", "descent", "gain", "bound", "least slack", "holds"),
        [
            (
                f"{loss}, {name}",
                *(f"{fmean(getattr(f, term) for f in group):.4f}" for term in ("mean_gap", "descent", "gain", "bound")),
                f"{min(f.bound - f.mean_gap for f in group):.4f}",
                f"{sum(f.holds for f in group)} of {len(group)}",
            )
            for (loss, name), group in groups.items()
        ],
    )
    due = [found.gain for found in checked if found.gain_is_due]
    print(f"  gain at least 0 in {sum(gain >= 0 for gain in due)} of {len(due)} runs whose score does not fall")


def corpora_table(corpora: Corpora) -> None:
    """What was planted, and what gneiss left of it."""
    rows = [(kind, str(raw), str(curated)) for kind, (raw, curated) in corpora.documents.items()]
    raw, curated = corpora.raw, corpora.curated
    rows.append(("sequences", str(len(raw)), str(len(curated))))
    rows.append(("of them clean", f"{100 * raw.clean.mean():.0f} %", f"{100 * curated.clean.mean():.0f} %"))
    table("Documents of the planted corpus, and what curation left", ("", "raw", "curated"), rows)


def plot_curves(arms: Mapping[str, Trained], path: Path) -> None:
    """Clean loss over steps: the mean over seeds, and the range."""
    import altair as alt

    rows = [
        {"arm": name.replace("_", " + ").replace("linupper", "LinUpper"), "step": step}
        | {"loss": fmean(losses), "least": min(losses), "most": max(losses)}
        for name, arm in arms.items()
        for step, *losses in zip(arm.curves[0].steps, *(curve.losses for curve in arm.curves), strict=True)
    ]
    target = fmean(curve.final for curve in arms["raw"].curves)
    # the first steps are the same for all, and would leave no room for the rest
    shown = [min(c.final for arm in arms.values() for c in arm.curves) - 0.1, target + 0.8]
    colours = ["#444444", "#d95f02", "#e6ab02", "#1b9e77", "#7570b3"]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("step:Q"),
        color=alt.Color("arm:N", sort=None, title=None, scale=alt.Scale(range=colours)),
    )
    loss = alt.Y("loss:Q", title="clean held-out loss (nats per token)", scale=alt.Scale(domain=shown))
    band = base.mark_area(opacity=0.15, clip=True).encode(y=alt.Y("least:Q").scale(domain=shown), y2="most:Q")
    rule = alt.Chart(alt.InlineData(values=[{"loss": target}])).mark_rule(strokeDash=[2, 2]).encode(y="loss:Q")
    alt.layer(band, base.mark_line(clip=True).encode(y=loss), rule).properties(width=640, height=380).save(
        path, scale_factor=1.5
    )


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Mean and standard deviation over seeds; `never` where one of them did not get there."""
    if not all(map(math.isfinite, values)):
        return f"never for {sum(not math.isfinite(value) for value in values)} of {len(values)}"
    return f"{fmean(values):.{digits}f} ± {deviation(values):.{digits}f}"


def deviation(values: Sequence[float]) -> float:
    """The standard deviation over seeds, NaN where one value is not finite, 0 of one seed."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return stdev(values) if len(values) > 1 else 0.0


def means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of each."""
    return {name: fmean(values_) for name, values_ in values.items()}


def deviations(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The standard deviation of each."""
    return {name: deviation(values_) for name, values_ in values.items()}


def finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
