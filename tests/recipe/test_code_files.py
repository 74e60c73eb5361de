"""What is behind a module of gneiss: its files and what they import, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import gneiss
from gneiss.recipe import code_files as code

ROOT = Path(gneiss.__file__).parent


def imported(path: Path) -> Iterator[str]:
    """What a file imports, by its syntax tree."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = Path(ROOT.parent, *str(node.module).split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


def test_imports_are_those_of_the_syntax_tree() -> None:
    files = list(ROOT.rglob("*.py"))
    assert len(files) > 300
    for path in files:
        expected = {name for name in imported(path) if name.startswith("gneiss.")}
        assert {name for name in code._imports(ROOT, path) if name.startswith("gneiss.")} >= expected, path


def test_a_changed_file_changes_what_imports_it(tmp_path: Path) -> None:
    files = {
        "one.py": "from gneiss.deep import kernel\nimport numpy as np\n",
        "two.py": "def f():\n    from gneiss.errors import (\n        GneissError,\n    )\n",
        "deep/__init__.py": "import numba\n",
        "deep/kernel.py": "from gneiss.one import f\n",
        "errors.py": "import os\n",
    }

    def found(root: Path, changed: dict[str, str]) -> list[code.CodeFiles | None]:
        for name, text in (files | changed).items():
            (root / name).parent.mkdir(exist_ok=True, parents=True)
            (root / name).write_text(text)
        return [code.code_files(f"gneiss.{name}", root) for name in ("one", "two", "deep")]

    first = found(tmp_path / "first", {})
    changes = {"deep/kernel.py": "from gneiss.one import g\n", "errors.py": "import sys\n"}
    assert [module and module.imported for module in first] == [{"numpy"}, set(), {"numba"}]
    assert [after == before for after, before in zip(found(tmp_path / "next", changes), first, strict=True)] == [
        False,
        True,
        True,
    ]


def test_other_code_is_unknown() -> None:
    assert code.code_files("numpy") is None
