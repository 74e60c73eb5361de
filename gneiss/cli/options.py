"""Arguments and options of several commands: the nouns of the grammar `gneiss VERB RECIPE|RUN --input --output`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from gneiss.errors import RecipeError

if TYPE_CHECKING:
    from gneiss.recipe.recipe import Recipe


class BackendOption(StrEnum):
    """Where workers live."""

    auto = "auto"
    local = "local"
    ray = "ray"


RecipeArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Name of a packaged recipe (`gneiss explain` lists them), or the path of a YAML file."
    ),
]
Changes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a recipe key, such as phases.NAME.rules.RULE. Repeatable.",
    ),
]
RunArgument: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a finished run.")]
OutputArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="Output folder of a run, finished or not; local or in a store.")
]
InputFile: TypeAlias = Annotated[Path, typer.Option("--input", "-i", help="Parquet file to read.")]
Layer: TypeAlias = Annotated[str, typer.Option(help="Name of the annotation layer to write.")]
WeightsLayer: TypeAlias = Annotated[str, typer.Option(help="Annotation layer that holds the weights.")]
TextColumn: TypeAlias = Annotated[str, typer.Option(help="Column that holds the text.")]
LabelColumn: TypeAlias = Annotated[str, typer.Option(help="Column that holds the labels or scores.")]
Positive: TypeAlias = Annotated[list[str] | None, typer.Option(help="Label of good text. Repeatable. Default: hq.")]
ScoreThreshold: TypeAlias = Annotated[
    float | None, typer.Option(help="Treat labels as scores, positive from this value up.")
]
HeldOutShare: TypeAlias = Annotated[float, typer.Option(help="Share of each label held out for evaluation.")]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Maximum number of worker processes or Ray actors. Default: one per CPU, as memory allows."),
]
OnBackend: TypeAlias = Annotated[
    BackendOption,
    typer.Option(
        help="Where workers run. `auto`: Ray inside a Ray job or if RAY_ADDRESS is set, else local processes."
    ),
]
SharedFilesystem: TypeAlias = Annotated[
    bool,
    typer.Option("--shared-filesystem", help="Declare that every Ray node sees the same files at the local paths."),
]


def load_recipe(recipe: str, changes: list[str] | None, run: str | None = None) -> Recipe:
    """The recipe that a command is given, with what `--set` changes in it.

    Parameters: `run`: a finished run, in which the numbers of rules by share are found. Raises RecipeError, InputError.
    """
    from gneiss.recipe.recipe import Recipe

    loaded = Recipe.load(recipe)
    loaded = loaded.changed(dict(map(_parsed, changes))) if changes else loaded
    if run is None or not loaded.shares:
        return loaded
    from gneiss.mixture.thresholds import resolved
    from gneiss.output.finished_run import open_run

    return resolved(loaded, open_run(run))


def _parsed(change: str) -> tuple[str, Any]:
    from gneiss.recipe.yaml_text import read_yaml

    key, separator, value = change.partition("=")
    if not separator:
        raise RecipeError(f"--set {change}: expected KEY=VALUE, such as phases.NAME.rules.RULE='text_chars > 100'")
    try:
        return key.strip(), read_yaml(value)
    except RecipeError as error:
        raise RecipeError(f"--set {change}: the value is {error}") from error
