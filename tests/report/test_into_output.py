"""A report in the output that it is about: linked from the card, and of no consequence for anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gneiss.errors import InputError
from gneiss.output.finished_run import open_run
from gneiss.output.run_so_far import open_run_so_far
from gneiss.pipelines.run import run
from gneiss.report.into_output import put_into_output
from tests import runs
from tests.output.test_run_so_far import stopped

Copy = Callable[[Path], Path]


def test_the_card_links_the_report_also_when_the_run_is_called_again(
    curated: Path, copy_of: Copy, material: runs.Material
) -> None:
    output = copy_of(curated)
    before, card = runs.promised(output), (output / "README.md").read_text()
    for _ in range(2):
        assert put_into_output(open_run(output), "<p>page</p>").read() == b"<p>page</p>"
    linked = (output / "README.md").read_text()
    assert linked.count("](report.html)") == 1
    assert "](report.html)" not in card
    assert {name: digest for name, digest in runs.promised(output).items() if name != "report.html"} == before
    run(material.recipe, material.input, output, backend=runs.InThisProcess())
    assert (output / "README.md").read_text() == linked


def test_an_unfinished_run_has_no_card_to_link_it(curated: Path, copy_of: Copy) -> None:
    with pytest.raises(InputError, match="its report can only lie elsewhere"):
        put_into_output(open_run_so_far(stopped(copy_of(curated))), "<p>page</p>")
