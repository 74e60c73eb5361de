"""`gneiss annotate`: annotations that others published, as a layer of a finished run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gneiss.cli.layers import print_files
from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import say


class Repeats(StrEnum):
    """What to do with rows that have the same key."""

    refuse = "refuse"
    first = "first"


def annotate(
    run: RunArgument,
    table: Annotated[
        str, typer.Option("--from", help="A published table: a file, folder or pattern, local or in any store.")
    ],
    on: Annotated[
        list[str], typer.Option(help="What is equal: id, url, or COLUMN_OF_TABLE=COLUMN_OF_DOCUMENTS; may be repeated.")
    ],
    layer: Annotated[str, typer.Option(help="Name of the annotation layer to write.")] = "published",
    columns: Annotated[
        str | None, typer.Option(help="Those to take, with commas. Default: all that the documents do not have.")
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="The run's input, for keys of documents that were not kept.")
    ] = None,
    repeats: Annotated[Repeats, typer.Option(help="Rows with the same key: refuse them, or take the first.")] = (
        Repeats.refuse
    ),
    memory_limit_mb: Annotated[
        int, typer.Option(min=100, help="For the join; beyond, it uses a temporary folder.")
    ] = 1000,
) -> None:
    """Join published annotations with the documents of a finished run, as an annotation layer."""
    from gneiss.layers.published import annotate_from

    written = annotate_from(
        run, table, on=on, layer=layer, columns=columns.split(",") if columns else None, input=input,
        repeats=repeats.value, memory_limit_mb=memory_limit_mb,
    )  # fmt: skip
    summary, parameters = written.metadata["summary"], written.metadata["parameters"]
    say(f"{summary['documents_matched']:,} of {summary['documents']:,} documents are in the table")
    if summary["documents_without_key"]:
        why = ", as only kept ones are read without --input" if parameters["kept_only"] else ""
        say(f"no key     {summary['documents_without_key']:,} documents{why}")
    unmatched = summary["rows"] - summary["rows_matched"]
    say(f"table      {summary['rows']:,} rows, {unmatched:,} of them of no document")
    if summary["rows_without_key"]:
        say(f"no key     {summary['rows_without_key']:,} rows")
    if summary["rows_repeated"]:
        say(f"repeated   {summary['rows_repeated']:,} rows, after the first of their key")
    say(f"columns    {', '.join(written.metadata['columns'])}")
    if summary["left_out"]:
        say(f"left out   {', '.join(summary['left_out'])}: the documents have them")
    print_files(run, written)
