"""The notebook runs on a finished output, and what it shows is what the output's files say."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from gneiss.curate.statistics import ColumnStatistics, bins_of
from gneiss.errors import InputError
from gneiss.plots import Output, displayed_bins, html_table, kept_shares, thresholds
from gneiss.recipe.recipe import Recipe

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks/statistics.ipynb"
TOLD = """
import json
print(json.dumps({
    "documents": documents, "text": text, "patterns": patterns, "kept_now": kept_now, "annotations": ANNOTATIONS,
    "quantiles": quantiles, "labels": labels,
}))
"""


def test_the_notebook_tells_what_the_files_say(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = demo / "curated"
    monkeypatch.setenv("GNEISS_OUTPUT", str(output))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(TOLD))
    NotebookClient(notebook, timeout=120).execute()
    told = json.loads(notebook.cells[-1].outputs[0].text)

    rows = f"read_parquet('{output}/annotations/base/*.parquet')"
    query = duckdb.sql
    status = dict(query(f"SELECT status, count(*) FROM {rows} GROUP BY status").fetchall())
    counted = {row["documents"]: row["count"] for row in told["documents"]}
    assert counted["kept"] == status["kept"] > 0
    assert counted["dropped"] == status["dropped"] > 0
    assert counted["rows"] == sum(status.values())
    cut = {row["bytes of text"]: row["count"] for row in told["text"]}
    assert cut["cut by dedup"] == query(f"SELECT sum(dedup_bytes) FROM {rows}").fetchall()[0][0] > 0

    recipe = Recipe.load(output / "_gneiss/recipe.yaml")
    for row in told["patterns"]["demo"]:
        failed = sorted(rule for rule in recipe.phases[0].rules if row[rule] != "true")
        found = query(f"SELECT count(*) FROM {rows} WHERE list_sort(failed) = {failed}::VARCHAR[]").fetchall()[0][0]
        same = [
            r for r in told["patterns"]["demo"] if sorted(n for n in recipe.phases[0].rules if r[n] != "true") == failed
        ]
        assert found == sum(r["documents"] for r in same)

    # at the recipe's own threshold every what-if curve goes through what the run kept
    assert len(told["kept_now"]["demo"]) == 6
    assert told["kept_now"]["demo"] == pytest.approx([status["kept"] / counted["rows"]] * 6, abs=0)
    assert {"prose", "eflaw", "tokens_per_char"} <= set(told["annotations"])
    medians = {row["annotation"]: row["p50"] for row in told["quantiles"]}
    exact = query(f"SELECT quantile_disc(eflaw, 0.5) FROM {rows}").fetchall()[0][0]
    assert medians["eflaw"] == pytest.approx(exact, rel=0.016)

    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1 + len(told["annotations"]) + 1
    html = "".join(
        str(o.data.get("text/html", "")) for c in notebook.cells for o in c.get("outputs", []) if "data" in o
    )
    assert "<urn:uuid:" not in html
    assert "&lt;urn:uuid:" in html


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)


def test_a_moved_threshold_decides_as_a_query_does(demo: Path) -> None:
    output = Output.open(demo / "curated")
    phase = output.recipe.phases[0]
    rows = output.annotations(phase)
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
        f'  rules: {{r: "{condition}"}}\n'
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
        Output.open(tmp_path)
