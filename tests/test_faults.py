"""Pages that name tests name such as are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("page", "least"), [("faults.md", 100), ("models.md", 60), ("federated.md", 50)])
def test_every_test_that_a_page_names_is_there(page: str, least: int) -> None:
    named = set(re.findall(r"([\w/]+\.py)::(\w+)", (ROOT / "docs" / page).read_text("utf-8")))
    assert len(named) > least
    sources = {file: (ROOT / "tests" / file).read_text("utf-8") for file, _ in named}
    assert sorted(f"{file}::{test}" for file, test in named if f"def {test}(" not in sources[file]) == []
