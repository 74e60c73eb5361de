"""Documentation of a filter: the page that `gneiss filters CODE` prints and docs/filters/ contains."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Page:
    """The documentation of one filter.

    code: stable, such as GW01; name: under `filters:` in a recipe (of an editor, under `edit:`); formula: plain text;
    rules: name → SQL condition, as published; source: paper and section of method and thresholds; cost: measured, with
    its unit; examples: realistic texts; is_edit: it changes texts and has no rules, and its examples are a text after
    (kept) and before (dropped); annotator: the key of what computes its annotations, by default the name.
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
    is_edit: bool = False
    annotator: str = ""

    @property
    def key(self) -> str:
        """The key of its annotator or editor."""
        return self.annotator or self.name


def markdown(page: Page) -> str:
    """The page as Markdown; docs/filters/CODE.md is exactly this."""
    rules = "".join(f"- `{name}`: `{condition}`\n" for name, condition in page.rules.items()) or "None is published.\n"
    shown = (("Kept", page.example_kept), ("Dropped", page.example_dropped))
    if page.is_edit:
        shown = (("Before", page.example_dropped), ("After", page.example_kept))
    examples = "\n\n".join(f"{what}:\n\n{textwrap.indent(text, '    ')}" for what, text in shown)
    source = f"## Source\n\n{page.source}." if page.is_edit else f"## Rules\n\n{rules}\nSource: {page.source}."
    return (
        f"# {page.code} {page.name}\n\n{page.summary}\n\n## Why\n\n{page.why}\n\n## Formula\n\n{page.formula}\n\n"
        f"{source}\n\n## Cost\n\n{page.cost}.\n\n## Examples\n\n{examples}\n"
    )
