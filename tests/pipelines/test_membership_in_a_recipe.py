"""An annotator of ids, in a recipe: membership in a published release, by the input's id column."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from rbloom import Bloom

from gneiss.filters.membership import key_of
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from tests import runs

RECIPE = """
name: membership
budgets: {documents: 0.5}
phases:
  - name: only
    annotate: [readability, {membership: {source: small.bloom}}]
    rules: {published: in_gneissweb}
"""


def test_ids_are_looked_up_whatever_becomes_of_the_texts(tmp_path: Path) -> None:
    runs.write_corpus(tmp_path / "input/a.parquet", runs.documents(40, seed=0))
    ids = [f"a-{i}" for i in range(40)]
    bloom = Bloom(100, 1e-9, lambda id_: (key_of(id_) + 2**127) % 2**128 - 2**127)  # signed, as rbloom wants it
    bloom.update(ids[::2])
    bloom.save(str(tmp_path / "small.bloom"))
    run(Recipe.parse(RECIPE, folder=tmp_path), tmp_path / "input", tmp_path / "output", backend=runs.InThisProcess())
    found = pq.read_table(tmp_path / "output/annotations/base/a.parquet")
    expected = [None if i in (20, 21) else i % 2 == 0 for i in range(40)]  # 20 and 21 are quarantined
    assert found["in_gneissweb"].to_pylist() == expected
    kept = pq.read_table(tmp_path / "output/data/a.parquet")["id"].to_pylist()
    assert kept == [ids[i] for i in range(0, 40, 2) if i != 20]
