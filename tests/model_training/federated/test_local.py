"""Sites as tasks of workers: the same bytes in this process, in processes and on Ray, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gneiss.backends import Backend, Workers
from gneiss.backends.local import LocalProcesses
from gneiss.backends.resources import worker_resources
from gneiss.errors import DefectError, InputError
from gneiss.model_training.federated.coordinator import train
from gneiss.model_training.federated.engines import Engine, Lost, Site
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.engines.local import SiteStep, SiteTask, local_engine
from gneiss.model_training.federated.model import write_model
from gneiss.model_training.federated.region import RegionFiles, site_of
from gneiss.model_training.federated.site_documents import SiteFiles
from gneiss.model_training.federated.strategies.by_name import REGIONAL
from gneiss.store.place import place_of
from tests.model_training.federated.silos_of_text import MIXES, MOST_BYTES, SPACE, federation, site_files
from tests.runs import InThisProcess


def workers(backend: Backend, count: int = 2) -> Workers:
    return Workers(backend, count, worker_resources())


def all_files(folder: Path) -> list[SiteFiles]:
    return [site_files(folder / "sites", name, min_documents=2) for name in MIXES]


def all_regions(folder: Path) -> list[SiteFiles | RegionFiles]:
    """Sites, and a region of two of them."""
    sites = all_files(folder)
    return [*sites, RegionFiles("region", tuple(sites[:2]))]


def model(engine: Engine, folder: Path, strategy: str = "fadam_gt") -> bytes:
    """The file of a model that is trained by an engine; in regions by one of two sites, and one that has none."""
    regions: dict[str, Any] = {"sites": ("region",), "concurrency": 1} if strategy in REGIONAL else {}
    found = train(federation(strategy, rounds=4, **regions), engine, place_of(folder / f"out-{strategy}"))
    write_model(SPACE, found.weights, ("cc", "hq"), folder / "quality.bin")
    return (folder / "quality.bin").read_bytes()


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """In this process."""
    return in_this_process(tmp_path, "fadam_gt")


def in_this_process(folder: Path, strategy: str) -> bytes:
    (folder / "expected").mkdir(exist_ok=True)
    clients = {files.site: site_of(files) for files in all_regions(folder)}
    return model(InProcess(clients, MOST_BYTES), folder / "expected", strategy)


def test_without_processes_the_bytes_are_the_same(tmp_path: Path, expected: bytes) -> None:
    with local_engine(all_files(tmp_path), workers(InThisProcess()), MOST_BYTES) as engine:
        assert model(engine, tmp_path) == expected


@pytest.mark.processes
def test_local_processes_give_the_same_bytes(tmp_path: Path, expected: bytes) -> None:
    with local_engine(all_regions(tmp_path), workers(LocalProcesses()), MOST_BYTES) as engine:
        assert model(engine, tmp_path) == expected
        assert model(engine, tmp_path, "mtgc") == in_this_process(tmp_path, "mtgc")


@pytest.mark.processes
@pytest.mark.exhaustive
def test_actors_give_the_same_bytes(tmp_path: Path, expected: bytes) -> None:
    from gneiss.backends.ray_actors import RayActors
    from tests.backends.ray_cluster import running_head

    actors = RayActors(shared_filesystem=True)
    with running_head(), local_engine(all_regions(tmp_path), workers(actors), MOST_BYTES) as engine:
        assert model(engine, tmp_path) == expected
        assert model(engine, tmp_path, "mtgc") == in_this_process(tmp_path, "mtgc")


@dataclass(frozen=True)
class DyingStep(SiteStep):
    """Its worker dies once of each site, after the site has worked, before it has sent anything."""

    folder: str = ""

    def _work(self, task: SiteTask) -> bytes:
        answer = super()._work(task)
        mark = Path(self.folder) / f"died-{task.files.site}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


@pytest.mark.processes
def test_a_site_that_dies_at_a_task_is_asked_again_and_answers_the_same(
    tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(most_bytes: int, opened: Callable[[Any], Site]) -> SiteStep:
        return DyingStep(most_bytes, opened, str(tmp_path))

    monkeypatch.setattr("gneiss.model_training.federated.engines.local.SiteStep", dying)
    with local_engine(all_regions(tmp_path), workers(LocalProcesses(), 1), MOST_BYTES) as engine:
        assert model(engine, tmp_path) == expected
        assert model(engine, tmp_path, "mtgc") == in_this_process(tmp_path, "mtgc")
    assert len(list(tmp_path.glob("died-*"))) == len(MIXES) + 1


class _GivesUp(InThisProcess):
    """Every worker dies of its task."""

    def run(self, step: Any, tasks: Any, workers: int, resources: Any) -> Iterator[Any]:  # type: ignore[override]
        yield from (step.lost(task, "its worker died 3 times") for task in tasks)


def test_a_site_whose_workers_die_of_every_task_is_lost(tmp_path: Path) -> None:
    with local_engine(all_files(tmp_path), workers(_GivesUp()), MOST_BYTES) as engine:
        from gneiss.model_training.federated.asking import task_message

        engine.ask("ann", task_message(federation(), "count", 0))
        assert engine.answer(60) == Lost("ann", "its worker died 3 times")
        assert engine.answer(0) is None


def test_errors_of_sites_and_defects_reach_the_coordinator(tmp_path: Path) -> None:
    files = [replace(found, text="body") for found in all_files(tmp_path)]
    with (
        local_engine(files, workers(InThisProcess()), MOST_BYTES) as engine,
        pytest.raises(InputError, match="column 'body' is not there"),
    ):
        model(engine, tmp_path)
    broken = [replace(found, space=None) for found in all_files(tmp_path)]  # type: ignore[arg-type]
    with (
        local_engine(broken, workers(InThisProcess()), MOST_BYTES) as engine,
        pytest.raises(DefectError, match="an engine failed: AttributeError"),
    ):
        model(engine, tmp_path / "other")
