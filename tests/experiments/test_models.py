"""The script that prints what the pipeline's own models are worth, as a whole and a share of it."""

from __future__ import annotations

import json

import models
import pytest
from models_routing import ROUTERS


@pytest.mark.exhaustive
def test_the_script_prints_the_tables_of_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    models.main(["--quick", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(models.SECTIONS)
    printed = "\n".join(line for name, made in found.items() for line in models.SECTIONS[name].lines(made))
    for way in ("coreset, then margin", "random", "LASER (normalised)", "vote of the blocks alone", "cascade"):
        assert f"| {way} |" in printed
    assert "nan" not in printed


@pytest.mark.slow
def test_a_section_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    models.main(["routing", "--quick"])
    printed = capsys.readouterr().out
    assert printed.count("## ") == 1
    assert printed.count("| random mix |") == 2
    assert all(f"| {way} |" in printed for way in ROUTERS)


def test_a_section_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        models.main(["rooting"])
    assert "no section 'rooting': expected some of labelling, fusion, routing" in capsys.readouterr().err
