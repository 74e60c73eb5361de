"""Property tests meet numba's first compilation, so they have no deadline; they draw the same examples every time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
import xxhash
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from gneiss.jobs.logs import LOGGER
from tests import runs
from tests.process_starts import ProcessStarts
from tests.seeded_share import SeededShare
from tests.warm_processes import WarmProcesses

if TYPE_CHECKING:
    from gneiss.output.finished_run import FinishedRun
    from tests.store.fake_hub import FakeHub
    from tests.store.faults import Proxy
    from tests.store.s3_server import S3Server

EXAMPLES = int(os.environ.get("GNEISS_EXAMPLES", "25"))  # a share; `make test-exhaustive` draws more
settings.register_profile("gneiss", deadline=None, max_examples=EXAMPLES, derandomize=True, database=None)
settings.load_profile("gneiss")
# Hypothesis also draws constants from the source of the modules that happen to be loaded, so that examples depend on
# which tests ran before. No setting turns this off.
patch.object(providers, "_get_local_constants", Constants).start()
# Else scikit-learn starts `lscpu` to count cores, once a process: in whichever test comes first.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Count process starts; run a share, where one is asked for."""
    config.pluginmanager.register(ProcessStarts())
    config.pluginmanager.register(SeededShare.from_environment(os.environ))


@pytest.hookimpl(trylast=True)  # after -m has deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest begin first, so that no core waits for the last: those with Ray, then by their tests."""
    seconds: dict[Path, float] = defaultdict(float)
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        seconds[item.path] += next((usual for name, usual in SECONDS.items() if name in marks), 0.05)
    with_ray = {item.path for item in items if "head" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (item.path not in with_ray, -seconds[item.path], item.path))


#: CPU-seconds that a test of a mark takes, on average; the first that holds counts.
SECONDS = {"processes": 2.0, "slow": 0.4}
#: What the corpus of the demo is harvested from, for time.
FEW = ("numba", "pydantic")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `gneiss demo` makes, of the documents of FEW packages: sample/, models/, demo.yaml and curated/.

    Made once, by the first worker that needs it; nothing may write into it.
    """
    from gneiss.demo.demo import Demo
    from gneiss.demo.sample import write_sample

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "made").exists():
            shutil.rmtree(shared / "demo", ignore_errors=True)
            with patch("gneiss.demo.demo.write_sample", partial(write_sample, requirements=FEW)):
                demo = Demo.in_empty(shared / "demo")
                demo.harvest()
                demo.write_recipe()
                demo.curate().check_budgets()
            (shared / "made").touch()
    return shared / "demo"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models are converted anew, and the cache of whoever runs the tests is left alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GNEISS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """What a test, a command or a page of the docs sets up for logs is taken back: its stderr is gone afterwards."""
    handlers, level = LOGGER.handlers[:], LOGGER.level
    yield
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> runs.Material:
    """A recipe, its model, and an input of 5 shards, 180 rows."""
    return runs.make_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="session")
def uninterrupted(material: runs.Material, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run over it in this process, 132 kept documents; every test that writes into its output takes a copy."""
    from gneiss.pipelines.run import run

    output = tmp_path_factory.mktemp("run") / "curated"
    return run(material.recipe, material.input, output, backend=runs.InThisProcess())


@pytest.fixture(scope="session")
def curated(uninterrupted: FinishedRun) -> Path:
    """Its output."""
    return uninterrupted.folder


@pytest.fixture(scope="session")
def released(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it with the layer `weights`."""
    from gneiss.layers.weights import write_weights

    folder = tmp_path_factory.mktemp("released") / "curated"
    shutil.copytree(curated, folder)
    write_weights(folder, beta=0.25, quality="prose", category="prose_label")
    return folder


@pytest.fixture(scope="session")
def warm(_warm_workers: WarmProcesses) -> WarmProcesses:
    """Starts processes as forks of one that has every module and kernel loaded."""
    return _warm_workers


@pytest.fixture(scope="session", autouse=True)
def _warm_workers() -> Iterator[WarmProcesses]:
    """The worker processes of local runs are such forks: each costs 50 ms of CPU time instead of more than a second."""
    processes = WarmProcesses()
    with patch("gneiss.backends.local.get_context", lambda _: processes):
        yield processes


@pytest.fixture
def spawned_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are started as those of a user are."""
    monkeypatch.setattr("gneiss.backends.local.get_context", get_context)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of an output, to write into."""

    def copy(output: Path) -> Path:
        target = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        return Path(shutil.copytree(output, target))

    return copy


@pytest.fixture
def third_party(_installed: Path) -> Iterator[Path]:
    """A folder into which a package of somebody else's is installed: tests/third_party. It is not imported yet."""
    yield _installed
    for name in [name for name in sys.modules if name.split(".")[0] == "shouting"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("project") / "shouting"  # building writes into it
    shutil.copytree(Path(__file__).parent / "third_party", project, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    subprocess.run([*pip, "--target", target, project], check=True)
    return target


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with a bucket, `gneiss`."""
    from tests.store.s3_server import running

    with running(tmp_path_factory.mktemp("s3")) as server:
        server.bucket("gneiss")
        yield server


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    """A proxy before it, which counts requests and can be made to fail."""
    from tests.store.faults import before

    with before(s3_server.ports["s3"]) as proxy:
        yield proxy


@pytest.fixture
def s3_folder(proxy: Proxy, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder there, as an address; the environment says how to reach it, by way of the proxy."""
    from tests.store.s3_server import environment

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    return f"s3://gneiss/{xxhash.xxh3_64_hexdigest(request.node.nodeid.encode())}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on the loopback interface, which the client of the hub is pointed to."""
    from tests.store.fake_hub import FakeHub, used

    with used(FakeHub(), monkeypatch) as fake:
        yield fake


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that code would have slept."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
