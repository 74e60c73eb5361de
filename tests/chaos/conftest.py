"""What the tests that kill share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import runs
from tests.chaos import killing


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with dedup, a model and readability: what loads fast, as it is loaded a hundred times."""
    folder = tmp_path_factory.mktemp("recipe")
    runs.train(folder / "tiny.bin")
    (folder / "chaos.yaml").write_text(killing.RECIPE)
    return folder / "chaos.yaml"
