"""What a run says after quarantined shards is true: each piece of advice is followed here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gneiss.pipelines import curation
from tests import runs
from tests.support import write_documents

pytestmark = pytest.mark.usefixtures("here")

TEXTS = [f"{number} documents of their own, and the same words in each of them" for number in range(3)]
RECIPES = {
    "plain": "phases: [{name: only, rules: {long: text_chars > 5}}]",
    "bytes": "phases: [{name: only, dedup: {min_length: 20, scope: corpus}, rules: {long: text_chars > 5}}]",
    "exact": "phases: [{name: only, exact_duplicates: {}, rules: {long: text_chars > 5}}]",
}


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A recipe, and two inputs, one of which cannot be read."""
    write_documents(tmp_path / "input/a.parquet", TEXTS)
    (tmp_path / "input/b.parquet").write_bytes(b"PAR1, and no more of it")
    path = tmp_path / f"{request.param}.yaml"
    path.write_text(f"name: advised\n{RECIPES[request.param]}\n")
    return path


def curate(recipe: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and the last words."""
    code = runs.command("run", recipe, "--input", recipe.parent / "input", "--output", output)
    return code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_fixed_file_is_curated_by_the_command_that_was_advised(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = curate(recipe, tmp_path / "output", capsys)
    assert code == 3
    write_documents(tmp_path / "input/b.parquet", [*TEXTS, "and one more"])
    advised = re.search(r"the same command with --output ('[^']+'|\S+?)\.( |$)", said)
    assert bool(advised) == (recipe.stem != "plain"), said
    output = Path(shlex.split(advised[1])[0]) if advised else tmp_path / "output"
    assert curate(recipe, output, capsys)[0] == 0
    assert curate(recipe, tmp_path / "fresh", capsys)[0] == 0
    assert runs.promised(output) == runs.promised(tmp_path / "fresh")


@pytest.mark.slow
def test_a_shard_that_was_lost_for_another_reason_is_curated_by_the_same_command(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_documents(tmp_path / "input/b.parquet", TEXTS)

    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("gneiss.output.commit.commit", fails)
        code, said = curate(recipe, tmp_path / "output", capsys)
    assert code == 3
    assert "the same command tries these again" in said
    assert curate(recipe, tmp_path / "output", capsys)[0] == 0


@pytest.mark.slow
def test_a_raised_budget_accepts_the_output_as_it_is(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = curate(recipe, tmp_path / "output", capsys)
    assert code == 3
    assert "Or raise budgets.shards, and the same command" in said
    before = runs.touched(tmp_path / "output/data")
    recipe.write_text(recipe.read_text() + "budgets: {shards: 1}\n")
    monkeypatch.setattr(curation, "CurateStep", lambda *given: pytest.fail("nothing is left to curate"))
    assert curate(recipe, tmp_path / "output", capsys)[0] == 0
    assert runs.touched(tmp_path / "output/data") == before
    assert "shards: 1" in (tmp_path / "output/_gneiss/recipe.yaml").read_text()


@pytest.mark.slow
def test_a_changed_input_is_said_in_words_where_files_are_compared(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curate(recipe, tmp_path / "output", capsys)
    write_documents(tmp_path / "input/c.parquet", TEXTS)
    code, said = curate(recipe, tmp_path / "output", capsys)
    wide = "the input has shards that it lacks, first 'c', and "
    assert (code, wide in said) == ((3, False) if recipe.stem == "plain" else (1, True))
