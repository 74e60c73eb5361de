"""`gneiss explore`: the thresholds of a run, moved in a browser."""

from __future__ import annotations

import webbrowser
from importlib.util import find_spec
from typing import Annotated

import typer

from gneiss.cli.terminal import say
from gneiss.errors import InputError


def explore(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The output folder of a finished run, in any store.")],
    recipe: Annotated[
        str | None, typer.Option(help="Rules to begin with, over the annotations of the run; by default its own.")
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", "-i", help="What was given to the run, if it is elsewhere by now.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="The annotation by which documents are grouped first.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on this machine; 0 for a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Move thresholds and edit rules in a browser, and see what they keep; on this machine only."""
    for package in ("altair", "marimo"):
        if find_spec(package) is None:
            raise InputError(f"the explorer needs the package {package}; pip install 'gneiss-curation[explore]'")
    from gneiss.report.exploring import open_session
    from gneiss.report.serving import served

    given = {"output": run, "recipe": recipe, "input": input, "by": by}
    arguments = {name: value for name, value in given.items() if value is not None}
    open_session(arguments)  # what is wrong is said here
    with served(arguments, port) as server:
        say(f"{server.address}\nCtrl-C ends it.")
        if browser:
            webbrowser.open(server.address)
        server.process.wait()
