"""However many shards see each other, few files are open at once."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from gneiss.pipelines.run import run
from tests import runs
from tests.support import recipe_of

SHARDS, DESCRIPTORS = 40, 24


@pytest.mark.slow
def test_shards_that_see_each_other_take_fewer_descriptors_than_there_are_shards(tmp_path: Path) -> None:
    steps = "exact_duplicates: {scope: corpus}, dedup: {min_length: 60, scope: corpus}"
    recipe = recipe_of(f"  - {{name: only, {steps}}}", budgets={"documents": 0.5})
    prose = runs.documents(12, seed=2)[:4]
    for number in range(SHARDS):
        runs.write_corpus(tmp_path / f"input/{number:02}.parquet", [*prose, b"An ordinary text, number %d." % number])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + DESCRIPTORS, limits[1]))
    try:
        finished = run(recipe, tmp_path / "input", tmp_path / "output", backend=runs.InThisProcess())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (len(finished.shards), finished.counts["rows"]) == (SHARDS, 5 * SHARDS)
    assert finished.counts["dedup_bytes"] > 0
