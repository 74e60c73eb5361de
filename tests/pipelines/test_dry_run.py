"""The dry run: its counts are those of a run on the same file, also where the file is several shards."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss import dry_run, run
from gneiss.input.plan import make_plan
from gneiss.recipe.recipe import Recipe
from tests.runs import InThisProcess

PASSAGE = "A passage that several of the documents have in common, and long enough. "
TEXTS = [
    *(f"{PASSAGE if i % 3 else ''}document number {i % 7} says something of its own here" for i in range(14)),
    *(f"other words stand in document {i % 5}, {PASSAGE * (i % 2)}and not many of them" for i in range(14)),
    None,
    "short",
]
PHASES = {
    "exact": "- {name: a, exact_duplicates: {}, rules: {first: exact_first}}",
    "near": "- {name: a, near_duplicates: {bands: 4, rows: 2}, rules: {first: near_first}}",
    "substring": "- {name: a, dedup: {min_length: 40, scope: corpus}, rules: {long: text_chars > 20}}",
    "within shards": (
        "- {name: a, dedup: {min_length: 40}, exact_duplicates: {scope: shard}, rules: {first: exact_first}}"
    ),
    "two wide phases": (
        "- {name: long, rules: {long: text_chars > 20}}\n"
        "- {name: exact, exact_duplicates: {}, rules: {first: exact_first}}\n"
        "- {name: cut, dedup: {min_length: 40, scope: corpus}, annotate: [readability], rules: {readable: eflaw < 12}}"
    ),
    "a group": "- {name: a, dedup: {min_length: 40, scope: group, group_by: '^(.)'}, rules: {long: text_chars > 20}}",
}


def recipe_of(phases: str) -> Recipe:
    return Recipe.parse(f"name: several\nshard_max_bytes: 700\nbudgets: {{documents: 1}}\nphases:\n{PHASES[phases]}\n")


def write(path: Path, texts: list[str | None]) -> Path:
    table = pa.table({"id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.string())})
    pq.write_table(table, path, row_group_size=5)
    return path


@pytest.mark.parametrize("phases", PHASES)
@pytest.mark.slow
def test_a_dry_run_counts_what_a_run_counts(tmp_path: Path, phases: str) -> None:
    file = write(tmp_path / "a.parquet", TEXTS)
    recipe = recipe_of(phases)
    assert len(make_plan(recipe, file).input.shards) > 2
    before = sorted(tmp_path.rglob("*"))
    dry = dry_run(recipe, file)
    assert sorted(tmp_path.rglob("*")) == before
    done = run(recipe, file, tmp_path / "out", backend=InThisProcess())
    assert dry.statistics.to_json() == done.statistics.to_json()
    assert dry.examples == done.examples


@pytest.mark.parametrize(
    "limit", [7, 30, *(pytest.param(limit, marks=pytest.mark.exhaustive) for limit in (1, 5, 12, 29, 99))]
)
@pytest.mark.slow
def test_a_limit_counts_the_first_rows_as_if_there_were_no_others(tmp_path: Path, limit: int) -> None:
    recipe = recipe_of("two wide phases")
    limited = dry_run(recipe, write(tmp_path / "a.parquet", TEXTS), limit=limit)
    whole = dry_run(recipe, write(tmp_path / "b.parquet", TEXTS[:limit]))
    assert limited.statistics.to_json() == whole.statistics.to_json()
    assert limited.statistics.counts["rows"] == min(limit, len(TEXTS))
