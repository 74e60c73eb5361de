"""A run whose phases see the corpus, for tables that must hold of every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from tests import runs
from tests.support import recipe_of

WIDE = """
  - name: first
    dedup: {min_length: 80, unit: bytes, scope: corpus}
    rules: {long: text_bytes > 250, there: text_chars > 0}
  - name: second
    annotate: [readability, {tokens: {column: counted}}]
    rules: {readable: eflaw < 23.5, plain: ari < 12, dense: "counted_per_char < 0.24"}
    keep: readable AND (plain OR dense)
"""


@pytest.fixture(scope="session")
def wide(material: runs.Material, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Two phases over the input of `material`, substring dedup over the corpus in the first."""
    recipe = recipe_of(WIDE, shard_max_bytes=24000, budgets={"documents": 0.5})
    return run(recipe, material.input, tmp_path_factory.mktemp("wide") / "curated", backend=runs.InThisProcess())


@pytest.fixture(params=[pytest.param("demo", marks=[pytest.mark.processes, pytest.mark.slow]), "wide"])
def any_run(request: pytest.FixtureRequest) -> FinishedRun:
    """A run of the demo's recipe, and one at corpus scope."""
    from gneiss.output.finished_run import open_run

    if request.param == "wide":
        return request.getfixturevalue("wide")  # type: ignore[no-any-return]
    demo: Path = request.getfixturevalue("demo")
    return open_run(demo / "curated")
