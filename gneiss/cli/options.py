"""Arguments and options of several commands: the nouns of the grammar `gneiss VERB RECIPE|RUN --input --output`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class BackendOption(StrEnum):
    """Where workers live."""

    auto = "auto"
    local = "local"
    ray = "ray"


RecipeArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a packaged recipe (see `gneiss explain`), or a YAML file.")
]
RunArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="RUN", help="The output folder of a finished run.")]
InputFile: TypeAlias = Annotated[Path, typer.Option("--input", "-i", help="One Parquet file.")]
Layer: TypeAlias = Annotated[str, typer.Option(help="Name of the annotation layer to write.")]
WeightsLayer: TypeAlias = Annotated[str, typer.Option(help="The annotation layer with the weights.")]
TextColumn: TypeAlias = Annotated[str, typer.Option(help="The text column.")]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(help="Processes or actors. Default: one a CPU, as memory allows.")
]
OnBackend: TypeAlias = Annotated[
    BackendOption, typer.Option(help="`auto`: Ray in a Ray job or with RAY_ADDRESS, else local.")
]
SharedFilesystem: TypeAlias = Annotated[
    bool, typer.Option("--shared-filesystem", help="Every Ray node sees the same paths.")
]
