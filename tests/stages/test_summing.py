"""Statistics are added up in groups, by workers, to what one sum gives; a finished run reads none of them again."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from gneiss.output import layout
from gneiss.pipelines.run import run
from gneiss.stages import summing
from gneiss.stages.summing import groups_of
from gneiss.store.place import Place, place_of
from tests.runs import InThisProcess
from tests.support import recipe_of, write_documents

SHARDS = 7
RECIPE = recipe_of("  - {name: only, annotate: [readability], rules: {short: text_bytes < 9}}")


@pytest.fixture
def input(tmp_path: Path) -> Path:
    for number in range(SHARDS):
        texts = ["same", f"document {number}", None, "long " * number]
        write_documents(tmp_path / f"input/{number}.parquet", texts)
    return tmp_path / "input"


def test_groups_hold_each_shard_once_and_their_names_say_which() -> None:
    assert groups_of("abc") == []
    with mock.patch.object(summing, "GROUP_SHARDS", 2):
        assert [group.shards for group in groups_of("abcde")] == [("a", "b"), ("c", "d"), ("e",)]
        assert groups_of("abcde")[1].name == groups_of("xxcde")[1].name != groups_of("abcxe")[1].name


@pytest.mark.parametrize("size", [1, 3, 6])
def test_a_run_in_groups_has_the_same_statistics(input: Path, tmp_path: Path, size: int) -> None:
    whole = run(RECIPE, input, tmp_path / "whole", backend=InThisProcess())
    with mock.patch.object(summing, "GROUP_SHARDS", size):
        grouped = run(RECIPE, input, tmp_path / "grouped", backend=InThisProcess())
    assert grouped.statistics == whole.statistics
    assert grouped.examples == whole.examples
    for name in (layout.STATISTICS_FILE, layout.CARD_FILE):
        one, other = ((tmp_path / output / name).read_text() for output in ("whole", "grouped"))
        assert one == other
    assert not (tmp_path / "grouped" / layout.EXCHANGE).exists()


def test_only_groups_that_nobody_has_added_up_are_read(input: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with mock.patch.object(summing, "GROUP_SHARDS", 3):
        with (
            mock.patch("gneiss.pipelines.run.finish", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            run(RECIPE, input, output, backend=InThisProcess())
        first = summing.sum_path(groups_of([f"{number}" for number in range(SHARDS)])[0])
        (output / first).unlink()
        with mock.patch.object(summing, "added_up", side_effect=summing.added_up) as added:
            run(RECIPE, input, output, backend=InThisProcess())
    assert added.call_count == 1


def test_a_finished_run_reads_its_statistics_only(input: Path, tmp_path: Path) -> None:
    done = run(RECIPE, input, tmp_path / "output", backend=InThisProcess())
    with mock.patch.object(Place, "read", autospec=True, side_effect=Place.read) as read:
        again = run(RECIPE, input, tmp_path / "output", backend=InThisProcess())
    assert (again.statistics, again.examples) == (done.statistics, done.examples)
    folder = place_of(tmp_path / "output" / layout.STATISTICS)
    assert not [call for call in read.call_args_list if call.args[0].is_in(folder)]


def test_a_shard_that_is_quarantined_again_changes_no_sum(input: Path, tmp_path: Path) -> None:
    damaged = bytearray((input / "3.parquet").read_bytes())
    damaged[4:60] = bytes(56)
    (input / "3.parquet").write_bytes(damaged)
    with mock.patch.object(summing, "GROUP_SHARDS", 3):
        done = run(RECIPE, input, tmp_path / "output", backend=InThisProcess())
        with (
            mock.patch.object(summing, "added_up") as in_groups,
            mock.patch("gneiss.pipelines.adding_up.added_up") as of_all,
        ):
            again = run(RECIPE, input, tmp_path / "output", backend=InThisProcess())
    assert (again.statistics, again.quarantined_shards) == (done.statistics, done.quarantined_shards)
    assert [*done.quarantined_shards] == ["3"]
    assert not in_groups.called
    assert not of_all.called


def test_a_shard_that_is_curated_again_is_added_up_again(input: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = run(RECIPE, input, output, backend=InThisProcess())
    (output / layout.data_path("3")).unlink()
    (output / layout.STATISTICS_FILE).write_text("{}")
    assert run(RECIPE, input, output, backend=InThisProcess()).statistics == done.statistics
