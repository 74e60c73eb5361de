"""A finished run of 5 shards, 180 rows, 132 kept documents; every test that writes takes a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from gneiss.pipelines import run as pipeline
from gneiss.layers.weights import release
from tests import runs


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run."""
    folder = tmp_path_factory.mktemp("reweight")
    material = runs.make_material(folder)
    with mock.patch.object(pipeline, "choose_backend", return_value=(runs.InThisProcess(), 1)):
        pipeline.run(material.recipe, material.input, folder / "curated")
    return folder / "curated"


@pytest.fixture(scope="session")
def released(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it with the layer `weights`."""
    folder = tmp_path_factory.mktemp("released") / "curated"
    shutil.copytree(curated, folder)
    release(folder, beta=0.25, quality="prose", category="prose_label")
    return folder


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of an output, to write into."""

    def copy(output: Path) -> Path:
        target = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        return Path(shutil.copytree(output, target))

    return copy
