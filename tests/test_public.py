"""The public surface: what `gneiss` and its rooms name in `__all__`; documentation and notebooks use nothing else."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gneiss

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ROOMS = sorted(
    path.stem
    for path in (ROOT / "gneiss").iterdir()
    if path.stem[0] != "_" and (path.suffix == ".py" or (path / "__init__.py").is_file())
)
PUBLIC = {
    "BudgetError", "DefectError", "GneissError", "InputError", "MachineError", "ModelError", "OutputError", "Recipe",
    "RecipeError", "RunOptions", "Share", "StoreError", "__version__", "annotate", "decide", "dry_run",
    "duplicate_spans", "estimate", "extract", "find_exact_duplicates", "find_near_duplicates", "open_run", "push",
    "reshard", "run", "run_share", "run_status", "update_annotations", "verify",
}  # fmt: skip
METADATA_KEYS = {"gneiss.layer"}  # of Parquet footers


def names_of(module: str) -> set[str]:
    """What a module offers: `__all__`."""
    return set(getattr(importlib.import_module(module), "__all__", ()))


def test_the_surface_is_what_is_written_here() -> None:
    assert set(gneiss.__all__) == PUBLIC
    assert sorted(gneiss.__all__) == list(gneiss.__all__)


@pytest.mark.parametrize("module", ["gneiss", *(f"gneiss.{room}" for room in ROOMS)])
def test_what_is_named_is_there(module: str) -> None:
    for name in names_of(module):
        try:
            assert getattr(importlib.import_module(module), name) is not None
        except ImportError as error:
            pytest.skip(str(error))  # torch, which only an extra brings


def test_no_public_name_is_hidden_by_a_room() -> None:
    assert not set(gneiss.__all__) & set(ROOMS)
    for room in ROOMS:
        inside = {path.stem for path in (ROOT / "gneiss" / room).glob("*") if path.suffix in {".py", ""}}
        assert not names_of(f"gneiss.{room}") & inside


def private_names(code: str) -> Iterator[str]:
    """What Python code takes of gneiss that is not public."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gneiss":
            module = node.module or ""
            is_room = module == "gneiss" or module.removeprefix("gneiss.") in ROOMS
            for alias in node.names:
                named = alias.name in names_of(module) if is_room else False
                if not named and not (module == "gneiss" and alias.name in ROOMS):
                    yield f"{module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first, _, room = alias.name.partition(".")
                if first == "gneiss" and room and room not in ROOMS:
                    yield alias.name
        elif isinstance(node, ast.Attribute):
            chain = ast.unparse(node)
            if re.fullmatch(r"gneiss(?:\.\w+)+", chain) and not is_public(chain):
                yield chain


def is_public(dotted: str) -> bool:
    """Whether `gneiss.a` or `gneiss.a.b` is a room, or named by `gneiss` or by that room."""
    _, first, *more = dotted.split(".")
    if first not in ROOMS:
        return first in names_of("gneiss")  # what its values have is theirs
    return not more or more[0] in names_of(f"gneiss.{first}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_uses_public_names_only(page: Path) -> None:
    text = page.read_text("utf-8")
    code = re.findall(r"^```python[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert not [name for block in code for name in private_names(block)]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    told = re.findall(r"`(gneiss(?:\.[A-Za-z_]\w*)+)[`(]", prose)
    assert not [name for name in told if not is_public(name) and name not in METADATA_KEYS]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_uses_public_names_only(notebook: Path) -> None:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = ("\n".join(line for line in cell.splitlines() if not line.startswith("%")) for cell in code)
    assert not [name for cell in lines for name in private_names(cell)]


def test_a_private_name_is_found() -> None:
    assert list(private_names("import gneiss\nfrom gneiss import report, run\ngneiss.Recipe.load('c4')")) == []
    assert list(private_names("from gneiss.filters.tokens import Tokens")) == ["gneiss.filters.tokens.Tokens"]
    assert list(private_names("import gneiss.input.plan")) == ["gneiss.input.plan"]
    assert list(private_names("import gneiss\ngneiss.filters.catalogue")) == ["gneiss.filters.catalogue"]
