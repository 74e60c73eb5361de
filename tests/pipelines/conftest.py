"""Runs in this process, without Ray, by a recipe without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import runs


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are worked on in this process, also those of a command line."""
    monkeypatch.setattr("gneiss.backends.local.LocalProcesses", runs.InThisProcess)


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    """A recipe without a model."""
    path = tmp_path / "simple.yaml"
    path.write_text(runs.WITHOUT_MODEL)
    return path
