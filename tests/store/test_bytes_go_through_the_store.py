"""Rooms that read inputs and write outputs reach bytes through gneiss/store only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gneiss

ROOT = Path(gneiss.__file__).parent
ROOMS = ("input", "output", "jobs", "stages", "corpus_steps", "loader", "layers", "export", "extraction", "pipelines")
#: What may touch files by itself, and why.
EXCEPT = {
    "input/model_files.py": "models are local files, or the hub's cache",
    "extraction/sandbox.py": "pipes to the process that parses pages",
    "extraction/inside.py": "the limits of that process",
}
#: Methods of Path, and functions of os, shutil, glob, fcntl, pyarrow: whatever touches files by their path.
TOUCHING = {
    "chmod", "copyfile", "copytree", "dataset", "exists", "flock", "glob", "iglob", "is_dir", "is_file", "iterdir",
    "link_to", "listdir", "makedirs", "memory_map", "mkdir", "mkdtemp", "mkstemp", "move", "OSFile", "read_bytes",
    "read_text", "remove", "removedirs", "rename", "rglob", "rmdir", "rmtree", "scandir", "stat", "symlink_to",
    "touch", "unlink", "walk", "write_bytes", "write_text",
}  # fmt: skip
#: The places that know Parquet or Arrow's messages; they are handed open files.
PARQUET = {
    "input/cuts.py", "input/formats/arrow.py", "input/formats/parquet.py", "input/formats/int96.py",
    "output/parquet.py", "stages/batch_file.py",
}  # fmt: skip
READING = {"ParquetFile", "ParquetWriter", "read_metadata", "read_schema", "read_table", "write_table"}


def touching(source: str, is_parquet: bool = False) -> Iterator[str]:
    """The calls of a module that touch files by their path, or Parquet in any way."""
    tree = ast.parse(source)
    own = {name.asname or name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
           and (node.module or "").startswith("gneiss") for name in node.names}  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            name, is_path = node.func.id, node.func.id == "open"
        elif isinstance(node.func, ast.Attribute):
            name = node.func.attr
            # Path.open has a mode, Path.replace one argument; Place.open and str.replace do not
            has_mode = bool(node.keywords) or any(isinstance(argument, ast.Constant) for argument in node.args)
            is_path = (name == "open" and has_mode and not _is_gzip(node.func)) or (
                name == "replace" and len(node.args) == 1 and not node.keywords
            )
        else:
            continue
        is_foreign = isinstance(node.func, ast.Attribute) or name not in own
        if is_path or (is_foreign and (name in TOUCHING or (name in READING and not is_parquet))):
            yield f"line {node.lineno}: {name}"


def _is_gzip(function: ast.Attribute) -> bool:
    return isinstance(function.value, ast.Name) and function.value.id == "gzip"  # which is handed an open file


def test_bytes_are_reached_through_the_store() -> None:
    modules = {path.relative_to(ROOT).as_posix(): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert modules.keys() >= EXCEPT.keys() | PARQUET
    found = {
        name: calls
        for name, path in modules.items()
        if name not in EXCEPT and (calls := list(touching(path.read_text("utf-8"), name in PARQUET)))
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    ["open(p)", "p.open('rb')", "p.read_bytes()", "p.replace(q)", "shutil.rmtree(p)", "pa.memory_map(p)", "glob(p)",
     "pq.read_table(p)", "pq.ParquetFile(p)", "fcntl.flock(f, 2)", "p.is_file()", "os.stat(p)"],
)  # fmt: skip
def test_what_touches_a_file_is_found(source: str) -> None:
    assert list(touching(source))


@pytest.mark.parametrize(
    "source",
    ["place.open()", "place.read()", "'a'.replace('b', 'c')", "replace(value, name=1)", "gzip.open(file, 'rt')",
     "from gneiss.output.parquet import read_table\nread_table(place)", "step.open(reader)"],
)  # fmt: skip
def test_what_goes_through_the_store_is_not(source: str) -> None:
    assert not list(touching(source))
