"""`gneiss explore`: the thresholds of a run, moved in a browser."""

from __future__ import annotations

import webbrowser
from importlib.util import find_spec
from typing import Annotated

import typer

from gneiss.cli.terminal import say
from gneiss.errors import InputError


def explore(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a finished run, local or in a store.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe with the rules to start from. Default: that of the run.")
    ] = None,
    input: Annotated[str | None, typer.Option("--input", "-i", help="Input of the run, if it has moved since.")] = None,
    by: Annotated[
        str | None, typer.Option(help="Annotation or input column that groups the documents at first, or `domain`.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Local port; 0 picks a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Adjust thresholds and rules in a browser and see what they keep. Serves this machine only.

    Example: gneiss explore curated/ --by language
    """
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
