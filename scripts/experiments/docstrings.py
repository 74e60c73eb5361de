"""Fixture T1: docstrings of installed packages, to tell apart whose they are; sites have unlike shares of each."""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gneiss.arrays import Int64Array

PACKAGES = (
    *("altair", "hypothesis", "networkx", "numba", "numpy", "pandas"),
    *("pydantic", "ray", "scipy", "sympy", "torch", "transformers"),
)
#: Their own names, and what they are imported as.
_NAMES = re.compile(rf"\b({'|'.join(PACKAGES)}|np|pd|nx|alt|tf|jax|hugging ?face|pytorch)\b", re.IGNORECASE)
_FEWEST_WORDS, _WORDS = 25, 60
#: Docstrings of a package among which are chosen: a few files are enough.
_CANDIDATES = 400
_FEWEST_AT_A_SITE = 8


@dataclass(frozen=True, eq=False)
class Texts:
    """texts, and the number of the package of each, int64 (texts,)."""

    texts: tuple[str, ...]
    labels: Int64Array


def t1(trained: int, tested: int) -> tuple[Texts, Texts]:
    """(trained, tested): so many docstrings of each package. Raises SystemExit where a package is missing."""
    parts: tuple[list[str], list[str]] = [], []
    for package in PACKAGES:
        found = _docstrings(package)[: trained + tested]
        if len(found) < trained + tested:
            raise SystemExit(f"{package}: {len(found)} docstrings, expected {trained + tested}")
        parts[0].extend(found[:trained])
        parts[1].extend(found[trained:])
    labels = [np.repeat(np.arange(len(PACKAGES)), size) for size in (trained, tested)]
    return Texts(tuple(parts[0]), labels[0]), Texts(tuple(parts[1]), labels[1])


def sites_of(labels: Int64Array, sites: int, alpha: float, seed: int) -> dict[str, Int64Array]:
    """Site → its texts: those of each label are divided by a draw from Dirichlet(alpha), until no site has too few."""
    draw = np.random.default_rng(seed)
    while True:
        site_of = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            own = draw.permutation(np.flatnonzero(labels == label))
            shares = draw.dirichlet(np.full(sites, alpha))
            site_of[own] = np.searchsorted(np.cumsum(shares)[:-1], (np.arange(len(own)) + 0.5) / len(own))
        if np.bincount(site_of, minlength=sites).min() >= _FEWEST_AT_A_SITE:
            return {f"site{site:02}": np.flatnonzero(site_of == site) for site in range(sites)}


def _docstrings(package: str) -> list[str]:
    """Distinct ones in the order of their hashes, of files in the order of the hashes of theirs."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed")
    root = Path(spec.origin).parent
    found: dict[str, None] = {}
    for path in sorted(root.rglob("*.py"), key=lambda path: _hash(path.relative_to(root).as_posix())):
        found.update(dict.fromkeys(_docstrings_of(path)))
        if len(found) >= _CANDIDATES:
            break
    return sorted(found, key=_hash)


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "").split()
            if len(words) >= _FEWEST_WORDS:
                yield _NAMES.sub("", " ".join(words[:_WORDS]))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
