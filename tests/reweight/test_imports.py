"""Importing the package needs no torch; what needs it says so where it is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gneiss.reweight


def test_importing_the_package_leaves_torch_alone() -> None:
    script = "import gneiss.reweight, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


NEED_TORCH = [
    name
    for name, home in gneiss.reweight._HOMES.items()
    if home in {"huggingface", "reweighter", "torchtitan", "trainers"}
]


def test_what_only_weighs_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = {name for name in gneiss.reweight.__all__ if name not in NEED_TORCH and getattr(gneiss.reweight, name)}
    assert found == {"pruning_weights"}


@pytest.mark.parametrize("name", NEED_TORCH)
def test_what_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.startswith("gneiss.reweight.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=rf"{name} needs torch: pip install 'gneiss\[train\]'"):
        getattr(gneiss.reweight, name)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Reweighter'"):
        _ = gneiss.reweight.Reweighter  # type: ignore[attr-defined]
