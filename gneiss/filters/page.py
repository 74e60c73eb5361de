"""What gneiss knows to say about a filter: the page that `gneiss filters CODE` prints and docs/filters/ holds."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Page:
    """One filter in words.

    code: stable, such as GW01; name: the recipe's key; formula: plain text; rules: name → SQL condition, as published;
    source: paper and section of method and thresholds; cost: measured, with its unit; examples: realistic texts.
    """

    code: str
    name: str
    summary: str
    why: str
    formula: str
    source: str
    cost: str
    example_kept: str
    example_dropped: str
    rules: dict[str, str] = field(default_factory=dict)


def markdown(page: Page) -> str:
    """The page as Markdown; docs/filters/CODE.md is exactly this."""
    rules = "\n".join(f"- `{name}`: `{condition}`" for name, condition in page.rules.items())
    examples = "\n\n".join(
        f"{what}:\n\n{textwrap.indent(text, '    ')}"
        for what, text in (("Kept", page.example_kept), ("Dropped", page.example_dropped))
    )
    return (
        f"# {page.code} {page.name}\n\n{page.summary}\n\n## Why\n\n{page.why}\n\n## Formula\n\n{page.formula}\n\n"
        f"## Rules\n\n{rules}\n\nSource: {page.source}.\n\n## Cost\n\n{page.cost}.\n\n## Examples\n\n{examples}\n"
    )
