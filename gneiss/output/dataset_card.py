"""The dataset card of an output: what it is, from what, by which recipe, and the counts."""

from __future__ import annotations

from collections.abc import Mapping

from gneiss.curate.statistics import Statistics
from gneiss.input.plan import Plan
from gneiss.output import layout
from gneiss.output.markdown import code, plain
from gneiss.version import __version__


def dataset_card(plan: Plan, statistics: Statistics, quarantined_shards: Mapping[str, str]) -> str:
    """The card as Markdown."""
    counts = statistics.counts
    rows = max(counts["rows"], 1)
    lines = [
        f"# {plan.recipe.name}, curated",
        "",
        f"Curated by gneiss {__version__} from {code(plan.source)} ({len(plan.input.shards)} shards) with the recipe"
        f" `{plan.recipe.name}` (sha256 `{plan.recipe.digest()}`, written out in `{layout.RECIPE_FILE}`).",
        "",
        plain(" ".join(plan.recipe.description.split())),
        "",
        "| documents | count | share |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {counts[name]:,} | {counts[name] / rows:.2%} |" for name in ("kept", "dropped", "quarantined")),
        f"| all | {counts['rows']:,} | |",
        "",
        "| bytes of text | count |",
        "| --- | ---: |",
        f"| in the input | {counts['input_text_bytes']:,} |",
        f"| cut by dedup | {counts['dedup_bytes']:,} |",
        f"| cut from kept documents, though the surviving copy was dropped | {counts['orphaned_bytes']:,} |",
        f"| kept | {counts['kept_text_bytes']:,} |",
        "",
        "| rule | condition | not true for | alone dropped |",
        "| --- | --- | ---: | ---: |",
    ]
    for phase in plan.recipe.phases:
        for rule, its in statistics.rule_counts(phase.name, phase.rules).items():
            condition = code(phase.rules[rule], in_table=True)
            lines.append(f"| {rule} | {condition} | {its['false'] + its['unknown']:,} | {its['decisive']:,} |")
    lines += [
        "",
        *(f"Kept in phase `{phase.name}` when {code(phase.decision.keep)}." for phase in plan.recipe.phases),
        "",
    ]
    if quarantined_shards:
        lines += [
            "Shards that could not be read:",
            "",
            *(f"- {code(id_)}: {plain(why)}" for id_, why in quarantined_shards.items()),
            "",
        ]
    lines += [
        f"- `{layout.DATA}/`: the kept documents, their text after dedup, all other columns as they came",
        f"- `{layout.BASE}/`: one row for every input row: status, why, every score",
        f"- `{layout.QUARANTINE}/`: rows that could not be used, with the reason (if there are any)",
        f"- `{layout.OWN}/`: the recipe, receipts, statistics",
        "",
    ]
    return "\n".join(lines)
