"""What the command line prints: tables on a terminal, plain text when piped, JSON for machines."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gneiss.errors import RecipeError
from gneiss.input.model_files import is_pinned
from gneiss.output import layout
from gneiss.recipe.recipe import BASE_COLUMNS

if TYPE_CHECKING:
    from gneiss.cli.doctor import Check
    from gneiss.curate.examples import Samples
    from gneiss.curate.statistics import Statistics
    from gneiss.pipelines.dry_run import DryRun
    from gneiss.pipelines.passages import Passage
    from gneiss.pipelines.run import Run
    from gneiss.recipe.recipe import Recipe

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def print_run(run: Run) -> None:
    """What a run did, and where it is."""
    console = _console()
    _print_counts(console, run.statistics)
    _print_rules(console, run.recipe, run.statistics)
    for id_, reason in run.quarantined_shards.items():
        console.print(f"shard {escape(id_)} is quarantined: {escape(reason)}")
    done = f" ({run.skipped_shards} of {run.shards} shards were finished before)" if run.skipped_shards else ""
    console.print(f"\nkept documents   {escape(str(run.output / layout.DATA))}{done}")
    console.print(f"annotations      {escape(str(run.output / layout.BASE))}")
    console.print(f"dataset card     {escape(str(run.output / layout.CARD_FILE))}")


def print_dry_run(dry: DryRun, *, corpus_gb: float, as_json: bool) -> None:
    """What a recipe would do to a file: counts, rules, quantiles, examples, speed."""
    if as_json:
        print(json.dumps(_dry_run_json(dry, corpus_gb), indent=1, ensure_ascii=False))
        return
    console = _console()
    if dry.limit is not None:
        console.print(
            f"only the first {dry.statistics.counts['rows']:,} rows were read:"
            " dedup saw those alone, so a run may cut more"
        )
    _print_counts(console, dry.statistics)
    _print_rules(console, dry.recipe, dry.statistics)
    _print_annotations(console, dry.recipe, dry.statistics)
    _print_samples(console, dry.recipe, dry.samples)
    console.print(
        f"\n{dry.mb_per_cpu_second:.1f} MB of text per CPU second ({dry.cpu_seconds:.1f} s on one core, after"
        f" {dry.load_seconds:.1f} s to load):"
        f" about {dry.core_hours(corpus_gb):,.1f} core-hours for {corpus_gb:,.0f} GB of text"
    )


def print_recipe(recipe: Recipe) -> None:
    """A recipe resolved: what it reads, cuts, computes, decides, and its hash."""
    columns = recipe.input
    lines = [
        f"{recipe.name}  sha256 {recipe.digest()}",
        *textwrap.wrap(recipe.description, 100),
        "",
        f"reads     text from {columns.text!r}, ids from {columns.id!r}"
        + (f", URLs from {columns.url!r}" if "url" in recipe.inputs else ""),
        *(
            f"          {stale} of an edited document becomes {fresh or 'null'}"
            for stale, fresh in columns.derived_from_text.items()
        ),
        f"shards    at most {recipe.shard_max_bytes / 1e6:,.0f} MB of text",
        f"budgets   {recipe.budgets.documents:.2%} of documents and {recipe.budgets.shards} shards may be quarantined",
        *(
            f"model     {source}{'' if is_pinned(source) else '  (no commit is named: a run records the checksum)'}"
            for source in recipe.sources
        ),
    ]
    for number, phase in enumerate(recipe.phases, 1):
        lines += ["", f"phase {number}: {phase.name}"]
        for what, step in (("same text", phase.exact_duplicates), ("near-duplicates", phase.near_duplicates)):
            lines += [f"finds     {what}{_given(asdict(step))}"] if step else []
        if phase.dedup:
            given = phase.dedup.model_dump(
                exclude_none=True, exclude=None if phase.dedup.scope == "group" else {"group_max_bytes"}
            )
            lines.append(f"cuts      repeats{_given(given)}")
        edits = (entry for own in recipe.canonical()["phases"][number - 1]["edit"] for entry in own.items())
        lines += [f"edits     {key}{_given(given)}" for key, given in edits]
        columns_of_phase = (*(BASE_COLUMNS if number == 1 else ()), *phase.columns)
        lines += [f"computes  {column.name} ({column.type}): {column.meaning}" for column in columns_of_phase]
        lines += [f"rule      {name}: {condition}" for name, condition in phase.rules.items()]
        lines.append(f"keeps     {phase.decision.keep}")
    print("\n".join(lines))


def _given(parameters: Mapping[str, object]) -> str:
    """Parameters in brackets."""
    return f" ({', '.join(f'{name} {value}' for name, value in parameters.items())})" if parameters else ""


def print_recipes(recipes: Iterable[Recipe]) -> None:
    """A line for each recipe."""
    table = _table("recipe", "what")
    for recipe in recipes:
        table.add_row(recipe.name, escape(" ".join(recipe.description.split())))
    _console().print(table)


def print_filters(code: str | None) -> None:
    """A line for each filter, or one filter's page. Raises RecipeError for an unknown code."""
    from gneiss.filters.catalogue import PAGES
    from gneiss.filters.page import markdown
    from gneiss.recipe.rule import did_you_mean

    if code is None:
        table = _table("code", "filter", "what", "rules")
        for page in PAGES:
            table.add_row(page.code, page.name, page.summary, ", ".join(page.rules))
        _console().print(table)
        return
    by_code = {page.code: page for page in PAGES}
    if code.upper() not in by_code:
        raise RecipeError(f"no filter {code!r}{did_you_mean(code.upper(), by_code)}")
    console = _console()
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(markdown(by_code[code.upper()])))
    else:
        print(markdown(by_code[code.upper()]), end="")


def print_checks(checks: Sequence[Check]) -> None:
    """A line for each check, with what mends it."""
    console = _console()
    for check in checks:
        mark = "ok     " if check.is_well else "missing" if check.is_needed else "absent "
        console.print(f"{mark} {escape(check.what)}: {escape(check.found)}")
        if not check.is_well:
            console.print(f"        {escape(check.mend)}")


def print_passages(passages: Sequence[Passage], top: int) -> None:
    """The largest repeated passages: a table, then each in context, the cut in colour (or between brackets)."""
    console = _console()
    total = sum(passage.cut_bytes for passage in passages)
    console.print(f"{len(passages):,} distinct passages repeat; cutting their copies takes {_size(total)}\n")
    table = _table("", "cut", "copies cut", "bytes each", "first in row", "passage")
    for number, passage in enumerate(passages[:top], 1):
        excerpt = textwrap.shorten(_printable(passage.text), 70, placeholder=" …")
        numbers = (f"{passage.cut_copies:,}", f"{passage.size_bytes:,}", f"{passage.source_row:,}")
        table.add_row(str(number), _size(passage.cut_bytes), *numbers, escape(excerpt))
    console.print(table)
    opening, closing = ("[bold red]", "[/bold red]") if console.is_terminal else ("\\[[", "]]")
    for number, passage in enumerate(passages[:top], 1):
        shown = _printable(passage.text)
        if len(shown) > 600:
            shown = f"{shown[:300]} … {shown[-300:]}"
        console.print(f"\n{number}. row {passage.row:,}, which repeats row {passage.source_row:,}")
        before, after = escape(_printable(passage.before)), escape(_printable(passage.after))
        console.print(f"   {before}{opening}{escape(shown)}{closing}{after}", soft_wrap=True)


def _print_counts(console: Console, statistics: Statistics) -> None:
    counts = statistics.counts
    rows, text = max(counts["rows"], 1), max(counts["input_text_bytes"], 1)
    console.print(
        f"\n{counts['rows']:,} documents: {counts['kept']:,} kept ({counts['kept'] / rows:.1%}),"
        f" {counts['dropped']:,} dropped, {counts['quarantined']:,} quarantined"
    )
    console.print(
        f"{_size(counts['input_text_bytes'])} of text: {_size(counts['kept_text_bytes'])} kept,"
        f" {_size(counts['dedup_bytes'])} ({counts['dedup_bytes'] / text:.1%}) cut as repeats,"
        f" {_size(counts['orphaned_bytes'])} of that orphaned (the surviving copy was dropped)"
    )
    for reason, count in sorted(statistics.reasons.items()):
        console.print(f"quarantined {count:,}: {escape(reason)}")
    if counts["repeated_ids"]:
        console.print(f"warning: {counts['repeated_ids']:,} documents repeat the id of another one in their shard")


def _print_rules(console: Console, recipe: Recipe, statistics: Statistics) -> None:
    for phase in recipe.phases:
        if not phase.rules:
            continue
        told = statistics.rule_counts(phase.name, phase.rules)
        entered = sum(statistics.patterns.get(phase.name, {}).values())
        kept = entered - statistics.dropped_in[phase.name]
        table = _table("rule", "true", "false", "unknown", "decisive alone", "condition")
        for rule, counts in told.items():
            numbers = (f"{counts[name]:,}" for name in ("true", "false", "unknown", "decisive"))
            table.add_row(rule, *numbers, escape(_shorten(phase.rules[rule], 60)))
        console.print(f"\nphase {phase.name}: {kept:,} of {entered:,} kept by {phase.decision.keep}")
        console.print(table)
        for rule, counts in told.items():
            if entered and counts["true"] in (0, entered):
                same = "true" if counts["true"] else "never true"
                console.print(f"warning: {rule} is {same} for every document: it decides nothing here")


def _print_annotations(console: Console, recipe: Recipe, statistics: Statistics) -> None:
    table = _table("annotation", "null", *(f"p{round(100 * q)}" for q in QUANTILES))
    for column in recipe.columns:
        told = statistics.columns[column.name]
        if told.values:
            shown = [f"{value}: {count:,}" for value, count in told.values.most_common(len(QUANTILES))]
        else:
            shown = [_number(told.quantile(q)) for q in QUANTILES]
        table.add_row(column.name, f"{told.missing + told.nan:,}", *(escape(s) for s in shown))
    console.print()
    console.print(table)


def _print_samples(console: Console, recipe: Recipe, samples: Samples) -> None:
    for phase in recipe.phases:
        for rule, condition in phase.rules.items():
            for example in samples.get(rule, []):
                what = "dropped by this rule alone" if example["decisive"] else "fails this rule"
                scores = ", ".join(
                    f"{name} {_number(value)}"
                    for name, value in example["annotations"].items()
                    if re.search(rf"\b{name}\b", condition)
                )
                shown = escape(_printable(str(example["id"])))
                console.print(f"\n{rule}, {what}: {shown}  ({escape(scores)})", soft_wrap=True)
                excerpt = textwrap.shorten(_printable(example["excerpt"]), 240, placeholder=" …")
                console.print("  " + escape(excerpt or "(empty)"), soft_wrap=True)


def _dry_run_json(dry: DryRun, corpus_gb: float) -> dict[str, Any]:
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
        "samples": dry.samples,
        "cpu_seconds": dry.cpu_seconds,
        "load_seconds": dry.load_seconds,
        "mb_per_cpu_second": dry.mb_per_cpu_second,
        "projected": {"corpus_gb": corpus_gb, "core_hours": dry.core_hours(corpus_gb)},
    }


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def _table(*headings: str) -> Table:
    from rich import box

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        numeric = heading in {"true", "false", "unknown", "decisive alone", "null"} or (
            heading.startswith("p") and heading[1:].isdigit()
        )
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    return table


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes} bytes"


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _printable(text: str) -> str:
    """Text of a document without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)
