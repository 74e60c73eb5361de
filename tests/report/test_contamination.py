"""`gneiss contamination review`: documents beside the items that they have; hostile texts stay texts."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gneiss.cli.main import app
from gneiss.errors import InputError
from gneiss.output.finished_run import open_run
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.report.contamination import contamination_hits, hits_as_markdown
from tests import runs

RECIPE = """
name: review
phases:
  - name: only
    filters: [evaluation_items: {folder: sets, answer: [choices]}]
"""
QUESTION = "Which of these rivers flows through the capital of the country that lies to the north of the strait?"
HOSTILE = "\x1b[31mred\x1b[0m | <script>alert(1)</script> [x](javascript:y) www.y.com `a`\n# not a heading\n\u202e"
CHOICE = "the longest of the three rivers that begin in the eastern hills"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    (folder / "sets").mkdir()
    row = {"question": QUESTION, "choices": ["no", CHOICE]}
    (folder / "sets/quiz.jsonl").write_text("\n" + json.dumps(row))
    texts = [f"{HOSTILE} {QUESTION.upper()} {HOSTILE}", "Nothing of it.", f"We think: {CHOICE}, as ever."]
    runs.write_corpus(folder / "input/a.parquet", [text.encode() for text in texts])
    recipe = Recipe.parse(RECIPE, folder=folder)
    run(recipe, folder / "input", folder / "output", backend=runs.InThisProcess())
    return folder / "output"


def test_each_hit_is_there_with_both_texts(output: Path) -> None:
    run, folder = open_run(output), output.parent
    assert run.counts["dropped"] == 2
    question, answer = contamination_hits(run, input=folder / "input", sets_in=folder)
    assert (question.item, question.part, question.row, question.status) == ("quiz:1", "question", 0, "dropped")
    assert (answer.item, answer.part, answer.row) == ("quiz:1", "answer", 2)
    assert question.document is not None
    for marked in (question.text, question.document):
        (shared,) = [piece for piece, is_marked in marked.pieces() if is_marked]
        assert shared.casefold() == QUESTION.rstrip("?").casefold()
    assert answer.text.text == CHOICE
    assert [hit.document for hit in contamination_hits(run, sets_in=folder)] == [None, None]  # both were dropped
    assert len(contamination_hits(run, sets_in=folder, top=1)) == 1


def test_hostile_texts_stay_texts(output: Path) -> None:
    run, folder = open_run(output), output.parent
    markdown = hits_as_markdown(run, contamination_hits(run, input=folder / "input", sets_in=folder))
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(rows) == 6
    for line in rows:
        assert line.count("|") == 3
    for harm in ("\x1b", "<script", "](", "www.", "`a`", "\u202e"):
        assert harm not in markdown
    assert "<script>alert(1)</script>" in unescape(markdown)
    assert not [line for line in markdown.splitlines() if line.startswith("# not")]
    options = ["--input", str(folder / "input"), "--sets-in", str(folder)]
    ended = CliRunner().invoke(app, ["contamination", "review", str(output), *options], catch_exceptions=False)
    assert "2 documents have an item of an evaluation set" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert "\u202e" not in ended.stdout
    assert "1. quiz:1, question" in ended.stdout
    page = folder / "review.md"
    CliRunner().invoke(app, ["contamination", "review", str(output), *options, "-o", str(page)], catch_exceptions=False)
    assert page.read_text("utf-8") == markdown


def test_sets_that_are_not_those_of_the_run_are_refused(output: Path, tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/quiz.jsonl").write_text(json.dumps({"question": f"{QUESTION} And why?"}))
    with pytest.raises(InputError, match=r"changed since .* was compared with it"):
        contamination_hits(open_run(output), sets_in=tmp_path)
