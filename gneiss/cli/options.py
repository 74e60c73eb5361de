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
    str, typer.Argument(metavar="RECIPE", help="Name of a packaged recipe (see `gneiss explain`), or a YAML file.")
]
Changes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another value for a key of the recipe, such as phases.NAME.rules.RULE; may be repeated.",
    ),
]
RunArgument: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="The output folder of a finished run.")]
OutputArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="The output folder of a run, finished or not, in any store.")
]
InputFile: TypeAlias = Annotated[Path, typer.Option("--input", "-i", help="One Parquet file.")]
Layer: TypeAlias = Annotated[str, typer.Option(help="Name of the annotation layer to write.")]
WeightsLayer: TypeAlias = Annotated[str, typer.Option(help="The annotation layer with the weights.")]
TextColumn: TypeAlias = Annotated[str, typer.Option(help="The text column.")]
LabelColumn: TypeAlias = Annotated[str, typer.Option(help="The column with labels, or with scores.")]
Positive: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Label of good text (may be repeated). Default: hq.")
]
ScoreThreshold: TypeAlias = Annotated[float | None, typer.Option(help="Labels are scores; positive from this one on.")]
HeldOutShare: TypeAlias = Annotated[float, typer.Option(help="Share of each label that is not trained on.")]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(help="Processes or actors. Default: one a CPU, as memory allows.")
]
OnBackend: TypeAlias = Annotated[
    BackendOption, typer.Option(help="`auto`: Ray in a Ray job or with RAY_ADDRESS, else local.")
]
SharedFilesystem: TypeAlias = Annotated[
    bool, typer.Option("--shared-filesystem", help="Every Ray node sees the same paths.")
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
