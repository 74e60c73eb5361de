"""docs/faults.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_page_of_faults_names_is_there() -> None:
    named = set(re.findall(r"([\w/]+\.py)::(\w+)", (ROOT / "docs/faults.md").read_text("utf-8")))
    assert len(named) > 100
    sources = {file: (ROOT / "tests" / file).read_text("utf-8") for file, _ in named}
    assert sorted(f"{file}::{test}" for file, test in named if f"def {test}(" not in sources[file]) == []
