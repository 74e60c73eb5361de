"""Runs on a real Ray head: the same bytes as locally, whoever dies, and refusals of what would wait for ever."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from gneiss.backends import MOST_ATTEMPTS, Patience, Room
from gneiss.backends.ray_actors import RayActors, check_nodes, room_on, worker
from gneiss.backends.ray_actors.pool import ActorPool
from gneiss.backends.ray_actors.room import asked_of
from gneiss.backends.resources import Resources
from gneiss.backends.samples import Sample
from gneiss.errors import DefectError, MachineError, ModelError
from gneiss.extraction.job import extract
from gneiss.filters.fusion_model import MASKED, Block, BlockColumn, FusionModel, write_model
from gneiss.model_training.networks import new_network
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.pipelines.update import update_annotations
from gneiss.recipe.recipe import Recipe
from gneiss.routing.http_judge import HttpJudge
from gneiss.routing.policy import Calibration, JudgeEntry, Policy, Scorer, Terms, Tier
from gneiss.stages.curating import CurateStep
from tests import runs
from tests.backends import misbehaving
from tests.backends.misbehaving import Misbehaving, Processes
from tests.backends.ray_cluster import BIN, CPUS, Head, running_head, until
from tests.chaos import killing, test_rounds
from tests.extraction import archives
from tests.pipelines.test_encoder_in_a_recipe import write_recipe
from tests.routing.chat_server import Handler, answering, chat_server, said
from tests.runs import Material

RESOURCES = Resources(100_000_000)
#: The look at an actor starts a process, the first time.
PATIENCE = Patience(look_seconds=0.5, join_seconds=0.5, say_seconds=2.0, kill_seconds=4.0)
PLAIN = "name: plain\nbudgets: {documents: 0.5}\nphases: [{name: only, rules: {long: text_bytes > 300}}]\n"
OWN_FILTER = """
from dataclasses import dataclass
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Asking(Annotator):
    columns = (Column("asking", "int64", "question marks"),)
    def compute(self, batch):
        return {"asking": [text.count("?") for text in batch.texts()]}
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head of its own."""
    with running_head() as head:
        yield head


@pytest.fixture(scope="module")
def local(uninterrupted: FinishedRun) -> dict[str, str]:
    """What a run without Ray gives."""
    return runs.promised(uninterrupted.folder)


@pytest.mark.processes
def test_one_actor_gives_the_bytes_of_a_local_run(
    head: Head, material: Material, local: dict[str, str], tmp_path: Path
) -> None:
    done = run(material.recipe, material.input, tmp_path / "output", workers=1)  # RAY_ADDRESS chooses Ray
    assert sys.modules["ray"].is_initialized()
    assert done.quarantined_shards == {}
    assert runs.promised(tmp_path / "output") == local


@pytest.mark.processes
@pytest.mark.exhaustive
def test_fusion_and_routing_give_the_bytes_of_a_local_run_whatever_the_judge_does(
    head: Head, material: Material, tmp_path: Path
) -> None:
    """A judge that lies is asked again; one that fails stops the run, which then goes on."""
    answers = Path(os.environ["GNEISS_CACHE"]) / "answers"
    with chat_server() as chat:
        chat.default = of_rivers
        recipe = routed(material, tmp_path, chat.url)
        run(recipe, material.input, tmp_path / "local", backend=runs.InThisProcess())
        table = runs.annotations(tmp_path / "local")
        assert set(table["route_tier"].to_pylist()) == {0, 1, 2, None}
        lied_about, failed = sorted(set(chat.asked))[:2]
        shutil.rmtree(answers)
        chat.behaviours = {
            lied_about: [answering(200, said('{"keep": "yes"}')), of_rivers],
            failed: [answering(503, b"")],
        }
        with pytest.raises(MachineError, match=r"the judge has no answer for 1 of \d+ documents: HTTP 503"):
            run(recipe, material.input, tmp_path / "output", workers=1, backend="ray")
        chat.behaviours, chat.asked = {lied_about: [of_rivers]}, []
        run(recipe, material.input, tmp_path / "output", workers=1, backend="ray")
        assert runs.promised(tmp_path / "output") == runs.promised(tmp_path / "local")
        assert chat.asked.count(failed) == 1
    shutil.rmtree(answers)


@pytest.mark.processes
@pytest.mark.exhaustive
def test_an_encoder_behind_cheap_rules_and_in_a_policy_gives_the_bytes_of_a_local_run(
    head: Head, material: Material, tmp_path: Path
) -> None:
    recipe = write_recipe(material, tmp_path)
    run(recipe, material.input, tmp_path / "local", backend=runs.InThisProcess())
    run(recipe, material.input, tmp_path / "output", workers=1, backend="ray")
    assert runs.promised(tmp_path / "output") == runs.promised(tmp_path / "local")


def of_rivers(_: Handler, text: str) -> tuple[int, bytes]:
    """Keeps texts about rivers."""
    return 200, said(json.dumps({"keep": "river" in text}))


def routed(material: Material, folder: Path, url: str) -> Path:
    """The recipe of the material with a fused score and a policy for it, of which tiers are sure of large margins."""
    draw = np.random.default_rng(0)
    blocks = Block("prose", (BlockColumn("prose"),)), Block("readability", (BlockColumn("eflaw"), BlockColumn("ari")))
    network = tuple(new_network((3 + len(blocks), *MASKED, 1), draw))
    (folder / "fusion.safetensors").write_bytes(
        write_model(FusionModel("masked", blocks, np.array([0.5, 10.0, 10.0]), np.array([0.5, 5.0, 5.0]), (network,)))
    )
    scores, margins = (0.0, 0.5, 1.0), (-12.0, 0.0, 12.0)
    by_margin, likely, sure = (
        (bias, slope, 0.0, 0.0, 0.0, 0.0) for bias, slope in ((0.0, 3.0), (2.3, 0.0), (0.0, 9.0))
    )
    policy = Policy(
        tiers=(Tier(Scorer("prose", 0.5), scores, margins, 0.01), Tier(Scorer("fusion", 0.5), scores, margins, 0.1)),
        judge=JudgeEntry(http=HttpJudge(url, "m", "Is it about rivers?", attempts=2, first_pause_s=0.001)),
        judge_cost=1.0,
        cost_unit="questions",
        terms=Terms(0.9, audit_share=0.1),
        debt=1.0,
        weights=((by_margin, likely), (sure, sure)),
        calibration=Calibration(90, 100, 0.5),
    )
    (folder / "policy").mkdir()
    (folder / "policy/policy.json").write_bytes(policy.to_json())
    more = "      - fusion: {model: fusion.safetensors}\n      - route: {policy: policy/}\n    rules:\n"
    return material.changed(folder, "    rules:\n", more)


@pytest.mark.exhaustive
def test_actors_update_annotations_and_decide(
    head: Head, curated: Path, copy_of: Callable[[Path], Path], material: Material, tmp_path: Path
) -> None:
    changes = {"phases.only.annotate.fasttext.models.prose.newlines": "join_stripped_lines"}
    recipe = Recipe.load(material.recipe).changed(changes | {"phases.only.rules.good": "prose > 0.6"})
    outputs = copy_of(curated), copy_of(curated)
    for folder, backend in zip(outputs, ("ray", runs.InThisProcess()), strict=True):
        assert update_annotations(folder, recipe, workers=1, backend=backend) is not None
        decide(recipe, folder, folder.parent / f"{folder.name}-again", workers=1, backend=backend)
    for name in ("", "-again"):
        mine, expected = (runs.promised(f"{folder}{name}") for folder in outputs)
        assert mine == expected


def test_metrics_are_among_those_of_the_cluster(head: Head) -> None:
    import ray

    backend = RayActors()
    assert backend.room(RESOURCES).by_cpus
    labels = {"run": "aaaa", "stage": "curate"}
    for done in (2.0, 5.0, 1.0):  # the last of a driver that restarted
        backend.show(
            [
                Sample("gneiss_tasks_total", "counter", "tasks that ended", done, {**labels, "state": "committed"}),
                Sample("gneiss_tasks_left", "gauge", "tasks left", 9 - done, labels),
            ]
        )
    (node,) = (node for node in ray.nodes() if node["Alive"])
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    values: dict[str, float] = {}

    def are_there() -> bool:
        with urllib.request.urlopen(address, timeout=30) as answer:
            lines = [line for line in answer.read().decode().splitlines() if 'run="aaaa",stage="curate"' in line]
        values.update({line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines})
        return len(values) == 2

    until(are_there)
    assert values == {"ray_gneiss_tasks_total": 6.0, "ray_gneiss_tasks_left": 8.0}


@pytest.mark.exhaustive
def test_killed_actors_are_replaced_and_a_shard_that_always_kills_is_given_up(
    head: Head, material: Material, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, attempts = tmp_path / "output", tmp_path / "attempts"
    attempts.mkdir()
    once = {"a": 3, "c.g00001": 0, "deep/b.g00000": 7}
    with monkeypatch.context() as patch:
        patch.setattr(
            "gneiss.pipelines.curation.CurateStep",
            lambda *given: killing.DeadlyStep(CurateStep(*given), attempts, once, ("c.g00000",)),
        )
        done = run(material.recipe, material.input, output, workers=2, backend="ray")
    assert done.quarantined_shards == {"c.g00000": f"its worker died {MOST_ATTEMPTS} times (Segmentation fault)"}
    expected = {"a": 2, "c.g00000": MOST_ATTEMPTS, "c.g00001": 2, "deep_b.g00000": 2, "deep_b.g00002": 1}
    assert {path.name: path.stat().st_size for path in attempts.iterdir()} == expected
    finished = {name: stamp for name, stamp in runs.touched(output / "data").items() if not name.endswith(".part")}
    assert len(finished) == 4
    run(material.recipe, material.input, output, workers=1, backend="ray")
    assert runs.promised(output) == local
    assert finished.items() <= runs.touched(output / "data").items()


@pytest.mark.exhaustive
@pytest.mark.processes
def test_an_actor_killed_in_each_stage_of_rules_by_share_is_replaced(head: Head, tmp_path: Path) -> None:
    recipe = Recipe.parse(test_rounds.BY_SHARE)
    runs.write_corpus(tmp_path / "input/a.parquet", runs.documents(60, seed=1))
    run(recipe, tmp_path / "input", tmp_path / "local", backend=runs.InThisProcess())
    with test_rounds.deadly_rounds(tmp_path / "marks"):
        run(recipe, tmp_path / "input", tmp_path / "output", workers=2, backend="ray")
    marks = {mark.name for mark in (tmp_path / "marks").iterdir()}
    assert {"phases_to_first+scores_of_first", "thresholds_of_first", "thresholds_of_second"} <= marks
    assert test_rounds.promised(tmp_path / "output") == runs.promised(tmp_path / "local")


def test_errors_that_concern_the_run_come_back_from_an_actor(
    head: Head, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in (
        (ModelError("the model is green"), pytest.raises(ModelError, match=r"^the model is green$")),
        (ValueError("no number"), pytest.raises(DefectError, match="a worker cannot start: ValueError: no number")),
    ):
        monkeypatch.setattr("gneiss.pipelines.curation.CurateStep", lambda *_, error=error: killing.FailsToLoad(error))
        with expected:
            run(material.recipe, material.input, tmp_path / "output", workers=1, backend="ray")


def test_more_memory_than_there_is_is_refused_with_both_figures(
    head: Head, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gneiss.backends.resources.WORKER_BYTES", 6_500_000_000)
    expected = r"memory \(about 6\.5 GB\) of one node, but the cluster's nodes offer 4 and 6\.0 GB: use smaller shards"
    with pytest.raises(MachineError, match=expected):
        run(material.recipe, material.input, tmp_path / "output", workers=2, backend="ray")


def submit(head: Head, working_dir: Path, *entrypoint: str | Path) -> None:
    """`ray job submit`, to its end."""
    command = [BIN / "ray", "job", "submit", "--address", head.jobs, "--working-dir", working_dir, "--", *entrypoint]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.processes
@pytest.mark.exhaustive
def test_a_submitted_job_gives_the_bytes_of_a_local_run(
    head: Head, material: Material, third_party: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its recipe names a class of a file beside it, and, by entry points, classes of an installed package."""
    work = tmp_path / "work"
    shutil.copytree(third_party, work)
    shutil.copy(material.folder / "tiny.bin", work)
    (work / "own_filter.py").write_text(OWN_FILTER)
    more = "  - {name: more, edit: [calm], annotate: ['own_filter:Asking', shouting], rules: {quiet: asking < 9}}\n"
    (work / "more.yaml").write_text((material.folder / "runs.yaml").read_text() + more)
    arguments = ("more.yaml", "--input", material.input, "--output", tmp_path / "output", "--workers", "2")
    submit(head, work, BIN / "gneiss", "run", *arguments)
    monkeypatch.syspath_prepend(work)
    run(work / "more.yaml", material.input, tmp_path / "local", backend=runs.InThisProcess())
    assert runs.promised(tmp_path / "output") == runs.promised(tmp_path / "local")


@pytest.mark.exhaustive
def test_the_repository_as_working_dir_with_its_links_gives_the_same(
    head: Head, material: Material, tmp_path: Path
) -> None:
    """Its kernels are compiled anew, so its recipe needs few."""
    repository, work = Path(__file__).parents[2], tmp_path / "work"
    shutil.copytree(repository / "gneiss", work / "gneiss", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("filters", "dedup", "pipelines"):
        (work / name).symlink_to((repository / name).readlink())
    with (work / "gneiss/output/dataset_card.py").open("a") as card:  # what runs is what was submitted
        card.write("\n_card = dataset_card\n\n\ndef dataset_card(*given):\n    return _card(*given) + __file__\n")
    (work / "plain.yaml").write_text(PLAIN)
    arguments = ("plain.yaml", "--input", material.input, "--output", tmp_path / "output", "--workers", "1")
    submit(head, work, sys.executable, "-m", "gneiss", "run", *arguments)
    assert (tmp_path / "output/README.md").read_text().endswith("gneiss/output/dataset_card.py")
    run(work / "plain.yaml", material.input, tmp_path / "local", backend=runs.InThisProcess())
    assert runs.promised(tmp_path / "output") == runs.promised(tmp_path / "local")


# Actors that die, hang or have no place


def answers(does: Callable[[], None], folder: Path, times: int, workers: int = 2) -> list[Any]:
    """The answers of four tasks, one of which does something to its worker so many times."""
    run = RayActors(patience=PATIENCE).run(Misbehaving(does, folder, times), range(4), workers, RESOURCES)
    with closing(run):
        return sorted(run, key=lambda answer: (isinstance(answer, tuple), str(answer)))


@pytest.mark.usefixtures("head")
@pytest.mark.exhaustive
def test_kept_actors_live_on_from_stage_to_stage() -> None:
    with RayActors(patience=PATIENCE).kept() as kept:
        first = set(kept.run(Processes("first"), range(20), 2, RESOURCES))
        second = set(kept.run(Processes("second"), range(20), 2, RESOURCES))
    assert {name for name, _ in second} == {"second"}
    assert len({pid for _, pid in first | second}) <= 2


@pytest.fixture
def other_tenant(head: Head) -> Iterator[Callable[[int], None]]:
    """Takes CPUs of the head for the time of a test, as somebody else's actor does."""
    import ray

    RayActors().room(RESOURCES)
    held: list[Any] = []

    def take(cpus: int) -> None:
        holder: Any = ray.remote(num_cpus=cpus)(Holder)
        held.append(holder.remote())
        ray.get(held[-1].is_there.remote())

    yield take
    for actor in held:
        ray.kill(actor)


class Holder:
    """Somebody else's actor."""

    def is_there(self) -> bool:
        """As soon as it has a place."""
        return True


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("does", "times"),
    [
        (misbehaving.kill, MOST_ATTEMPTS + 1),
        pytest.param(misbehaving.stop, 1, marks=pytest.mark.exhaustive),
        pytest.param(misbehaving.spin, 1, marks=pytest.mark.exhaustive),
    ],
)
def test_who_kills_or_stops_actors_from_outside_costs_no_task(
    does: Callable[[], None], times: int, head: Head, tmp_path: Path
) -> None:
    assert answers(does, tmp_path, times) == [0, 1, 2, 3]


@pytest.mark.exhaustive
def test_no_actor_waits_while_a_node_is_asked_of_a_dead_one(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that is lost does not answer for long; this one answers when all other tasks are done."""
    others = [tmp_path / str(task) for task in (0, 2, 3)]

    def examine(record: str) -> Any:
        until(lambda: all(other.exists() for other in others))
        return worker.examine(record)

    monkeypatch.setattr("gneiss.backends.ray_actors.pool.examine", examine)
    assert answers(misbehaving.kill, tmp_path, 1) == [0, 1, 2, 3]
    assert [r for r in caplog.records if "its worker died (killed from outside" in r.getMessage()]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("does", "said"),
    [
        (misbehaving.segfault, "Segmentation fault"),
        pytest.param(misbehaving.lock_twice, "hung, without CPU time", marks=pytest.mark.exhaustive),
    ],
)
def test_a_task_that_its_actors_die_of_is_given_up(
    does: Callable[[], None], said: str, head: Head, tmp_path: Path
) -> None:
    *others, (task, reason) = answers(does, tmp_path, 9)
    assert (others, task) == ([0, 2, 3], 1)
    assert reason.startswith(f"its worker died {MOST_ATTEMPTS} times ({said}")


@pytest.mark.exhaustive
def test_an_actor_without_a_place_keeps_no_task(
    other_tenant: Callable[[int], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with `ray job submit --entrypoint-num-cpus 1` and as many workers as CPUs."""
    other_tenant(1)
    assert answers(partial(misbehaving.spin, 5.0), tmp_path, 1, workers=CPUS) == [0, 1, 2, 3]
    assert [r.getMessage() for r in caplog.records if "waiting for a place for 1 of 4 workers" in r.getMessage()]


@pytest.mark.exhaustive
def test_a_node_that_joins_is_used_and_that_it_is_lost_costs_no_task(
    head: Head, other_tenant: Callable[[int], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One worker has a place on the head, two on a node that is lost while all have a task."""
    other_tenant(CPUS - 1)
    run = RayActors(patience=Patience(join_seconds=0.5), grows=True).run(WaitsForFile(tmp_path), range(9), 1, RESOURCES)
    found: list[Any] = []
    driver = Thread(target=lambda: found.extend(run), daemon=True)
    driver.start()
    until(lambda: len(workers_in(tmp_path)) == 1)
    node = head.join(cpus=2)
    until(lambda: len(workers_in(tmp_path)) == 3)
    assert len({*workers_in(tmp_path)} & {*node.processes()}) == 2
    node.kill()
    (tmp_path / "go").touch()
    driver.join(timeout=300)
    assert sorted(found) == list(range(9))
    assert max(path.stat().st_size for path in tmp_path.glob("task-*")) == 2, "none is begun more than twice"
    lost = [r for r in caplog.records if "its worker died (lost with its node)" in r.getMessage()]
    assert len(lost) == 2


@dataclass(frozen=True)
class WaitsForFile:
    """A step whose workers leave their process ids, and a byte for each task they begin; they wait for a file go."""

    folder: Path

    def open(self) -> Callable[[int], int]:
        """Open the step."""

        def work(task: int) -> int:
            (self.folder / f"pid-{os.getpid()}").touch()
            with (self.folder / f"task-{task}").open("ab") as begun:
                begun.write(b"x")
            until((self.folder / "go").exists)
            return task

        return work

    def lost(self, task: int, reason: str) -> Any:
        """What became of it."""
        return task, reason


def workers_in(folder: Path) -> list[int]:
    """The process ids of workers that began a task."""
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


@pytest.mark.exhaustive
@pytest.mark.processes
def test_a_job_that_is_stopped_says_that_it_can_be_resumed(head: Head, material: Material, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    waiting = f"""
import os, time
from dataclasses import dataclass
from pathlib import Path
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Waiting(Annotator):
    columns = (Column("waited", "int64", "nothing"),)
    def compute(self, batch):
        Path({str(tmp_path)!r}, f"pid-{{os.getpid()}}").touch()
        time.sleep(3600)
"""
    (tmp_path / "work/waiting.py").write_text(waiting)
    recipe = "name: waiting\nphases: [{name: only, annotate: ['waiting:Waiting'], rules: {long: waited < 1}}]\n"
    (tmp_path / "work/waiting.yaml").write_text(recipe)
    job = f"stopped-{os.getpid()}"

    def ray_job(verb: str, *arguments: object) -> str:
        command = [BIN / "ray", "job", verb, "--address", head.jobs, *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300).stdout

    arguments = ("waiting.yaml", "--input", material.input, "--output", tmp_path / "output", "--workers", "1")
    submitting = ("--no-wait", "--submission-id", job, "--working-dir", tmp_path / "work")
    ray_job("submit", *submitting, "--", BIN / "gneiss", "run", *arguments)
    until(lambda: bool(workers_in(tmp_path)))
    ray_job("stop", job)
    said = ray_job("logs", job)
    assert "gneiss: ended by SIGTERM; the same command resumes where it stopped" in said
    assert "*** SIGTERM" not in said
    assert "Traceback" not in said


@pytest.mark.exhaustive
def test_a_ray_that_is_started_here_listens_on_the_loopback_interface_only_and_its_files_are_private(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    script = """
import os, psutil
from gneiss.backends.ray_actors import RayActors
from gneiss.backends.resources import Resources
assert RayActors().room(Resources(1)).by_cpus > 0
for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    for connection in process.net_connections():
        if connection.status == psutil.CONN_LISTEN:
            print(connection.laddr.ip.removeprefix("::ffff:"))
import ray
folder = ray._private.worker._global_node.get_temp_dir_path()
folder = os.path.dirname(folder)
print(oct(os.stat(folder).st_mode & 0o777), folder)
"""
    *listening, folder = runs.python("-c", script).stdout.splitlines()
    assert len(listening) > 5
    assert set(listening) == {"127.0.0.1"}
    mode, _, path = folder.partition(" ")
    assert mode == "0o700"
    assert not Path(path).exists(), "it goes with its driver"


# Without a head


def node(cpus: float, memory_bytes: float) -> dict[str, dict[str, float]]:
    return {"Resources": {"CPU": cpus, "memory": memory_bytes}}


def test_a_worker_fits_where_one_node_has_both_a_cpu_and_the_memory() -> None:
    assert room_on([node(4, 8e9), node(2, 40e9), node(0, 90e9)], Resources(3_000_000_000)) == Room(6, 2 + 2)
    assert room_on([node(4, 2e9), node(4, 2e9)], Resources(3_000_000_000)) == Room(8, 0)
    assert room_on([node(5, 8e9)], Resources(1_000_000_000, cpus=2)) == Room(2, 2)
    assert room_on([{"Resources": {}}], Resources(1)) == Room(0, 0)


def with_gpus(cpus: float, gpus: float) -> Mapping[str, Any]:
    return {"Resources": {"CPU": cpus, "memory": 100e9, "GPU": gpus}}


def test_workers_share_the_gpus_of_a_node_and_are_not_more() -> None:
    def by_gpus(gpus: float) -> int:
        return room_on([with_gpus(16, 2), with_gpus(16, 1), with_gpus(16, 0)], Resources(10**9, gpus=gpus)).by_memory

    assert [by_gpus(gpus) for gpus in (0, 0.1, 0.25, 0.3, 0.6, 1, 2)] == [48, 16 + 10, 12, 9, 3, 3, 1]


def test_where_no_node_has_a_gpu_workers_ask_for_none_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    resources = Resources(10**9, gpus=0.5)
    assert asked_of([with_gpus(4, 0), with_gpus(4, 1)], resources) == resources
    assert asked_of([with_gpus(4, 0)], resources) == Resources(10**9)
    check_nodes([with_gpus(4, 0)], 4, resources, [])
    assert [record.getMessage() for record in caplog.records] == [
        "no node of the cluster has a GPU: filters that would use one run on CPUs"
    ]


def test_an_actor_asks_ray_for_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked: list[Mapping[str, object]] = []

    def remote(**options: object) -> Callable[[object], object]:
        asked.append(options)
        return lambda of: of

    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "put", lambda of: of)
    ActorPool(None, Resources(10**9, gpus=0.25), [], is_bound=False)
    assert [options["num_gpus"] for options in asked if "num_gpus" in options] == [0.25]


def test_several_nodes_are_refused_unless_they_see_the_same_files() -> None:
    with pytest.raises(MachineError, match=r"2 nodes, and these are local paths: /data/in, /models/a\.bin; give sh"):
        check_nodes([node(2, 9e9), node(2, 9e9)], 2, Resources(1_000_000_000), ["/data/in", "/models/a.bin"])
    check_nodes([node(2, 9e9), node(2, 9e9)], 2, Resources(1_000_000_000), [])
    check_nodes([node(2, 9e9)], 2, Resources(1_000_000_000), ["/data/in"])


def test_memory_that_no_node_has_is_refused_although_all_together_have_it() -> None:
    with pytest.raises(
        MachineError, match=r"memory \(about 3\.0 GB\) .* offer 2 and 2\.0 GB, 2 and 2\.0 GB: use small"
    ):
        check_nodes([node(2, 2e9), node(2, 2e9)], 1, Resources(3_000_000_000), [])


def test_workers_that_have_no_place_yet_are_said(caplog: pytest.LogCaptureFixture) -> None:
    check_nodes([node(0, 9e9), node(4, 8e9)], 5, Resources(3_000_000_000), [])
    check_nodes([node(0, 9e9)], 1, Resources(3_000_000_000), [])  # as where all spot machines are preempted
    check_nodes([node(4, 9e9)], 3, Resources(3_000_000_000), [])
    expected = "workers were asked for, but the cluster has CPUs for {} and memory for {} at 3.0 GB each: the others"
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(" start")[0] for text in said] == [
        f"5 {expected}".format("4,", 2),
        f"1 {expected}".format("0,", 0),
    ]
    with pytest.raises(MachineError, match=r"offer 0 and 9\.0 GB"):
        check_nodes([node(0, 9e9)], 1, Resources(3_000_000_000), ["/data/in"])


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself gives up only after two minutes, so its answer is a stand-in here."""
    import ray

    def refuse(**_: object) -> None:
        raise ConnectionError("Could not find\nany running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(MachineError, match=r"cannot connect to Ray \(RAY_ADDRESS=10\.0\.0\.1:6379\): any running Ray"):
        RayActors().room(Resources(1))


@pytest.mark.exhaustive
@pytest.mark.processes
def test_actors_extract_the_same_bytes(head: Head, tmp_path: Path) -> None:
    (tmp_path / "crawl").mkdir()
    crawl = archives.write_crawl(tmp_path / "crawl", archives.documentation_pages())
    local = extract(crawl, tmp_path / "local", extractor="resiliparse", backend=runs.InThisProcess())
    on_ray = extract(crawl, tmp_path / "ray", extractor="resiliparse", workers=2, backend="ray")
    assert runs.promised(on_ray.output) == runs.promised(local.output)
    assert on_ray.unreadable == local.unreadable
