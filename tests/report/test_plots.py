"""What the notebook draws: thresholds moved, bins, tables, each held to a query over the output's files."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from gneiss.curate.statistics import ColumnStatistics, bins_of
from gneiss.errors import InputError
from gneiss.output.finished_run import open_run
from gneiss.recipe.recipe import Recipe
from gneiss.report.plots import displayed_bins, html_table, kept_shares, thresholds


def test_a_moved_threshold_decides_as_a_query_does(demo: Path) -> None:
    output = open_run(demo / "curated")
    phase = output.recipe.phases[0]
    rows = output.reached(phase)
    (quality,) = [t for t in thresholds(phase, output.recipe.columns) if t.rule == "quality"]
    values = [0.0, 0.05, 0.3, 1.0]
    table = f"read_parquet('{demo}/curated/annotations/base/*.parquet')"
    expected = [
        duckdb.sql(
            f"SELECT avg((prose > {value} AND NOT list_contains(failed, 'not_emptied') AND NOT"
            f" (list_contains(failed, 'readable') AND list_contains(failed, 'tokens_normal')))::INT) FROM {table}"
        ).fetchall()[0][0]
        for value in values
    ]
    assert kept_shares(rows, phase, quality, values) == pytest.approx(expected)
    assert expected[0] > expected[-1]


def test_missing_and_nan_scores_are_not_kept() -> None:
    import pyarrow as pa

    recipe = Recipe.parse(
        "name: x\nphases: [{name: one, annotate: [readability], aliases: {score: eflaw}, rules: {high: score > 10}}]"
    )
    (threshold,) = thresholds(recipe.phases[0], recipe.columns)
    rows = pa.table({"eflaw": [float("nan"), None, 11.0, 12.0]})
    assert threshold.annotation == "eflaw"
    assert kept_shares(rows, recipe.phases[0], threshold, [0, 11, 12]).tolist() == [0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("eflaw < 30", [("eflaw", 30)]),
        ("eflaw BETWEEN -1.5 AND 2e3 AND words > 7", [("eflaw", -1.5), ("eflaw", 2000), ("words", 7)]),
        ("EFLAW < CASE WHEN words > 5 THEN 1 ELSE 2 END", [("words", 5), ("eflaw", 1), ("eflaw", 2)]),
        ("CASE WHEN words > 5 THEN ari < 1 ELSE ari < 2 END", [("words", 5), ("ari", 1), ("ari", 2)]),
        ("easy < 3 AND 'eflaw 9' <> 'x'", [("eflaw", 3)]),
    ],
)
def test_thresholds_are_found_in_conditions(condition: str, expected: list[tuple[str, float]]) -> None:
    recipe = Recipe.parse(
        "name: x\nphases:\n- name: one\n  annotate: [readability]\n  aliases: {easy: eflaw}\n"
        f'  rules: {{r: "{condition}", reads_the_alias: easy IS NULL}}\n'
    )
    found = thresholds(recipe.phases[0], recipe.columns)
    assert [(t.annotation, t.value) for t in found] == expected
    for t in found:
        assert float(recipe.phases[0].rules["r"][t.start : t.stop]) == t.value


def test_displayed_bins_lose_no_document() -> None:
    draw = np.random.default_rng(0)
    for values in (draw.normal(size=500), draw.lognormal(sigma=8, size=500), np.full(9, 3.0), np.arange(20.0)):
        column = ColumnStatistics()
        column.bins.update(bins_of(values).tolist())
        column.kept_bins.update(bins_of(values[::2]).tolist())
        edges, everyone, kept = displayed_bins(column, 30)
        assert len(edges) == 31
        assert (np.diff(edges) > 0).all()
        assert everyone.sum() == len(values)
        assert kept.sum() == len(values[::2])
        assert (kept <= everyone).all()
    assert all(len(part) == 0 for part in displayed_bins(ColumnStatistics()))


def test_tables_are_escaped() -> None:
    assert "<script>" not in html_table([{"<script>": "<script>alert(1)</script>", "n": 1234}])
    assert "1,234" in html_table([{"n": 1234}])


def test_an_unfinished_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run here"):
        open_run(tmp_path)
