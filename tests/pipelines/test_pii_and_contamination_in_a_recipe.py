"""An editor that puts text in place of text, and an annotator whose source is a folder, in a recipe."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.input.plan import make_plan
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from tests import runs

RECIPE = """
name: clean
phases:
  - name: only
    edit: [pii]
    annotate: [{contamination: {folder: evals, ngram_words: 8}}]
    rules: {not_contaminated: contamination_ngrams = 0}
"""
QUESTION = "Which river runs through the capital of the country?"


def test_addresses_are_replaced_and_test_questions_dropped(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals/quiz.txt").write_text(QUESTION)
    texts = ["Mail jo@site.org.", f"1. {QUESTION.upper()} jo@site.org", "Nothing at all.", None]
    (tmp_path / "input").mkdir()
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "text": texts}), tmp_path / "input/a.parquet")
    recipe = Recipe.parse(RECIPE + "budgets: {documents: 0.5}", folder=tmp_path)
    key = make_plan(recipe, tmp_path / "input").run_key
    run(recipe, tmp_path / "input", tmp_path / "output", backend=runs.InThisProcess())
    annotations = pq.read_table(tmp_path / "output/annotations/base/a.parquet")
    assert annotations["pii_emails"].to_pylist() == [1, 1, 0, None]
    assert annotations["contamination_set"].to_pylist() == [None, "quiz", None, None]
    kept = pq.read_table(tmp_path / "output/data/a.parquet")["text"].to_pylist()
    assert kept[0].startswith("Mail ")
    assert kept[0].endswith((".org.", ".com.", ".net."))
    assert "site" not in kept[0]
    assert kept[1:] == ["Nothing at all."]
    (tmp_path / "evals/more.txt").write_text(QUESTION)
    assert make_plan(recipe, tmp_path / "input").run_key != key
