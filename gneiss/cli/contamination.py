"""`gneiss contamination`: documents that have an item of an evaluation set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.columns import Columns
from rich.panel import Panel
from rich.text import Text

from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import console, say
from gneiss.errors import printable

contamination_app = typer.Typer(
    name="contamination", help="Inspect documents that contain items of an evaluation set.", no_args_is_help=True
)


@contamination_app.callback()
def _group() -> None:
    """A group of commands, even with one."""


@contamination_app.command()
def review(
    run: RunArgument,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="Input of the run, to read the texts of dropped documents.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Markdown file to write. Default: print.")
    ] = None,
    sets_in: Annotated[Path, typer.Option(help="Base folder of relative evaluation-set paths in the recipe.")] = Path(),
    top: Annotated[
        int, typer.Option(min=1, help="Number of documents to show, those with the largest overlap first.")
    ] = 100,
) -> None:
    """Show each document that contains an evaluation item beside that item, with the overlap marked.

    Example: gneiss contamination review curated/ --output review.md
    """
    from gneiss.output.finished_run import open_run
    from gneiss.output.parquet import write_bytes
    from gneiss.report.contamination import Marked, contamination_hits, hits_as_markdown
    from gneiss.store.place import place_of

    opened = open_run(run)
    hits = contamination_hits(opened, input=input, sets_in=sets_in, top=top)
    if output is not None:
        place = place_of(output, "output")
        write_bytes(hits_as_markdown(opened, hits).encode(), place.parent, place.name)
        say(f"{place}: {len(hits):,} documents")
        return

    def panel(marked: Marked | None, title: str) -> Panel:
        if marked is None:
            return Panel(Text("its text is not at hand: name the input (--input)"), title=title, width=width)
        shown = Text()
        for piece, is_marked in marked.pieces():
            shown.append(printable(piece, keep="\n"), style="bold red" if is_marked else None)
        return Panel(shown, title=title, width=width)

    out = console()
    width = out.width // 2 - 1
    out.print(f"{len(hits):,} documents have an item of an evaluation set")
    for number, hit in enumerate(hits, 1):
        say(f"\n{number}. {hit.item}, {hit.part} {hit.match:.2f}: shard {hit.shard}, row {hit.row:,}, {hit.status}")
        out.print(Columns([panel(hit.text, "evaluation set"), panel(hit.document, "document")]))
