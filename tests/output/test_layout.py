"""Every path of an output is spelled in gneiss/output/layout.py and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gneiss
from gneiss.output import layout
from gneiss.store.place import place_of

ROOT = Path(gneiss.__file__).parent
FOLDERS = {"data", "annotations", "quarantine", "skipped", "ledger", "layers", "exchange", "statistics", "logs"}
#: Names of files of an input.
OF_INPUTS = {
    "input/origin.py": ["README.md"],
    "input/formats/__init__.py": ["cache-*.arrow"],
    "input/formats/arrow.py": [".arrow"],
}
PATH = re.compile(rf"(?<!\w)_gneiss(?!\w)|(?<![\w-])({'|'.join(sorted(FOLDERS))})/|README\.md|\.arrow$")


def spelled(source: str) -> Iterator[str]:
    """The string constants of a module that spell a path of an output; docstrings do not count."""
    tree = ast.parse(source)
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            if node.right.value in FOLDERS:
                yield str(node.right.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield from [node.value] if PATH.search(node.value) else []


def test_no_other_module_spells_a_path_of_an_output() -> None:
    names = {path: path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")}
    found = {
        name: constants
        for path, name in names.items()
        if name != "output/layout.py" and (constants := list(spelled(path.read_text("utf-8"))))
    }
    assert {name: spellings for name, spellings in found.items() if spellings != OF_INPUTS.get(name)} == {}


@pytest.mark.parametrize(
    "source",
    ['f("_gneiss/run.json")', 'f"data/{x}.parquet"', 'x / "data"', 'f"{x} annotations/base"', 'f("README.md")'],
)
def test_a_spelled_path_is_found(source: str) -> None:
    assert list(spelled(source))


@pytest.mark.parametrize(
    "source", ['"""Reads `data/`."""', *(f"f({text!r})" for text in ("in_gneissweb", "data", "pydoc_data/x"))]
)
def test_another_string_is_not(source: str) -> None:
    assert not list(spelled(source))


def test_ids_are_those_of_whole_files_bytewise_by_path(tmp_path: Path) -> None:
    for name in ("b.parquet", "a/x.parquet", "a-b.parquet", ".c.parquet.7.part", "d.json"):
        path = tmp_path / layout.DATA / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(layout.ids_in(place_of(tmp_path), layout.DATA)) == ["a-b", "a/x", "b"]
    assert list(layout.ids_in(place_of(tmp_path), layout.SKIPPED)) == []
