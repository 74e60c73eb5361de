"""`gneiss annotate`: a layer of a finished run, of annotations that others published or that filters compute by now."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gneiss.cli.layers import print_files
from gneiss.cli.options import BackendOption, OnBackend, RunArgument, SharedFilesystem, Workers
from gneiss.cli.terminal import say
from gneiss.errors import InputError


class Repeats(StrEnum):
    """What to do with rows that have the same key."""

    refuse = "refuse"
    first = "first"


def annotate(
    run: RunArgument,
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Recipe for --update. Default: that of the run.")
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Compute the recipe's annotations that the run lacks or that another version of their code computed.",
        ),
    ] = False,
    table: Annotated[
        str | None, typer.Option("--from", help="Published table: a file, folder or glob, local or in a store.")
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(help="Join key: id, url, or COLUMN_OF_TABLE=COLUMN_OF_DOCUMENTS. Repeatable."),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Name of the annotation layer to write. Default: `updated` or `published`.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns to join, separated by commas. Default: all that the documents lack.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", help="Input of the run, if it has moved or the join key of dropped documents is needed."
        ),
    ] = None,
    repeats: Annotated[
        Repeats | None,
        typer.Option(help="What to do with table rows of equal key: refuse them (default) or take the first."),
    ] = None,
    memory_limit_mb: Annotated[
        int | None,
        typer.Option(min=100, help="Memory limit of the join, in MB; it spills to a temporary folder. Default: 1000."),
    ] = None,
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
) -> None:
    """Add an annotation layer to a finished run: published annotations, or those that new or changed filters compute.

    Example: gneiss annotate curated/ --from published.parquet --on id
    """
    of_table = {
        "--from": table,
        "--on": on,
        "--columns": columns,
        "--repeats": repeats,
        "--memory-limit-mb": memory_limit_mb,
    }
    of_update = {
        "RECIPE": recipe,
        "--workers": workers,
        "--backend": backend is not BackendOption.auto or None,
        "--shared-filesystem": shared_filesystem or None,
    }
    mode, others = ("--update", of_table) if update else ("--from", of_update)
    if given := [name for name, value in others.items() if value is not None]:
        raise InputError(f"{given[0]}: it is not for {mode}; see `gneiss annotate --help`")
    if update:
        _update(run, recipe, layer or "updated", input, workers, backend, shared_filesystem)
    elif table is None or not on:
        raise InputError("annotate: expected --from TABLE --on KEY, or --update")
    else:
        repeats, limit = repeats or Repeats.refuse, memory_limit_mb or 1000
        _from_table(run, table, on, layer or "published", columns, input, repeats, limit)


def _update(
    run: str,
    recipe: str | None,
    layer: str,
    original: str | None,
    workers: int | None,
    backend: BackendOption,
    shared_filesystem: bool,
) -> None:
    from gneiss.pipelines.update import update_annotations

    written = update_annotations(
        run,
        recipe,
        layer=layer,
        original=original,
        workers=workers,
        backend=backend.value,
        shared_filesystem=shared_filesystem,
    )
    if written is None:
        say(f"{run}: all annotations are up to date")
        return
    say(f"columns    {', '.join(written.metadata['columns'])}")
    if failed := written.metadata["summary"]["failed"]:
        say(f"failed     on {failed:,} documents, which have no value; `gneiss decide` computes these columns again")
    print_files(run, written)


def _from_table(
    run: str,
    table: str,
    on: list[str],
    layer: str,
    columns: str | None,
    input: str | None,
    repeats: Repeats,
    memory_limit_mb: int,
) -> None:
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
