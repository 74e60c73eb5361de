"""Classes by name: packaged, of an installed package, of a user's own file; what is none of them is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gneiss.annotation import Annotator
from gneiss.errors import RecipeError
from gneiss.filters import Readability
from gneiss.filters.catalogue import ANNOTATORS
from gneiss.recipe import named
from gneiss.recipe.recipe import Recipe
from tests.support import recipe_of, write_documents

OWN = """
from dataclasses import dataclass
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Marks(Annotator):
    character: str = "?"
    columns = (Column("marks", "int64", "how often a character occurs"),)
    def compute(self, batch):
        return {"marks": [text.count(self.character) for text in batch.texts()]}
"""
BROKEN = (
    OWN
    + """
@dataclass
class Thawed(Annotator):
    columns = (Column("thawed", "int64", ""),)

@dataclass(frozen=True)
class Bare(Annotator):
    pass

@dataclass(frozen=True)
class Loose(Annotator):
    columns = ("marks",)

def function(): pass
"""
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for modules of one's own."""
    (tmp_path / "own_filter.py").write_text(OWN)
    (tmp_path / "broken_filter.py").write_text(BROKEN)
    (tmp_path / "needy_filter.py").write_text("import a_package_that_is_not_there")
    (tmp_path / "failing_filter.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("own_filter", "broken_filter", "needy_filter", "failing_filter", "shouting", "shouting.filters"):
        sys.modules.pop(name, None)


def one_phase(entry: str, verb: str = "annotate") -> Recipe:
    return recipe_of(f"- {{name: only, {verb}: [{entry}]}}")


def test_a_class_of_ones_own_file_annotates(modules: Path) -> None:
    recipe = one_phase('"own_filter:Marks": {character: "!"}')
    assert recipe.columns[-1].name == "marks"
    assert recipe.canonical()["phases"][0]["annotate"] == [{"own_filter:Marks": {"character": "!"}}]
    assert Recipe.parse(json.dumps(recipe.canonical())).digest() == recipe.digest()
    assert one_phase("own_filter:Marks").digest() != recipe.digest()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("own_filtre:Marks", "annotate: own_filtre:Marks: no module 'own_filtre'; did you mean 'own_filter'?"),
        ("own_filter.deep:Marks", "annotate: own_filter.deep:Marks: no module 'own_filter.deep'; is it misspelt?"),
        ("own_filter:Mark", "own_filter has no 'Mark'; did you mean 'Marks'?"),
        ("own_filter:", "'own_filter:': expected an import path, module:Class"),
        (
            "broken_filter:function",
            "is no annotator: expected a subclass of gneiss.annotation.Annotator, found function",
        ),
        ("broken_filter:Column", "broken_filter:Column is no annotator"),
        ("gneiss.filters:Pii", "is no annotator: .* found a subclass of Editor"),
        ("broken_filter:Thawed", r"expected a frozen dataclass; decorate Thawed by @dataclass\(frozen=True\)"),
        ("broken_filter:Bare", "broken_filter:Bare: columns: NotImplementedError: Bare does not define columns"),
        ("broken_filter:Loose", "broken_filter:Loose: columns: expected a tuple of gneiss.annotation.Column"),
        ("needy_filter:Marks", "needy_filter cannot be imported: No module named 'a_package_that_is_not_there'"),
        ("failing_filter:Marks", "failing_filter cannot be imported: ZeroDivisionError: division by zero"),
        ("own_filter:Marks: {charcter: x}", "unknown key 'charcter'; did you mean 'character'?"),
        ("own_filter:Marks: {character: 1}", "character: Input should be a valid string, found 1"),
        ("readabilty", "no annotator 'readabilty'; did you mean 'readability'?"),
    ],
)
def test_what_a_recipe_cannot_name_is_refused(modules: Path, entry: str, told: str) -> None:
    name, _, given = entry.partition(": ")
    with pytest.raises(RecipeError, match=told):
        one_phase(f'"{name}": {given}' if given else f'"{name}"')


def test_the_import_path_of_a_packaged_one_means_the_packaged_one() -> None:
    assert one_phase('"gneiss.filters.readability:Readability"').digest() == one_phase("readability").digest()
    assert named.name_of(Readability, ANNOTATORS) == "readability"


@pytest.mark.processes
def test_an_installed_package_adds_short_names(
    third_party: Path, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="no annotator 'shouting'"):
        one_phase("shouting")
    monkeypatch.syspath_prepend(third_party)
    recipe = one_phase("shouting")
    assert [column.name for column in recipe.columns[-2:]] == ["shouting", "capitals"]
    assert recipe.canonical()["phases"][0]["annotate"] == [{"shouting.filters:Shouting": {"mark": "!"}}]
    assert recipe.digest() == one_phase('"shouting.filters:Shouting"').digest()
    assert one_phase("calm", "edit").columns[-1].name == "calmed_bytes"
    with pytest.raises(RecipeError, match=r"annotate: shouting\.filters:Calm is no annotator"):
        one_phase("calm")
    assert named.versions(recipe.modules) == {"gneiss-shouting": "1.5"}


def test_a_name_that_two_have_is_refused(modules: Path) -> None:
    info = modules / "foreign-2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 2\n")
    (info / "entry_points.txt").write_text("[gneiss.filters]\nreadability = own_filter:Marks\n")
    named._short_names.cache_clear()
    told = "'readability' is gneiss.filters.readability:Readability of gneiss and own_filter:Marks of foreign; name one"
    with pytest.raises(RecipeError, match=re.escape(told)):
        one_phase("readability")
    named._short_names.cache_clear()
    assert one_phase('"own_filter:Marks"').columns[-1].name == "marks"


def test_code_of_no_distribution_is_known_by_its_bytes(modules: Path) -> None:
    recipe = one_phase("own_filter:Marks")
    before = named.versions(recipe.modules)
    assert list(before) == ["own_filter"]
    (modules / "own_filter.py").write_text(OWN + "# changed\n")
    assert named.versions(recipe.modules) != before
    assert named.versions(one_phase("readability").modules) == {}


def test_a_class_that_no_worker_could_import_is_refused() -> None:
    class Local(Annotator):
        pass

    with pytest.raises(RecipeError, match=r"<locals>\.Local: workers cannot import it; define it at the top level"):
        named.name_of(Local, ANNOTATORS)


@pytest.mark.processes
def test_the_command_line_finds_what_is_in_the_current_directory(third_party: Path, tmp_path: Path) -> None:
    """With worker processes; an installed package's names beside it."""
    (tmp_path / "own_filter.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(
        "name: own\nphases: [{name: only, edit: [calm], annotate: ['own_filter:Marks', shouting],"
        " rules: {asks: marks > 0, quiet: shouting < 2}}]"
    )
    write_documents(tmp_path / "in/a.parquet", ["What? Now!!", "Now.", "Stop! No! Why?"])
    paths = os.pathsep.join([str(third_party), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = f"{Path(sys.executable).parent}/gneiss run own.yaml -i in -o out --backend local --workers 1"
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run(command.split(), cwd=tmp_path, env=environment, check=True, capture_output=True)
    rows = pq.read_table(tmp_path / "out/annotations/base/a.parquet").to_pylist()
    assert [(row["marks"], row["shouting"], row["calmed_bytes"], row["status"]) for row in rows] == [
        (1, 0, 2, "kept"), (0, 0, 0, "dropped"), (1, 2, 0, "dropped"),
    ]  # fmt: skip
    libraries = json.loads((tmp_path / "out/_gneiss/run.json").read_text())["libraries"]
    assert libraries["gneiss-shouting"] == "1.5"
    assert libraries["own_filter"].startswith("sha256 ")
