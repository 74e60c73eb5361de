"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer


class BackendOption(StrEnum):
    """Where workers live."""

    auto = "auto"
    local = "local"
    ray = "ray"


Workers: TypeAlias = Annotated[
    int | None, typer.Option(help="Processes or actors. Default: one a CPU, as memory allows.")
]
OnBackend: TypeAlias = Annotated[
    BackendOption, typer.Option(help="`auto`: Ray in a Ray job or with RAY_ADDRESS, else local.")
]
SharedFilesystem: TypeAlias = Annotated[
    bool, typer.Option("--shared-filesystem", help="Every Ray node sees the same paths.")
]
