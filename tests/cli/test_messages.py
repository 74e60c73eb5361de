"""Errors of the library name parameters of the Python API; the command line says them as its options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gneiss
from gneiss.cli.main import app, main
from gneiss.cli.messages import in_options
from tests.support import write_documents

ROOT = Path(gneiss.__file__).parent
#: What another program is called with may be said everywhere.
OTHER_PROGRAMS = re.compile(r"`(?:pip|hf|ray) [^`]*`")


def said_in_errors(path: Path) -> Iterator[str]:
    """The texts of what a module raises, warns of or logs; what is filled in shows as `…`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        calls = isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in ("_log", "warnings")
        if isinstance(node, ast.Raise) or calls:
            for part in ast.walk(node):
                if isinstance(part, ast.JoinedStr):
                    yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in part.values)
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def test_no_library_error_spells_an_option_of_the_command_line() -> None:
    paths = [path for path in ROOT.rglob("*.py") if "cli" not in path.relative_to(ROOT).parts]
    said = {text: path.name for path in paths for text in said_in_errors(path)}
    assert len(said) > 300
    found = {text: name for text, name in said.items() if re.search(r"(?<!\w)--[a-z]", OTHER_PROGRAMS.sub("", text))}
    assert found == {}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("workers=0: expected 1 or more", "--workers 0: expected 1 or more"),
        ("use workers=4 or less", "use --workers 4 or less"),
        ("/data/in; give shared_filesystem=True if", "/data/in; give --shared-filesystem if"),
        ("out: quality='prose': expected", "out: --quality 'prose': expected"),
        ("quarantined (max_quarantined=0.01): damaged", "quarantined (--max-quarantined 0.01): damaged"),
        ("cannot connect to Ray (RAY_ADDRESS=10.0.0.1:6379)", "cannot connect to Ray (RAY_ADDRESS=10.0.0.1:6379)"),
        ("rule 'x': colour='red' is unknown", "rule 'x': colour='red' is unknown"),
    ],
)
def test_parameters_become_options(message: str, expected: str) -> None:
    assert in_options(message, app) == expected


def test_the_command_line_says_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_documents(tmp_path / "in.parquet", ["text"])
    arguments = ("run", "gopher", "-i", tmp_path / "in.parquet", "-o", tmp_path / "out", "--workers", "0")
    with pytest.raises(SystemExit):
        main([str(argument) for argument in arguments])
    assert "gneiss: --workers 0: expected 1 or more" in capsys.readouterr().err
