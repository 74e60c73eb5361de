"""`gneiss diff`: which documents a change of a recipe moves, and why."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gneiss.cli.options import Workers
from gneiss.cli.terminal import console, excerpt, say, table
from gneiss.errors import printable

if TYPE_CHECKING:
    from gneiss.output.finished_run import FinishedRun
    from gneiss.report import Difference


class DiffFormat(StrEnum):
    """How a difference is printed."""

    terminal = "terminal"
    markdown = "markdown"


def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Output folder; with --input, a recipe.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Output folder or recipe to compare with.")],
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="File or folder on which two recipes are compared.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Group the counts by this annotation, such as a category.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="Number of example documents per reason.")] = 2,
    format: Annotated[
        DiffFormat, typer.Option(help="Output format; `markdown` suits a pull request.")
    ] = DiffFormat.terminal,
    workers: Workers = None,
) -> None:
    """Show which documents two outputs, or two recipes on one input, decide differently, and which rules changed.

    Example: gneiss diff curated/ stricter/
    """
    from gneiss.report import diff as compare

    with _outputs(before, after, input, workers) as (one, other):
        found = compare(one, other, by=by, examples=examples)
    if format is DiffFormat.markdown:
        print(_markdown(before, after, found), end="")  # whose texts have no control characters
    else:
        _print(found)


@contextmanager
def _outputs(
    before: str, after: str, input: str | None, workers: int | None
) -> Iterator[tuple[FinishedRun, FinishedRun]]:
    """Two outputs; those of recipes are in a temporary folder, the second from the annotations of the first."""
    from gneiss.output.finished_run import open_run
    from gneiss.pipelines.decide import decide
    from gneiss.pipelines.run import run

    if input is None:
        yield open_run(before), open_run(after)
        return
    with tempfile.TemporaryDirectory(prefix="gneiss-diff-") as folder:
        first = run(before, input, f"{folder}/before", workers=workers)
        yield first, decide(after, first, f"{folder}/after", workers=workers)


def _print(found: Difference) -> None:
    out = console()
    say(_summary(found))
    groups = sorted({name for side in found.sides.values() for name in side.groups if name is not None})
    rows = table("side", "documents", "why", *(escape(printable(name)) for name in groups))
    for (side, why), counted in found.sides.items():
        rows.add_row(side, f"{counted.documents:,}", escape(why), *(f"{counted.groups[name]:,}" for name in groups))
    if found.sides:
        out.print()
        out.print(rows)
    for (side, why), counted in found.sides.items():
        for example in counted.examples:
            said = escape(printable(f"{side}, {why}: {example.id} ({example.shard}, row {example.row})"))
            out.print(f"\n{said}", soft_wrap=True)
            out.print("  " + escape(excerpt(example.excerpt)[:240] or "(empty)"), soft_wrap=True)


def _summary(found: Difference) -> str:
    gained, lost = found.count("gained"), found.count("lost")
    edited = f", {found.edited:,} with another text" if found.edited else ""
    return (
        f"{found.rows:,} documents: {found.before:,} kept before, {found.after:,} after; {gained:,} gained,"
        f" {lost:,} lost{edited}"
    )


def _markdown(before: str, after: str, found: Difference) -> str:
    from gneiss.output.markdown import code, plain

    groups = sorted({name for side in found.sides.values() for name in side.groups if name is not None})
    lines = [f"**{code(before)} → {code(after)}**: {_summary(found)}.", ""]
    if found.sides:
        lines += [
            f"| side | documents | why |{''.join(f' {plain(name)} |' for name in groups)}",
            f"| --- | ---: | --- |{' ---: |' * len(groups)}",
        ]
        for (side, why), counted in found.sides.items():
            counts = "".join(f" {counted.groups[name]:,} |" for name in groups)
            lines.append(f"| {side} | {counted.documents:,} | {plain(why)} |{counts}")
    for (side, why), counted in found.sides.items():
        if counted.examples:
            lines += ["", f"<details><summary>{side}: {html.escape(printable(why))}</summary>", ""]
            lines += [
                f"- {code(example.id)} ({code(example.shard)}, row {example.row}): {code(excerpt(example.excerpt))}"
                for example in counted.examples
            ]
            lines += ["", "</details>"]
    return "\n".join(lines) + "\n"
