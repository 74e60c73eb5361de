"""What a class of gneiss computes with: its own files, those of gneiss that they import, and libraries by name.

So an upgrade of gneiss that touches none of them is none for the class.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: The top level of gneiss, and what all its files import but no value depends on.
_GNEISS, _ERRORS = __name__.split(".")[0], "errors"
_ROOT = Path(__file__).parents[1]
#: An import statement; parsing whole files takes ten times as long.
_IMPORT = re.compile(r"^[ \t]*(?:from +(?P<base>[\w.]+) +)?import +(?P<names>\([^)]*\)|[^\n#(]+)", re.MULTILINE)
_NAME = re.compile(r"([\w.]+)(?: +as +\w+)?")


@dataclass(frozen=True)
class CodeFiles:
    """sha256 over the files, and the top levels of what else they import, such as `numpy`."""

    digest: str
    imported: frozenset[str]


@cache
def code_files(module: str, root: Path = _ROOT) -> CodeFiles | None:
    """The code behind a module; None for one that is not of gneiss, whose imports are unknown; `root`: where gneiss is.

    >>> sorted(code_files("gneiss.filters.perplexity").imported & {"kenlm", "numba", "sentencepiece"})
    ['kenlm', 'sentencepiece']
    """
    if module.split(".")[0] != _GNEISS:
        return None
    found: dict[str, Path] = {}
    imported: set[str] = set()
    waiting = [module.partition(".")[2]]
    while waiting:
        name = waiting.pop()
        if name in found or name == _ERRORS:
            continue
        found[name] = _file(root, name)
        for dotted in _imports(root, found[name]):
            top, _, within = dotted.partition(".")
            if _is_module(root, dotted):
                waiting.append(within)
            elif top != _GNEISS:
                imported.add(top)
    digest = hashlib.sha256()
    for name, path in sorted(found.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return CodeFiles(digest.hexdigest(), frozenset(imported))


def _file(root: Path, name: str) -> Path:
    """The file of a module, by its name within gneiss."""
    path = root.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _imports(root: Path, path: Path) -> frozenset[str]:
    """The modules that a file imports, wherever the statement stands; a word of prose may be among them."""
    found: set[str] = set()
    for match in _IMPORT.finditer(path.read_text("utf-8")):
        base, names = match["base"], _NAME.findall(match["names"])
        inner = {f"{base}.{name}" for name in names} if base else set(names)
        found |= {name if base is None or _is_module(root, name) else base for name in inner}
    return frozenset(found)


def _is_module(root: Path, name: str) -> bool:
    top, _, within = name.partition(".")
    return top == _GNEISS and _file(root, within).is_file()
