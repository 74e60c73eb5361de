"""Imported by the fork server only, which `warm` in conftest.py starts: whole runs, so that the processes it forks have
every module imported and every kernel loaded. A process that starts to be killed costs a fork instead of a second.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import tests.extraction.test_kill  # noqa: F401
from tests import runs
from tests.chaos import killing, test_rounds

with tempfile.TemporaryDirectory() as _name:
    _folder = Path(_name)
    runs.write_corpus(_folder / "input/x.parquet", runs.documents(24, seed=0))
    runs.train(_folder / "tiny.bin")
    for _number, _recipe in enumerate((killing.RECIPE, test_rounds.RECIPE)):
        (_folder / "recipe.yaml").write_text(_recipe)
        _output = _folder / f"output-{_number}"
        killing.run_here_until(killing.NEVER, _folder / "recipe.yaml", _folder / "input", _output)
