"""`gneiss report`: a page about a run, for a browser."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from gneiss.cli.options import OutputArgument
from gneiss.cli.terminal import say, size
from gneiss.errors import InputError


def report(
    run: OutputArgument,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The HTML file to write; by default report.html.")
    ] = None,
    into_output: Annotated[
        bool, typer.Option("--into-output", help="Write it into the run's output, and link it from the dataset card.")
    ] = False,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="What was given to the run: the texts of dropped documents.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also by the values of this column, an annotation or one of the input, or by `domain`."),
    ] = None,
) -> None:
    """Write a page about a run, finished or not: what was kept and dropped, by which rule, with examples."""
    if output is not None and into_output:
        raise InputError("--output and --into-output: the report is written to one place; give one of them")
    for package in ("altair", "vl_convert"):
        if find_spec(package) is None:
            raise InputError(f"a report needs the package {package}; pip install 'gneiss-curation[report]'")
    from gneiss.output.parquet import write_bytes
    from gneiss.output.run_so_far import open_run_so_far
    from gneiss.report.into_output import put_into_output
    from gneiss.report.page import report_page
    from gneiss.store.place import place_of

    opened = open_run_so_far(run)
    place = place_of(output or "report.html", "output")
    content = report_page(opened, input=input, by=by or ())
    if into_output:
        place = put_into_output(opened, content)
    else:
        write_bytes(content.encode(), place.parent, place.name)
    say(f"{place}: {size(len(content.encode()))}")
