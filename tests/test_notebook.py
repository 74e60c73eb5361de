"""The notebook runs on a finished output, and what it shows is what the output's files say."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import nbformat
import pytest
from nbclient import NotebookClient

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
    NotebookClient(notebook, timeout=600).execute()
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
