"""The commands: what they print, and that they do what the functions do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gneiss.cli.main import app
from gneiss.errors import InputError
from gneiss.layers.loss_log import LossLog
from gneiss.loader.packed_files import packed
from tests import runs

Copy = Callable[[Path], Path]


def said(*arguments: str | Path) -> str:
    """What a command prints; it must end well."""
    ended = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.mark.slow
def test_from_a_run_to_training_and_back(curated: Path, released: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(curated)
    options = ("--beta", "0.25", "--quality", "prose", "--category", "prose_label")
    first = said("weights", output, *options)
    assert "132 documents have a weight, mean one\nlog_prior = clip(" in first
    assert "absent     exact_copies: 1 for all documents\n" in first
    assert f"layer      {output}/annotations/weights\n" in first
    assert runs.promised(output) == runs.promised(released)
    assert "it was there already" in said("weights", output, *options)

    tokenizer = ("--tokenizer", "builtin:cl100k_base", "--length", "64")
    assert "sequences of 64 tokens in 1 files" in said("pack", output, "-o", tmp_path / "packed", *tokenizer)
    assert "sequences in 1 files" in said("export", tmp_path / "packed", "-o", tmp_path / "mds")
    assert "132 documents in 1 files" in said("export", output, "-o", tmp_path / "mds-of-documents")

    with LossLog(tmp_path / "log") as log:
        log.add(0, list(packed(tmp_path / "packed"))[:8], np.full((8, 64), 2.0))
    told = said("losses", output, "--input", tmp_path / "log")
    assert "of 132 documents were trained on: 504 tokens in 1 steps" in told
    assert "mean loss 2.0000" in told


def test_errors_are_the_functions_own(curated: Path, tmp_path: Path) -> None:
    shutil.copytree(curated, tmp_path / "output")
    with pytest.raises(InputError, match="no annotation 'nothing'"):
        said("weights", tmp_path / "output", "--quality", "nothing")
