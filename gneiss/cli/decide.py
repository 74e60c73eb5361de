"""`gneiss decide`: another recipe over the annotations of a finished run."""

from __future__ import annotations

from typing import Annotated

import typer

from gneiss.cli.options import BackendOption, Changes, OnBackend, RecipeArgument, SharedFilesystem, Workers, load_recipe
from gneiss.cli.run import print_run
from gneiss.cli.terminal import shown_progress


def decide(
    recipe: RecipeArgument,
    input: Annotated[str, typer.Option("--input", "-i", help="Output folder of a finished run.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="New output folder. The same command resumes an interrupted run.")
    ],
    original: Annotated[str | None, typer.Option(help="Input of that run, if it has moved since.")] = None,
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
    changes: Changes = None,
) -> None:
    """Apply changed rules to a finished run, from its stored annotations, and write a new output.

    Example: gneiss decide fineweb --input curated/ --output stricter/ --set phases.fineweb.keep="gopher_quality"
    """
    from gneiss.pipelines.decide import decide as decide_again

    finished = decide_again(
        load_recipe(recipe, changes),
        input,
        output,
        original=original,
        workers=workers,
        backend=backend.value,
        shared_filesystem=shared_filesystem,
        progress=shown_progress(),
    )
    print_run(finished)
    finished.check_budgets()
