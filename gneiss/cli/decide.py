"""`gneiss decide`: another recipe over the annotations of a finished run."""

from __future__ import annotations

from typing import Annotated

import typer

from gneiss.cli.options import BackendOption, Changes, OnBackend, RecipeArgument, SharedFilesystem, Workers, load_recipe
from gneiss.cli.run import print_run
from gneiss.cli.terminal import shown_progress


def decide(
    recipe: RecipeArgument,
    input: Annotated[str, typer.Option("--input", "-i", help="The output folder of a finished run.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Another output folder; the same command resumes.")],
    original: Annotated[str | None, typer.Option(help="The input of that run, if it is elsewhere by now.")] = None,
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
    changes: Changes = None,
) -> None:
    """Decide again by a changed recipe: the output of a run, without computing an annotation that is there."""
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
