"""Counts of a run or a dry run, as both print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from gneiss.cli.terminal import shorten, size, table
from gneiss.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from gneiss.curate.statistics import Statistics
    from gneiss.recipe.recipe import Recipe


def print_counts(out: Console, statistics: Statistics) -> None:
    """Documents and bytes: kept, dropped, quarantined, cut."""
    from gneiss.curate.reading import is_bad_data

    counts = statistics.counts
    rows, text = max(counts["rows"], 1), max(counts["input_text_bytes"], 1)
    out.print(
        f"\n{counts['rows']:,} documents: {counts['kept']:,} kept ({counts['kept'] / rows:.1%}),"
        f" {counts['dropped']:,} dropped, {counts['quarantined']:,} quarantined"
    )
    out.print(
        f"{size(counts['input_text_bytes'])} of text: {size(counts['kept_text_bytes'])} kept,"
        f" {size(counts['dedup_bytes'])} ({counts['dedup_bytes'] / text:.1%}) cut as repeats,"
        f" {size(counts['orphaned_bytes'])} of that orphaned (the surviving copy was dropped)"
    )
    for reason, count in sorted(statistics.reasons.items()):
        by = "" if is_bad_data(reason) else " by a defect"
        out.print(f"quarantined {count:,}{by}: {escape(printable(reason))}")
    if counts["repeated_ids"]:
        out.print(f"warning: {counts['repeated_ids']:,} documents repeat the id of another one in their shard")


def print_rules(out: Console, recipe: Recipe, statistics: Statistics) -> None:
    """A table for each phase: how often each rule was true, and decided."""
    for phase in recipe.phases:
        if not phase.rules:
            continue
        rule_counts = statistics.rule_counts(phase.name, phase.rules)
        entered = sum(statistics.patterns.get(phase.name, {}).values())
        kept = entered - statistics.dropped_in[phase.name]
        rows = table("rule", "true", "false", "unknown", "decisive alone", "condition")
        for rule, counts in rule_counts.items():
            numbers = (f"{counts[name]:,}" for name in ("true", "false", "unknown", "decisive"))
            rows.add_row(rule, *numbers, escape(shorten(phase.rules[rule], 60)))
        out.print(f"\nphase {phase.name}: {kept:,} of {entered:,} kept by {escape(printable(phase.decision.keep))}")
        out.print(rows)
        for rule, counts in rule_counts.items():
            if counts["errors"]:
                out.print(
                    f"warning: {rule} cannot be computed for {counts['errors']:,} documents, for which it is unknown:"
                    " a division by zero, a logarithm of zero, an overflow, a cast, or NaN"
                )
            if entered and counts["true"] in (0, entered):
                which = "every" if counts["true"] else "no"
                out.print(f"warning: {rule} is true for {which} document: it has no effect here")
