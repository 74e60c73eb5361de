"""`gneiss dry-run`: what a recipe would do to one file."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from gneiss.cli.counts import print_counts, print_rules
from gneiss.cli.options import Changes, InputFile, RecipeArgument, load_recipe
from gneiss.cli.terminal import console, excerpt, number, say, table
from gneiss.errors import printable

if TYPE_CHECKING:
    from gneiss.curate.examples import Examples
    from gneiss.curate.statistics import Statistics
    from gneiss.pipelines.dry_run import DryRun
    from gneiss.recipe.recipe import Recipe

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def dry_run(
    recipe: RecipeArgument,
    input: InputFile,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read only the first N rows; dedup compares only these.")
    ] = None,
    corpus_gb: Annotated[
        float, typer.Option(min=0, help="Corpus size, in GB of text, for which core-hours are projected.")
    ] = 1000.0,
    changes: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show what a recipe would do to one file, without writing anything.

    Example: gneiss dry-run fineweb --input crawl/part-00000.parquet --limit 10000
    """
    from gneiss.jobs.defects import collected_defects
    from gneiss.pipelines.dry_run import dry_run as try_recipe

    if not as_json:
        say(f"{printable(input)}: reading with recipe {recipe}")
    with collected_defects() as defects:
        tried = try_recipe(load_recipe(recipe, changes), input, limit=limit)
    for defect in defects.values():
        say(f"{defect.message}\n{defect.traceback}This is a defect, not bad data: please report it", file=sys.stderr)
    if as_json:
        say(json.dumps(_as_json(tried, corpus_gb), indent=1, ensure_ascii=False))
    else:
        _print_dry_run(tried, corpus_gb)


def _print_dry_run(dry: DryRun, corpus_gb: float) -> None:
    """What a recipe would do to a file: counts, rules, quantiles, examples, speed."""
    out = console()
    if dry.limit is not None:
        out.print(
            f"only the first {dry.statistics.counts['rows']:,} rows were read:"
            " dedup saw only those, so a run may cut more"
        )
    if dry.has_shares:
        out.print("shares of tokens refer to the rows read here: a run computes other thresholds")
    print_counts(out, dry.statistics)
    print_rules(out, dry.recipe, dry.statistics)
    _print_annotations(out, dry.recipe, dry.statistics)
    _print_examples(out, dry.recipe, dry.examples)
    out.print(
        f"\n{dry.mb_per_cpu_second:.1f} MB of text per CPU second ({dry.cpu_seconds:.1f} s on one core, after"
        f" {dry.load_seconds:.1f} s to load):"
        f" about {dry.core_hours(corpus_gb):,.1f} core-hours for {corpus_gb:,.0f} GB of text"
    )


def _print_annotations(out: Console, recipe: Recipe, statistics: Statistics) -> None:
    rows = table("annotation", "null", *(f"p{round(100 * q)}" for q in QUANTILES))
    for column in recipe.columns:
        column_counts = statistics.columns[column.name]
        if column_counts.values:
            shown = [f"{value}: {count:,}" for value, count in column_counts.values.most_common(len(QUANTILES))]
        else:
            shown = [number(column_counts.quantile(q)) for q in QUANTILES]
        rows.add_row(column.name, f"{column_counts.missing + column_counts.nan:,}", *(escape(s) for s in shown))
    out.print()
    out.print(rows)


def _print_examples(out: Console, recipe: Recipe, examples: Examples) -> None:
    for phase in recipe.phases:
        for rule, condition in phase.rules.items():
            for example in examples.get(rule, []):
                what = "dropped by this rule alone" if example["decisive"] else "fails this rule"
                scores = ", ".join(
                    f"{name} {number(value)}"
                    for name, value in example["annotations"].items()
                    if re.search(rf"\b{name}\b", condition)
                )
                shown = escape(printable(str(example["id"])))
                out.print(f"\n{rule}, {what}: {shown}  ({escape(printable(scores))})", soft_wrap=True)
                shown = textwrap.shorten(excerpt(example["excerpt"]), 240, placeholder=" …")
                out.print("  " + escape(shown or "(empty)"), soft_wrap=True)


def _as_json(dry: DryRun, corpus_gb: float) -> dict[str, Any]:
    statistics = dry.statistics
    return {
        "file": dry.path,
        "recipe": dry.recipe.name,
        "recipe_sha256": dry.recipe.digest(),
        "limit": dry.limit,
        "counts": dict(statistics.counts),
        "reasons": dict(statistics.reasons),
        "rules": {phase.name: statistics.rule_counts(phase.name, phase.rules) for phase in dry.recipe.phases},
        "annotations": {
            name: {
                "missing": column.missing + column.nan,
                **(
                    {"values": dict(column.values)}
                    if column.values
                    else {f"p{round(100 * q)}": column.quantile(q) for q in QUANTILES}
                ),
            }
            for name, column in statistics.columns.items()
        },
        "samples": dry.examples,
        "cpu_seconds": dry.cpu_seconds,
        "load_seconds": dry.load_seconds,
        "mb_per_cpu_second": dry.mb_per_cpu_second,
        "projected": {"corpus_gb": corpus_gb, "core_hours": dry.core_hours(corpus_gb)},
    }
