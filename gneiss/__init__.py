"""gneiss: data curation for LLM pretraining corpora; start with `gneiss.run(recipe, input, output)`.

Public are the names in `__all__`, here and in the packages gneiss.recipe, gneiss.filters, gneiss.annotation, …; all
others may change in any version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gneiss.errors import (
    BudgetError,
    DefectError,
    GneissError,
    InputError,
    MachineError,
    ModelError,
    OutputError,
    RecipeError,
    StoreError,
)
from gneiss.version import __version__

if TYPE_CHECKING:
    from gneiss.annotation import annotate
    from gneiss.dedup import duplicate_spans, find_exact_duplicates, find_near_duplicates
    from gneiss.extraction.job import extract
    from gneiss.output.claim import Share
    from gneiss.output.finished_run import open_run
    from gneiss.output.push import push
    from gneiss.output.run_status import run_status
    from gneiss.output.verification import verify
    from gneiss.pipelines.decide import decide
    from gneiss.pipelines.dry_run import dry_run
    from gneiss.pipelines.estimate import estimate
    from gneiss.pipelines.reshard import reshard
    from gneiss.pipelines.run import RunOptions, run, run_share
    from gneiss.pipelines.update import update_annotations
    from gneiss.recipe import Recipe

__all__ = [
    "BudgetError",
    "DefectError",
    "GneissError",
    "InputError",
    "MachineError",
    "ModelError",
    "OutputError",
    "Recipe",
    "RecipeError",
    "RunOptions",
    "Share",
    "StoreError",
    "__version__",
    "annotate",
    "decide",
    "dry_run",
    "duplicate_spans",
    "estimate",
    "extract",
    "find_exact_duplicates",
    "find_near_duplicates",
    "open_run",
    "push",
    "reshard",
    "run",
    "run_share",
    "run_status",
    "update_annotations",
    "verify",
]
#: Name → the module that it comes from.
_HOMES = {
    "Recipe": "recipe",
    "RunOptions": "pipelines.run",
    "Share": "output.claim",
    "annotate": "annotation",
    "decide": "pipelines.decide",
    "dry_run": "pipelines.dry_run",
    "duplicate_spans": "dedup",
    "estimate": "pipelines.estimate",
    "extract": "extraction.job",
    "find_exact_duplicates": "dedup",
    "find_near_duplicates": "dedup",
    "open_run": "output.finished_run",
    "push": "output.push",
    "reshard": "pipelines.reshard",
    "run": "pipelines.run",
    "run_share": "pipelines.run",
    "run_status": "output.run_status",
    "update_annotations": "pipelines.update",
    "verify": "output.verification",
}


def __getattr__(name: str) -> Any:
    # pyarrow, numba and duckdb are imported where they are used, not by `import gneiss`
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'gneiss' has no attribute {name!r}")
    return getattr(import_module(f"gneiss.{_HOMES[name]}"), name)
