"""`gneiss compare`: how far a run agrees with annotations of others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import console, say, table
from gneiss.errors import InputError, printable
from gneiss.output.markdown import plain

if TYPE_CHECKING:
    from gneiss.report import Comparison


class CompareFormat(StrEnum):
    """How a comparison is printed."""

    text = "text"
    markdown = "markdown"
    json = "json"


def compare(
    run: RunArgument,
    layer: Annotated[str, typer.Option("--with", help="Annotation layer to compare with.")],
    scores: Annotated[
        list[str] | None,
        typer.Option(help="Scores to compare, as ANNOTATION=COLUMN_OF_LAYER. Repeatable. Default: every pair."),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Group the comparison by this column. Repeatable. Default: label columns.")
    ] = None,
    format: Annotated[
        CompareFormat, typer.Option(help="Output format: for a terminal, a pull request or a program.")
    ] = (CompareFormat.text),
) -> None:
    """Compare the scores and decisions of a run with those of an annotation layer.

    Example: gneiss compare curated/ --with published
    """
    from gneiss.output.finished_run import open_run
    from gneiss.report import compare as compared

    found = compared(open_run(run), layer, scores=None if scores is None else list(map(_pair, scores)), by=by)
    if format is CompareFormat.json:
        say(json.dumps({"scores": found.scores.to_pylist(), "decisions": found.decisions.to_pylist()}, indent=1))
    elif format is CompareFormat.markdown:
        _print_markdown(found)
    else:
        _print_tables(found)


def _pair(text: str) -> tuple[str, str]:
    score, equals, other = text.partition("=")
    if not (score and equals and other):
        raise InputError(f"--scores {text}: expected ANNOTATION=COLUMN_OF_LAYER, such as prose=score")
    return score, other


def _print_tables(found: Comparison) -> None:
    out = console()
    for headings, rows in _parts(found, lambda text: escape(printable(text))):
        shown = table(*headings)
        for column in shown.columns[_texts(headings) :]:
            column.justify, column.no_wrap = "right", True
        for row in rows:
            shown.add_row(*row)
        out.print(shown)
        out.print()


def _print_markdown(found: Comparison) -> None:
    for headings, rows in _parts(found, plain):
        aligned = ("---" if at < _texts(headings) else "---:" for at in range(len(headings)))
        for row in (headings, aligned, *rows):
            say(f"| {' | '.join(row)} |")
        say()


def _parts(found: Comparison, name: Callable[[str], str]) -> Iterator[tuple[Sequence[str], list[list[str]]]]:
    """The headings and rows of each table that has any, as text; name: how names and values are shown."""
    for part in (found.scores, found.decisions):
        if part.num_rows:
            headings = [heading.replace("_", " ") for heading in part.column_names]
            yield headings, [[_cell(value, name) for value in row.values()] for row in part.to_pylist()]


def _texts(headings: Sequence[str]) -> int:
    return headings.index("documents")


def _cell(value: Any, name: Callable[[str], str]) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return name(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
