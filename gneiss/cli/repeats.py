"""`gneiss repeats`: repeated text in a file, for choosing a threshold by inspection."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gneiss.cli.options import InputFile, TextColumn
from gneiss.cli.terminal import console, excerpt, size, table

if TYPE_CHECKING:
    from gneiss.pipelines.passages import Passage


class Policy(StrEnum):
    """Which part of a repeat dedup may cut."""

    protect = "protect"
    union = "union"
    all = "all"


def repeats(
    input: InputFile,
    min_length: Annotated[int, typer.Option(min=2, help="Minimum length of a repeat, in bytes.")] = 200,
    policy: Annotated[Policy, typer.Option(help="Which part of a repeat dedup may cut.")] = Policy.protect,
    top: Annotated[int, typer.Option(min=1, help="Number of passages to show.")] = 10,
    text_column: TextColumn = "text",
) -> None:
    """Show the largest repeated passages of a file, how often each occurs, and one occurrence in context.

    Example: gneiss repeats --input crawl/part-00000.parquet --min-length 200
    """
    from gneiss.pipelines.passages import repeated_passages

    _print_passages(repeated_passages(input, text_column, min_length=min_length, policy=policy.value), top)


def _print_passages(passages: Sequence[Passage], top: int) -> None:
    """The largest repeated passages: a table, then each in context, the cut in colour (or between brackets)."""
    out = console()
    total = sum(passage.cut_bytes for passage in passages)
    out.print(f"{len(passages):,} distinct passages repeat; cutting their copies takes {size(total)}\n")
    rows = table("", "cut", "copies cut", "bytes each", "first in row", "passage")
    for number, passage in enumerate(passages[:top], 1):
        shown = textwrap.shorten(excerpt(passage.text), 70, placeholder=" …")
        numbers = (f"{passage.cut_copies:,}", f"{passage.size_bytes:,}", f"{passage.source_row:,}")
        rows.add_row(str(number), size(passage.cut_bytes), *numbers, escape(shown))
    out.print(rows)
    opening, closing = ("[bold red]", "[/bold red]") if out.is_terminal else ("\\[[", "]]")
    for number, passage in enumerate(passages[:top], 1):
        shown = excerpt(passage.text)
        if len(shown) > 600:
            shown = f"{shown[:300]} … {shown[-300:]}"
        out.print(f"\n{number}. row {passage.row:,}, which repeats row {passage.source_row:,}")
        before, after = escape(excerpt(passage.before)), escape(excerpt(passage.after))
        out.print(f"   {before}{opening}{escape(shown)}{closing}{after}", soft_wrap=True)
