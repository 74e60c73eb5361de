"""`gneiss report`: a page about a run for a browser, or lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.options import OutputArgument
from gneiss.cli.terminal import say, size
from gneiss.errors import InputError

if TYPE_CHECKING:
    from gneiss.output.finished_run import FinishedRun


def report(
    run: OutputArgument,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="HTML file to write. Default: report.html.")
    ] = None,
    into_output: Annotated[
        bool,
        typer.Option(
            "--into-output", help="Write the report into the run's output folder and link it from the dataset card."
        ),
    ] = False,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="Input of the run, to read the texts of dropped documents.")
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Print the counts to the terminal instead of writing a page.")
    ] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Group the counts by this annotation or input column, or by `domain`."),
    ] = None,
) -> None:
    """Write an HTML report on a run, finished or not: what it kept and dropped, by which rule, with examples.

    Example: gneiss report curated/ --output report.html
    """
    from gneiss.output.run_so_far import open_run_so_far

    if text:
        _print(open_run_so_far(run), input, by or (), writes=output is not None or into_output)
        return
    if output is not None and into_output:
        raise InputError("--output and --into-output: the report is written to one place; give one of them")
    for package in ("altair", "vl_convert"):
        if find_spec(package) is None:
            raise InputError(f"a report needs the package {package}; pip install 'gneiss-curation[report]'")
    from gneiss.output.parquet import write_bytes
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


def _print(run: FinishedRun, input: str | None, by: Sequence[str], *, writes: bool) -> None:
    from gneiss.report.as_text import report_text

    if writes:
        raise InputError("--text prints the counts, and writes no file; leave out --output and --into-output")
    if input is not None and not by:
        raise InputError("--input: with --text only --by reads the input; name a column (--by), or leave it out")
    say(report_text(run, input=input, by=by))
