"""Imported by the fork server alone: a whole run, so that the processes it forks have every kernel loaded already."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests import runs
from tests.chaos import killing

with tempfile.TemporaryDirectory() as _name:
    _folder = Path(_name)
    runs.write_corpus(_folder / "input/x.parquet", runs.documents(24, seed=0))
    runs.train(_folder / "tiny.bin")
    (_folder / "chaos.yaml").write_text(killing.RECIPE)
    killing.run_here_until(killing.NEVER, _folder / "chaos.yaml", _folder / "input", _folder / "output")
