"""Workers: how many there may be, and what they report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gneiss.backends import Room
from gneiss.backends import local as local_processes
from gneiss.backends.choice import choose_workers
from gneiss.backends.local import LocalProcesses
from gneiss.backends.memory import MachineMemory
from gneiss.backends.ray_actors import check_nodes
from gneiss.backends.resources import WORKER_BYTES, Resources, worker_resources
from gneiss.errors import DefectError, MachineError, ModelError
from gneiss.input.plan import make_plan
from gneiss.pipelines.reshard import reshard
from gneiss.pipelines.run import resources_of, run
from gneiss.recipe.recipe import Recipe
from gneiss.store import place as places
from gneiss.store.place import place_of
from tests import runs
from tests.chaos import killing
from tests.runs import Material
from tests.store.memory import MemoryStore


@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_below_one_is_refused(
    workers: int, backend: Any, simple: Path, material: Material, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=f"workers={workers}: expected 1 or more"):
        run(simple, material.input, tmp_path / "output", workers=workers, backend=backend)


@pytest.mark.processes
def test_errors_that_concern_the_run_come_back_from_a_worker_process(
    simple: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in (
        (ModelError("the model is green"), pytest.raises(ModelError, match=r"^the model is green$")),
        (ValueError("no number"), pytest.raises(DefectError, match=r"^a worker cannot start: ValueError: no number$")),
    ):
        monkeypatch.setattr("gneiss.pipelines.curation.CurateStep", lambda *_, error=error: killing.FailsToLoad(error))
        with expected:
            run(simple, material.input, tmp_path / "output", workers=1, backend="local")


@pytest.mark.exhaustive
@pytest.mark.processes
def test_a_script_without_a_main_guard_is_told_so_rather_than_all_shards_being_given_up(
    simple: Path, material: Material, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    arguments = f"{str(simple)!r}, {str(material.input)!r}, {str(tmp_path / 'output')!r}, workers=1"
    script.write_text(f"import gneiss\ngneiss.run({arguments})\n")
    ended = runs.python(script)
    assert ended.returncode != 0
    assert "3 workers died before they were ready" in ended.stderr
    assert "__main__" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("steps", "step"),
    [("", ""), ("dedup: {min_length: 80}, ", ""), ("exact_duplicates: {}, ", "exact_duplicates")],
)
def test_what_takes_the_memory_is_named_where_there_is_too_little(
    steps: str, step: str, material: Material, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe.parse(f"name: small\nphases: [{{name: only, {steps}rules: {{long: text_chars > 3}}}}]")
    resources = resources_of(make_plan(recipe, material.input))
    assert resources.step == step
    with mock.patch.object(LocalProcesses, "room", return_value=Room(by_cpus=4, by_memory=1)):
        assert choose_workers(LocalProcesses(), None, 9, resources, False).count == 1
    less = f"machines with more memory: a task of {step} takes it," if step else "smaller shards (shard_max_bytes)"
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("1 workers instead of 4: each needs about ")
    assert f" GB; for more, use {less}" in said
    node = {"Resources": {"CPU": 4, "memory": 0.9 * resources.memory_bytes}}
    with pytest.raises(MachineError) as refused:
        check_nodes([node], 1, resources, [])
    assert f": use {less}" in str(refused.value)


def test_a_shard_that_a_machine_has_no_memory_for_is_refused_with_the_size_that_fits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needs = worker_resources(4_000_000_000, shared_bytes=2_000_000_000, largest_bytes=1_000_000_000)
    monkeypatch.setattr(local_processes, "machine_memory", lambda: MachineMemory(4_600_000_000, 0))
    said = (
        r"a worker needs about 4\.6 GB and 2\.0 GB for models that all share, but this machine, or the container around"
        r" it, has 4\.6 GB: use smaller shards \(shard_max_bytes\), here 500,000,000"
    )
    with pytest.raises(MachineError, match=said):
        choose_workers(LocalProcesses(), None, 9, needs, False)
    monkeypatch.setattr(local_processes, "machine_memory", lambda: MachineMemory(12_000_000_000, 7_000_000_000))
    assert choose_workers(LocalProcesses(), None, 9, needs, False).count == 1
    caplog.clear()
    assert choose_workers(LocalProcesses(), 3, 9, needs, False).count == 3
    (record,) = caplog.records
    assert record.getMessage().startswith("there may be memory for 2 of 3 workers only, as each takes about 4.6 GB and")


class Admits(runs.InThisProcess):
    """Remembers what it was to admit."""

    def __init__(self) -> None:
        self.local: list[str] = []
        self.needs: list[int] = []

    def admit(self, workers: int, resources: Resources, local: Sequence[str]) -> None:
        self.local = list(local)
        self.needs.append(resources.memory_bytes)


def test_what_tasks_took_is_known_to_a_run_that_resumes(
    simple: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Admits()
    monkeypatch.setattr("gneiss.jobs.attempt.peak_bytes", lambda: 1000 * WORKER_BYTES)
    run(simple, material.input, tmp_path / "out", backend=backend)
    next((tmp_path / "out/annotations/base").rglob("*.parquet")).unlink()
    run(simple, material.input, tmp_path / "out", backend=backend)
    first, second = backend.needs
    assert second == 2 * first


def test_nodes_need_not_share_what_lies_in_a_store(
    simple: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "STORES", (*places.STORES, MemoryStore()))
    remote = place_of("memory://bucket/input")
    for file in place_of(material.input).files():
        with (remote / file.name).create() as copy:
            copy.write((material.input / file.name).read_bytes())
    backend, model = Admits(), str(material.recipe.parent / "tiny.bin")
    for recipe, source, output, local in (
        (simple, str(material.input), str(tmp_path / "out"), [str(material.input), str(tmp_path / "out")]),
        (simple, remote, "memory://bucket/out", []),
        (material.recipe, remote, "memory://bucket/out-with-model", [model]),
    ):
        run(recipe, source, output, backend=backend)
        assert backend.local == local
    backend = Admits()
    reshard("memory://bucket/out", "memory://bucket/resharded", backend=backend)
    assert backend.local == []
    reshard("memory://bucket/out", tmp_path / "resharded", backend=backend)
    assert backend.local == [str(tmp_path / "resharded")]
