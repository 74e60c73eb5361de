"""Annotators that read annotations: computed after these, in runs, dry runs, decisions and updates alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss.annotation import annotate
from gneiss.cli.main import app
from gneiss.errors import RecipeError
from gneiss.filters.readability import Readability
from gneiss.layers.weights import write_weights
from gneiss.pipelines.decide import decide
from gneiss.pipelines.dry_run import dry_run
from gneiss.pipelines.run import run
from gneiss.pipelines.update import update_annotations
from tests import runs
from tests.recipe.toys import Ratio
from tests.support import recipe_of, write_documents

HERE = runs.InThisProcess()
RATIO = "tests.recipe.toys:Ratio"
#: The reader stands before what it reads, another one reads it, and a later phase reads both.
PHASES = f"""
- name: first
  dedup: {{min_length: 60}}
  annotate: [{RATIO}: {{}}, {RATIO}: {{part: ratio, whole: ratio_size, column: of_ratio}}, readability]
  rules: {{short: ratio < 14}}
- name: second
  edit: [c4_lines: {{terminal_punctuation: false, min_line_words: 1}}]
  annotate: [{RATIO}: {{part: of_ratio, whole: text_chars, column: later}}, gopher_quality]
  rules: {{there: later > 0}}
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    given = [text for number in range(2) for text in runs.documents(30, seed=number)]
    texts = [text.decode() for text in given if text and text.isascii() and b"." in text]
    return write_documents(tmp_path / "input/a.parquet", texts)


def expected(words: Any, sentences: Any, texts: list[str]) -> list[Any]:
    """Words per sentence, and per byte, one by one."""
    sizes = (len(text.encode()) for text in texts)
    return [(word / sentence, word / size) for word, sentence, size in zip(words, sentences, sizes, strict=True)]


@pytest.mark.slow
def test_what_it_reads_is_there_whatever_the_order(corpus: Path, tmp_path: Path) -> None:
    recipe = recipe_of(f"- {{name: only, annotate: [{RATIO}, readability]}}")
    found = run(recipe, corpus, tmp_path / "out", backend=HERE)
    table, texts = runs.annotations(found.folder), pq.read_table(corpus)["text"].to_pylist()
    assert recipe.phases[0].annotation_order == (1, 0)
    assert table.column_names[-9:-7] == ["ratio", "ratio_size"], "columns stand in the order of the recipe"
    pairs = zip(table["ratio"].to_pylist(), table["ratio_size"].to_pylist(), strict=True)
    assert list(pairs) == expected(table["words"].to_pylist(), table["sentences"].to_pylist(), texts)
    alone = annotate(Readability(), texts)
    read = {name: alone[name].combine_chunks() for name in ("words", "sentences")}
    assert annotate(Ratio(), texts, annotations=read)["ratio"].equals(table["ratio"])


@pytest.mark.slow
def test_readers_of_readers_in_later_phases(corpus: Path, tmp_path: Path) -> None:
    recipe = recipe_of(PHASES)
    found = run(recipe, corpus, tmp_path / "out", backend=HERE)
    assert dry_run(recipe, corpus).statistics.counts["kept"] == found.documents
    for row in runs.annotations(found.folder).to_pylist():
        if not row["ratio"]:  # all of the text was cut
            assert row["of_ratio"] is None
            continue
        assert row["of_ratio"] == pytest.approx(row["ratio"] / row["ratio_size"])
        if row["dropped_in"] != "first":
            assert row["later"] == pytest.approx(row["of_ratio"] / row["text_chars"])


@pytest.mark.slow
def test_a_decision_takes_what_is_computed_from_the_same_and_nothing_else(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(PHASES)
    first = run(recipe, corpus, tmp_path / "first", backend=HERE)
    for name, old, new in (
        ("rule", "later > 0", "later > 0.5"),
        ("edit", "min_line_words: 1", "min_line_words: 6"),
        ("read", "Ratio: {}", "Ratio: {part: mini_words}"),
    ):
        caplog.clear()
        other = recipe_of(PHASES.replace(old, new))
        again = decide(other, first, tmp_path / name, backend=HERE)
        run(other, corpus, tmp_path / f"{name}-run", backend=HERE)
        assert runs.promised(again.folder) == runs.promised(tmp_path / f"{name}-run")
        computed = [record.message for record in caplog.records if "ratio" in record.message]
        if name == "rule":
            assert not computed
        elif name == "read":
            assert "computing ratio: what it reads may be other" in computed


def layer_of(folder: Path, name: str) -> pa.Table:
    """All rows of a layer."""
    return pa.concat_tables(map(pq.read_table, sorted((folder / "annotations" / name).rglob("*.parquet"))))


@pytest.mark.slow
def test_an_update_computes_a_reader_from_what_the_run_has(corpus: Path, tmp_path: Path) -> None:
    without = recipe_of(f"- {{name: only, annotate: [readability, {RATIO}: {{}}]}}")
    recipe = without.changed({f"phases.only.annotate.{RATIO}.column": "again"})
    whole = run(recipe, corpus, tmp_path / "whole", backend=HERE)
    first = run(without, corpus, tmp_path / "first", backend=HERE)
    written = update_annotations(first, recipe, backend=HERE)
    assert written is not None
    assert list(written.metadata["columns"]) == ["again", "again_size"]
    assert layer_of(tmp_path / "first", "updated")["again"].equals(runs.annotations(whole.folder)["again"])
    assert update_annotations(first, recipe, backend=HERE) is None, "the layer has it"
    again = decide(recipe, first, tmp_path / "again", backend=HERE)
    assert runs.promised(again.folder) == runs.promised(whole.folder)
    newer = recipe.changed({"phases.only.annotate.readability": {}, f"phases.only.annotate.{RATIO}.part": "mini_words"})
    assert update_annotations(first, newer, layer="newer", backend=HERE) is not None


@pytest.mark.slow
def test_a_reader_of_a_layer(corpus: Path, tmp_path: Path) -> None:
    first = run(recipe_of("- {name: only, annotate: [readability]}"), corpus, tmp_path / "first", backend=HERE)
    write_weights(tmp_path / "first")
    entry = f"{RATIO}: {{part: weights.inclusion_probability, whole: words, column: weighed}}"
    recipe = recipe_of(
        f"- {{name: only, annotate: [readability, {entry}]}}", layers="{weights: {inclusion_probability: float64}}"
    )
    again = decide(recipe, first, tmp_path / "again", backend=HERE)
    table = runs.annotations(again.folder)
    weights = table["weights.inclusion_probability"].to_pylist()
    assert table["weighed"].to_pylist() == [w / n for w, n in zip(weights, table["words"].to_pylist(), strict=True)]
    assert update_annotations(first, recipe, layer="weighed", backend=HERE) is not None
    assert layer_of(tmp_path / "first", "weighed")["weighed"].equals(table["weighed"])


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        (f"- {{name: only, annotate: [{RATIO}]}}", "Ratio reads the annotation 'words', which neither"),
        (
            f"- {{name: only, annotate: [{RATIO}]}}\n- {{name: later, annotate: [readability]}}",
            "phase 'only': Ratio reads the annotation 'words'",
        ),
        (f"- {{name: only, annotate: [readability, {RATIO}: {{part: wrds}}]}}", "did you mean 'words'?"),
        (
            f"- {{name: only, annotate: [{RATIO}: {{part: b, whole: b, column: a}}, "
            f"{RATIO}: {{part: a, whole: a, column: b}}]}}",
            "what computes a, b reads what is computed from it",
        ),
        (f"- {{name: only, annotate: [{RATIO}: {{part: ratio}}, readability]}}", "what computes ratio reads what"),
        (f"- {{name: only, annotate: [{RATIO}OfUrl, readability]}}", "it reads annotations, and so cannot read url"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error_before_the_run(phases: str, message: str) -> None:
    with pytest.raises(RecipeError, match=".*".join(message.split("(")[:1])):
        recipe_of(phases)


def test_explain_says_what_comes_after_what(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(recipe_of(PHASES).to_yaml())
    printed = CliRunner().invoke(app, ["explain", str(path)]).stdout
    assert "after     Ratio reads words, sentences" in printed
