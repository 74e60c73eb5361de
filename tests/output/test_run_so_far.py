"""A run that is not finished is read as far as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gneiss.errors import InputError
from gneiss.output import layout
from gneiss.output.finished_run import FinishedRun
from gneiss.output.run_so_far import open_run_so_far
from tests.runs import annotations

Copy = Callable[[Path], Path]


def stopped(output: Path) -> Path:
    """The output as if its driver had been stopped before the shard `a` was finished."""
    for path in (layout.STATISTICS_FILE, layout.CARD_FILE, layout.annotations_path("a")):
        (output / path).unlink()
    return output


def test_a_finished_run_is_that_run(uninterrupted: FinishedRun) -> None:
    assert open_run_so_far(uninterrupted.folder) == uninterrupted
    assert uninterrupted.is_finished


@pytest.mark.parametrize("where", ["", layout.CURATED])
def test_finished_shards_are_counted(curated: Path, copy_of: Copy, tmp_path: Path, where: str) -> None:
    output = stopped(copy_of(curated))
    if where:
        (tmp_path / "whole/_gneiss").mkdir(parents=True)
        shutil.copy(output / layout.RUN_FILE, tmp_path / "whole" / layout.RUN_FILE)
        output = output.rename(tmp_path / "whole" / where)
    run = open_run_so_far(tmp_path / "whole" if where else output)
    rows = annotations(output)
    assert not run.is_finished
    assert len(run.shards) == 4
    assert run.counts["rows"] == rows.num_rows == run.annotations().num_rows == 120
    assert run.counts["kept"] == rows["status"].to_pylist().count("kept") == run.documents
    assert sum(run.statistics.patterns["only"].values()) == 120 - run.counts["quarantined"]
    assert set(run.examples) == {"good", "readable", "tokens_normal"}


def test_a_run_without_a_finished_shard_is_refused(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = stopped(copy_of(curated))
    shutil.rmtree(output / layout.BASE)
    with pytest.raises(InputError, match="no shard of this run is finished yet; `gneiss status`"):
        open_run_so_far(output)
    with pytest.raises(InputError, match="no finished run here"):
        open_run_so_far(tmp_path / "nowhere")


def test_a_shard_without_its_statistics_is_refused(curated: Path, copy_of: Copy) -> None:
    output = stopped(copy_of(curated))
    shutil.rmtree(output / layout.STATISTICS)
    with pytest.raises(InputError, match="cannot read what is finished of the run"):
        open_run_so_far(output)
