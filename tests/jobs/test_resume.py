"""Resume: finished tasks are believed only while their files are what the receipts describe."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from gneiss.backends.resources import Peaks
from gneiss.curate.curate import curate
from gneiss.curate.loaded_models import load_models
from gneiss.errors import OutputError
from gneiss.input.plan import Plan
from gneiss.jobs.resume import finished_tasks
from gneiss.output import ledger
from gneiss.output.commit import commit
from gneiss.pipelines.curation import CURATION
from gneiss.store.place import Place, place_of
from tests.output.test_claim import plan_of
from tests.support import write_documents


def curate_all(plan: Plan, output: Place) -> list[ledger.Receipt]:
    tools = load_models(plan.recipe)
    return [commit(curate(shard, plan.recipe, tools), plan.recipe, output) for shard in plan.input.shards]


def test_finished_shards_are_known_from_the_ledger(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), place_of(tmp_path / "out")
    receipts = curate_all(plan, output)
    ledger.append(output, receipts)
    done, adopted = finished_tasks(output, CURATION, plan.input.shards, Peaks())
    assert done == {receipt.task: receipt.remembered() for receipt in receipts}
    assert adopted == []


def test_shards_that_the_ledger_missed_are_adopted_from_their_footers(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), place_of(tmp_path / "out")
    receipts = curate_all(plan, output)
    ledger.append(output, receipts[:1])
    done, adopted = finished_tasks(output, CURATION, plan.input.shards, Peaks())
    assert list(done) == ["a", "b"]
    assert [receipt.files for receipt in adopted] == [receipts[1].files]


@pytest.mark.parametrize("folder", ["data", "annotations/base", "_gneiss/statistics"])
@pytest.mark.parametrize("harm", ["gone", "short", "other bytes"])
@pytest.mark.slow
def test_a_shard_whose_files_are_not_as_its_receipt_says_is_not_finished(
    tmp_path: Path, folder: str, harm: str
) -> None:
    plan, output = plan_of(tmp_path), place_of(tmp_path / "out")
    ledger.append(output, curate_all(plan, output))
    (path,) = (tmp_path / "out" / folder).glob("a.*")
    if harm == "gone":
        path.unlink()
    elif harm == "short":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.write_bytes(bytes(path.stat().st_size))
    assert list(finished_tasks(output, CURATION, plan.input.shards, Peaks())[0]) == ["b"]


def test_only_files_with_another_etag_are_read_again(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), place_of(tmp_path / "out")
    ledger.append(output, curate_all(plan, output))
    with mock.patch.object(Place, "checksum", side_effect=AssertionError):
        assert list(finished_tasks(output, CURATION, plan.input.shards, Peaks())[0]) == ["a", "b"]
    os.utime(tmp_path / "out/data/a.parquet", ns=(1, 1))
    with mock.patch.object(Place, "checksum", autospec=True, side_effect=Place.checksum) as summed:
        assert list(finished_tasks(output, CURATION, plan.input.shards, Peaks())[0]) == ["a", "b"]
    assert [call.args for call in summed.call_args_list] == [(output / "data/a.parquet",)]


def test_an_input_that_changed_is_refused(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), place_of(tmp_path / "out")
    ledger.append(output, curate_all(plan, output))
    path = tmp_path / "input/a.parquet"
    os.utime(path, ns=(1, 1))
    with pytest.raises(OutputError, match=r"a\.parquet: the file was modified after .* was made from it"):
        finished_tasks(output, CURATION, plan_of(tmp_path).input.shards, Peaks())
    write_documents(path, ["one", "other"])
    os.utime(path, ns=(1, int(plan.input.shards[0].etag)))
    with pytest.raises(OutputError, match=r"no longer the file that .* was made from"):
        finished_tasks(output, CURATION, plan_of(tmp_path).input.shards, Peaks())


def test_an_input_that_lacks_finished_shards_is_refused(tmp_path: Path) -> None:
    plan, output = plan_of(tmp_path), place_of(tmp_path / "out")
    ledger.append(output, curate_all(plan, output))
    with pytest.raises(OutputError, match="it holds 1 shards that this input lacks, first 'b'"):
        finished_tasks(output, CURATION, plan.input.shards[:1], Peaks())
