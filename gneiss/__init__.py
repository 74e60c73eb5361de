"""gneiss: data curation for LLM pretraining corpora; start with `gneiss.run(recipe, input, output)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gneiss.version import __version__

if TYPE_CHECKING:
    from gneiss.pipelines.run import Run, run
    from gneiss.recipe.recipe import Recipe

__all__ = ["Recipe", "Run", "__version__", "run"]


def __getattr__(name: str) -> Any:
    # pyarrow, numba and duckdb are imported where they are used, not by `import gneiss`
    from importlib import import_module

    homes = {"Recipe": "gneiss.recipe.recipe", "Run": "gneiss.pipelines.run", "run": "gneiss.pipelines.run"}
    if name not in homes:
        raise AttributeError(f"module 'gneiss' has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
