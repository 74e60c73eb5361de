"""Who changes sides between two outputs is who DuckDB says, for the rules that flipped."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.report import Difference, diff
from tests import runs

HERE = runs.InThisProcess()


@pytest.fixture(scope="module")
def other(uninterrupted: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A stricter threshold, a looser `keep`, of which both have work."""
    changes = {"phases.only.rules.good": "prose > 0.66", "phases.only.keep": "good OR noisy"}
    recipe = uninterrupted.recipe.changed({"phases.only.rules.noisy": "prose < 0.24", **changes})
    return decide(recipe, uninterrupted, tmp_path_factory.mktemp("other") / "out", backend=HERE)


def test_documents_that_changed_sides(uninterrupted: FinishedRun, other: FinishedRun) -> None:
    before, after = runs.annotations(uninterrupted.folder).to_pylist(), runs.annotations(other.folder).to_pylist()
    expected: dict[tuple[str, str], int] = {}
    for one, two in zip(before, after, strict=True):
        if one["status"] != two["status"]:
            keeps, drops = (one, two) if one["status"] == "kept" else (two, one)
            flipped = [rule for rule in drops["failed"] if rule not in keeps["failed"]]
            key = "lost" if keeps is one else "gained", " and ".join(flipped) or "keep of only"
            expected[key] = expected.get(key, 0) + 1
    found = diff(uninterrupted, other, by="prose_label", examples=1)
    assert {key: side.documents for key, side in found.sides.items()} == expected
    assert {side for side, _ in expected} == {"gained", "lost"}
    assert (found.rows, found.before, found.after, found.edited) == (180, 132, other.documents, 0)
    for (side, _), changed in found.sides.items():
        assert changed.groups.total() == changed.documents
        (example,) = changed.examples
        keeper = uninterrupted if side == "lost" else other
        texts = pq.read_table(Path(keeper.folder) / f"data/{example.shard}.parquet").to_pylist()
        assert next(row["text"] for row in texts if row["id"] == example.id).startswith(example.excerpt)


def test_an_output_does_not_differ_from_itself(uninterrupted: FinishedRun) -> None:
    assert diff(uninterrupted, uninterrupted) == Difference(180, 132, 132, 0, {})


def test_outputs_of_other_inputs_are_refused(uninterrupted: FinishedRun, tmp_path: Path) -> None:
    runs.write_corpus(tmp_path / "in/a.parquet", runs.documents(60, seed=7), row_group_size=60)
    plain = Recipe.parse(runs.WITHOUT_MODEL)
    with pytest.raises(InputError, match=r"has no shard 'c.g00000'|compare two outputs of the same input"):
        diff(uninterrupted, run(plain, tmp_path / "in", tmp_path / "out", backend=HERE))
    with pytest.raises(InputError, match="no annotation 'prose_labl'; did you mean 'prose_label'"):
        diff(uninterrupted, uninterrupted, by="prose_labl")


def test_hostile_texts_stay_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    texts = ["</details><script>alert(1)</script>`` | \x1b[31m \u202e" + "word and word. " * 20, "Short it is. " * 20]
    ids = ["<b>\x1b[2J", "b"]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": ids, "text": texts}), tmp_path / "in/a.parquet")
    for name, threshold in (("one", 30), ("two", 0)):
        recipe = Recipe.parse(runs.WITHOUT_MODEL.replace("< 30", f"< {threshold}"))
        run(recipe, tmp_path / "in", tmp_path / name, backend=HERE)
    assert runs.command("diff", tmp_path / "one", tmp_path / "two", "--format", "markdown") == 0
    markdown = capsys.readouterr().out
    assert "2 kept before, 0 after; 0 gained, 2 lost" in markdown
    assert "| lost | 2 | readable |" in markdown
    assert "```</details><script>alert(1)</script>`` |" in markdown, "a code span, which no text can end"
    assert runs.command("diff", tmp_path / "one", tmp_path / "two") == 0
    printed = capsys.readouterr().out
    for text in (markdown, printed):
        assert "\x1b" not in text
        assert "\u202e" not in text
