"""Regions: a site to the coordinator, rounds of its own sites inside; by messages as the pure functions have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gneiss.errors import InputError, MachineError
from gneiss.model_training.federated.asking import task_message, training_message
from gneiss.model_training.federated.coordinator import Trained, count_labels, train
from gneiss.model_training.federated.engines import Lost, Site
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.engines.local import local_engine
from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.federated.linear import Sampling, draw_of
from gneiss.model_training.federated.message import Message, packed
from gneiss.model_training.federated.region import RegionFiles, RegionSite, site_of
from gneiss.model_training.federated.strategies.by_name import REGIONAL, Rates
from gneiss.model_training.federated.strategies.strategy import Answer
from gneiss.store.place import place_of
from tests.model_training.federated.silos_of_text import MOST_BYTES, SPACE, federation, site_files, sites_of

REGIONS = {"north": ("ann", "bob"), "south": ("cee", "dan", "eve")}
RATES = Rates(3, 1.0, region_rounds=2)


def regional(strategy: str = "mtgc", rounds: int = 3, **others: Any) -> Federation:
    return federation(strategy, rounds, sites=tuple(REGIONS), rates=RATES, **others)


def region_files(folder: Path) -> list[RegionFiles]:
    return [
        RegionFiles(region, tuple(site_files(folder, site, min_documents=2) for site in own))
        for region, own in REGIONS.items()
    ]


def regions_of(folder: Path) -> dict[str, Site]:
    return {files.site: site_of(files) for files in region_files(folder)}


def trained(folder: Path, found: Federation, sites: dict[str, Site] | None = None) -> Trained:
    return train(found, InProcess(sites or regions_of(folder / "sites"), MOST_BYTES), place_of(folder / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", sorted(REGIONAL))
def test_rounds_of_messages_are_those_of_the_strategy(tmp_path: Path, strategy: str) -> None:
    found, form = regional(strategy), REGIONAL[strategy](RATES)
    result = trained(tmp_path, found)
    sampling = Sampling(found.batch, found.l2, 2)
    sites = sites_of(tmp_path / "sites", dict.fromkeys(sum(REGIONS.values(), ())), min_documents=2)  # type: ignore[arg-type]
    state = form.begin(np.zeros(found.shape, np.float32), tuple(REGIONS))
    for round_ in range(found.rounds):
        answers = {}
        for name, task in form.tasks(state, tuple(REGIONS)).items():
            region = form.begin_region(task.x, REGIONS[name])
            for inner in range(2 * round_, 2 * round_ + 2):
                gradients = {
                    site: sampling.gradient(sites[site]._examples.trained, draw_of(0, inner, site))
                    for site in REGIONS[name]
                }
                region = form.region_round(region, task.correction, gradients)
            answers[name] = Answer(region.x - task.x)
        state = form.aggregate(state, answers)
    assert result.weights.tobytes() == state.x.tobytes()
    assert result.weights.any()
    vectors = 2 if form.corrects_regions else 1
    for record in result.records:
        assert record["floats_down"] == vectors * len(REGIONS) * SPACE.size
        assert record["floats_up"] == len(REGIONS) * SPACE.size
        assert {region: of["documents"] for region, of in record["held_out"].items()} == {"north": 16, "south": 24}


def test_a_region_answers_as_its_sites_together(tmp_path: Path) -> None:
    together = count_labels(regional(), InProcess(regions_of(tmp_path), MOST_BYTES))
    every = {site: 0.5 for own in REGIONS.values() for site in own}
    alone = count_labels(federation(sites=tuple(sorted(every))), InProcess(dict(sites_of(tmp_path, every)), MOST_BYTES))
    for region, own in REGIONS.items():
        assert together[region] == tuple(sum(alone[site][label] for site in own) for label in (0, 1))


def test_workers_that_have_regions_give_the_same_bytes(tmp_path: Path) -> None:
    from tests.model_training.federated.test_local import InThisProcess, workers

    expected = trained(tmp_path, regional())
    with local_engine(region_files(tmp_path / "sites"), workers(InThisProcess()), MOST_BYTES) as engine:
        found = train(regional(), engine, place_of(tmp_path / "workers"))
    assert found.weights.tobytes() == expected.weights.tobytes()
    assert found.held_out == expected.held_out


class Losing(InProcess):
    """Loses sites from their so-manieth answer on."""

    def __init__(self, sites: dict[str, Site], lost: dict[str, int]) -> None:
        super().__init__(sites, MOST_BYTES)
        self._lost = lost
        self._answered = dict.fromkeys(sites, 0)

    def answer(self, timeout_s: float) -> Any:
        found = super().answer(timeout_s)
        if found is None or isinstance(found, Lost):
            return found
        self._answered[found[0]] += 1
        return Lost(found[0], "it died") if self._answered[found[0]] > self._lost.get(found[0], 99) else found


def task(strategy: str = "mtgc") -> Message:
    form, x = REGIONAL[strategy](RATES), np.zeros((SPACE.size, 1), np.float32)
    return training_message(regional(), form, form.tasks(form.begin(x, tuple(REGIONS)), tuple(REGIONS))["south"], 4)


def south(folder: Path, lost: dict[str, int]) -> RegionSite:
    sites: dict[str, Site] = dict(sites_of(folder, dict.fromkeys(REGIONS["south"], 0.5), min_documents=2))
    return RegionSite("south", Losing(sites, lost))


def test_a_site_that_is_lost_takes_no_part_until_the_next_task(tmp_path: Path) -> None:
    whole = south(tmp_path, {}).work(task())
    without = south(tmp_path, {"dan": 1}).work(task())
    assert without.arrays["difference"].any()
    assert not np.array_equal(whole.arrays["difference"], without.arrays["difference"])
    never = south(tmp_path, {"dan": 0})
    first = never.work(task())
    assert first.meta["held_out"]["documents"] == 16
    assert packed(never.work(task())) == packed(first)


def test_a_region_none_of_whose_sites_answers_says_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"region south: no site answers \(cee: it died; dan: .*start them"):
        south(tmp_path, dict.fromkeys(REGIONS["south"], 1)).work(task())
    with pytest.raises(MachineError, match="not all sites count their labels"):
        south(tmp_path, {"dan": 0}).work(task_message(regional(), "count", 0))


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"kind": "send everything"}, "no task is called 'send everything'"),
        ({"region_rounds": 0}, "region_rounds: expected a whole number from 1 to 1000, found 0"),
        ({"corrects_sites": 1}, "corrects_sites: expected true or false, found 1"),
        ({"corrected": "direction"}, "expected corrected gradient or none"),
        ({"largest_norm": None}, "and a largest_norm"),
        ({"corrected": None}, "expected the arrays x, found correction, x"),
        ({"features": "0" * 64}, "give coordinator and site one vocabulary"),
        ({"round": -1}, "round"),
    ],
)
def test_tasks_out_of_bounds_are_refused(tmp_path: Path, meta: dict[str, Any], expected: str) -> None:
    given = Message({**task().meta, **meta}, task().arrays)
    with pytest.raises(InputError, match=expected):
        south(tmp_path, {}).work(given)


def test_tasks_for_regions_are_none_for_sites_and_the_other_way_around(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="site ann: expected a task for a site, found one for a region"):
        site_of(site_files(tmp_path, "ann")).work(task())
    of_site = {name: value for name, value in task().meta.items() if name != "region_rounds"} | {"tracked": True}
    with pytest.raises(InputError, match="region south: expected a task for a region, found one for a site"):
        south(tmp_path, {}).work(Message(of_site, task().arrays))
    with pytest.raises(InputError, match="expected a task with x, found none"):
        south(tmp_path, {}).work(Message(task().meta))
