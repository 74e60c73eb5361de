"""`gneiss annotate`: one of two modes, and no option that belongs to the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gneiss.errors import InputError
from tests import runs
from tests.cli.test_layers import said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected --from TABLE --on KEY, or --update"),
        (("--from", "x.parquet"), "expected --from TABLE --on KEY, or --update"),
        (("--update", "--on", "id"), "--on: it is not for --update"),
        (("--update", "--repeats", "refuse"), "--repeats: it is not for --update"),
        (("other.yaml", "--from", "x.parquet", "--on", "id"), "RECIPE: it is not for --from"),
        (("--from", "x.parquet", "--on", "id", "--workers", "2"), "--workers: it is not for --from"),
    ],
)
def test_options_of_the_other_mode_are_refused(curated: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        said("annotate", curated, *options)


def test_an_update(
    material: runs.Material,
    curated: Path,
    copy_of: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("gneiss.backends.local.LocalProcesses", runs.InThisProcess)
    folder = copy_of(curated)
    assert said("annotate", folder, "--update").endswith(f"{folder}: all annotations are up to date\n")
    recipe = material.changed(tmp_path, "- readability", "- readability\n      - gopher_repetition")
    lines = said("annotate", folder, "--update", recipe, "--layer", "more").splitlines()
    assert lines[0].startswith("columns    repeated_line_fraction, ")
    assert lines[1:] == [f"layer      {folder}/annotations/more", f"metadata   {folder}/_gneiss/layers/more.json"]
