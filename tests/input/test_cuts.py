"""How many files were cut is kept, and believed of the version that was cut only."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from gneiss.input import shard as shards
from gneiss.input.formats.parquet import Parquet
from gneiss.input.shard import Input, cut_shards
from gneiss.output import layout
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import Place, place_of
from tests.runs import InThisProcess
from tests.support import write_documents


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shards, "FEWEST_FILES", 3)
    (tmp_path / "input").mkdir()
    for name in ("a", "b", "c"):
        write_documents(tmp_path / f"input/{name}.parquet", [f"{name} {row}" for row in range(40)])
    return tmp_path


def cut(folder: Path, text: str = "text") -> tuple[Input, list[str]]:
    """The input, and which of its files were read for that."""
    with mock.patch.object(Parquet, "cut", autospec=True, side_effect=Parquet.cut) as seen:
        found = cut_shards(folder / "input", text=text, required=["id"], kept=kept(folder))
    assert found.cuts is not None
    found.cuts.write(kept(folder))
    return found, sorted(call.args[1].name for call in seen.call_args_list)


def kept(folder: Path) -> Place:
    return place_of(folder / "cuts")


def test_files_are_cut_once(folder: Path) -> None:
    first, read = cut(folder)
    assert read == ["a.parquet", "b.parquet", "c.parquet"]
    written = (folder / "cuts").stat().st_mtime_ns
    again, read = cut(folder)
    assert (again, read) == (first, [])
    assert (folder / "cuts").stat().st_mtime_ns == written


def test_a_file_of_another_version_and_one_that_came_are_cut(folder: Path) -> None:
    cut(folder)
    write_documents(folder / "input/b.parquet", ["other"])
    write_documents(folder / "input/d.parquet", ["new"])
    (folder / "input/a.parquet").unlink()
    found, read = cut(folder)
    assert read == ["b.parquet", "d.parquet"]
    assert found == cut_shards(folder / "input", text="text", required=["id"])
    assert cut(folder)[1] == []


def test_another_way_to_cut_is_no_use(folder: Path) -> None:
    cut(folder)
    assert len(cut(folder, text="id")[1]) == 3


@pytest.mark.parametrize("harm", [b"", b"nonsense", None])
def test_what_is_damaged_is_cut_again_and_said(
    folder: Path, harm: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = cut(folder)
    (folder / "cuts").write_bytes((folder / "cuts").read_bytes()[:-9] if harm is None else harm)
    found, read = cut(folder)
    assert (found, len(read)) == (first, 3)
    assert any("damaged" in record.getMessage() for record in caplog.records)


def test_few_files_leave_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FEWEST_FILES", 4)
    assert cut_shards(folder / "input", text="text", kept=kept(folder)).cuts is None


def test_a_run_that_resumes_reads_no_footer(folder: Path) -> None:
    recipe = Recipe.parse("{name: few, phases: [{name: only, rules: {any_text: text_bytes >= 0}}]}")
    run(recipe, folder / "input", folder / "out", backend=InThisProcess())
    assert (folder / "out" / layout.CUTS_FILE).is_file()
    with mock.patch.object(Parquet, "cut", side_effect=AssertionError):
        run(recipe, folder / "input", folder / "out", backend=InThisProcess())


def test_who_decides_again_reads_no_footer(folder: Path) -> None:
    recipe = Recipe.parse("{name: few, phases: [{name: only, rules: {any_text: text_bytes >= 0}}]}")
    run(recipe, folder / "input", folder / "out", backend=InThisProcess())
    with mock.patch.object(Parquet, "cut", side_effect=AssertionError):
        decide(recipe, folder / "out", folder / "again", backend=InThisProcess())
