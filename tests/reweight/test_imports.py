"""Importing the package needs no torch; what needs it says so where it is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gneiss.reweight


@pytest.mark.processes
def test_importing_the_package_leaves_torch_alone() -> None:
    script = "import gneiss.reweight, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


WITHOUT_TORCH = {"Anneal", "pruning_weights"}
NEED_TORCH = sorted(set(gneiss.reweight.__all__) - WITHOUT_TORCH)


def test_what_only_weighs_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert all(getattr(gneiss.reweight, name) for name in WITHOUT_TORCH)


@pytest.mark.parametrize("name", NEED_TORCH)
def test_what_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.startswith("gneiss.reweight.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=rf"{name} needs torch: pip install 'gneiss-curation\[train\]'"):
        getattr(gneiss.reweight, name)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Reweighter'"):
        _ = gneiss.reweight.Reweighter  # type: ignore[attr-defined]
